"""Study files: the models and data of several commands, listed once in TOML."""

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from boundarygeo.cli.words import did_you_mean, numbers, short_names


@dataclass(frozen=True)
class ModelEntry:
    """One model: the word of `--model`, and what is said about it, if anything."""

    model: str
    name: str = ""
    weights: Path | None = None
    classes: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    group: str = ""


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file; `settings` are values of the options of the same names."""

    file: Path
    models: tuple[ModelEntry, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The models, as words of `--model`."""
        return [entry.model for entry in self.models]


def read_study(file: Path) -> StudyFile:
    """A study file, with the paths in it relative to its folder; errors name the key."""
    called = f"--study {file}"
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{called} cannot be read as TOML: {error}") from error
    listed = content.pop("model", None)
    if not listed or not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError(f'{called} must list its models, each under [[model]] with a line model = "…"')
    settings = _checked(content, _SETTINGS, called)
    usual = {key: settings.pop(key) for key in ("mean", "std") if key in settings}
    folder = file.absolute().parent
    if "data" in settings:
        settings["data"] = _data_beside(folder, settings["data"])
    entries = []
    for number, each in enumerate(listed, 1):
        where = f"model {number} of {called}"
        said = usual | _checked(each, _MODEL, where)
        if "model" not in said:
            raise ValueError(f'{where} needs a line model = "…", as --model takes it')
        said["model"] = _model_beside(folder, said["model"])
        said |= {key: folder / Path(said[key]).expanduser() for key in ("weights", "classes") if key in said}
        said |= {key: numbers(said[key], f"{key} of {where}") for key in ("mean", "std") if key in said}
        entries.append(said)
    short = short_names([said["model"] for said in entries])
    models = tuple(ModelEntry(**({"name": name} | said)) for name, said in zip(short, entries, strict=True))
    names = [entry.name for entry in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{called} has {len(twice)} models called {twice[0]!r}: give each its own name")
    # Factories next to the file are found from anywhere, after those of the working directory.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return StudyFile(file, models, settings)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a text in quotes")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number")
    return value


def _numbers(value: Any) -> str:
    """Numbers, or their text, as an option takes them."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in values):
        raise TypeError('numbers, such as [0.5, 0.25] or "1/2,1/4"')
    return ",".join(map(str, values))


_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "data": _text,
    "examples": _whole,
    "seed": _whole,
    "size": _whole,
    "resize": _whole,
    "mean": _numbers,
    "std": _numbers,
    "bounds": _numbers,
}
_MODEL: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "model", "weights", "classes", "group"), _text),
    **dict.fromkeys(("mean", "std"), _numbers),
}


def _checked(table: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    """The values of a table, each of the kind of its key."""
    found = {}
    for key, value in table.items():
        if key not in kinds:
            known = did_you_mean(key, [*kinds, "model"]) or f", only {', '.join(kinds)}"
            raise ValueError(f"{where} has no key {key!r}{known}")
        try:
            found[key] = kinds[key](value)
        except TypeError as error:
            raise ValueError(f"{key} of {where} must be {error}, got {value!r}") from error
    return found


def _data_beside(folder: Path, word: str) -> str:
    kind, _, path = word.partition(":")
    return f"{kind}:{folder / Path(path).expanduser()}" if kind in ("folder", "npz") and path else word


def _model_beside(folder: Path, word: str) -> str:
    """A word of `--model` whose checkpoint, or folder of `hf:`, is looked for beside the file."""
    kind, colon, path = word.partition(":")
    if not colon:
        return str(folder / Path(word).expanduser())
    beside = folder / Path(path).expanduser()
    return f"hf:{beside}" if kind == "hf" and beside.is_dir() else word


def _take(context: typer.Context, file: Path | None) -> StudyFile | None:
    """Read the file, and make what it says the defaults of the other options, which win over it."""
    if file is None:
        return None
    study = read_study(file)
    context.default_map = {"model": study.words, "checkpoints": study.words, **study.settings}
    return study


StudyOption = Annotated[
    StudyFile | None,
    typer.Option(
        "--study",
        parser=Path,
        callback=_take,
        is_eager=True,
        metavar="FILE",
        help="TOML file that lists models and data, in place of the options or arguments that name them.",
    ),
]


def check_alone(study: StudyFile | None, words: list[str], option: str) -> None:
    """Raise if models are given besides those of the file."""
    if study is not None and words != study.words:
        raise ValueError(f"--study {study.file} lists the models: leave out {option}")
