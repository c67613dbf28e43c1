"""Output paths of a command, checked before any work; and the tables that it prints."""

from collections.abc import Callable, Sequence
from glob import escape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import boundarygeo as bg
from boundarygeo.choices import FIGURE_SUFFIXES
from boundarygeo.cli.options import RunOptions, StudyOptions
from boundarygeo.results.overwriting import Kind, check_free, foreign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def check_new(path: Path, option: str, *, overwrite: bool, kind: Kind) -> None:
    """Raise if a path exists or cannot be written."""
    if path.name and path.exists() and not overwrite and foreign(path, kind) is None:
        raise ValueError(f"{path} already exists: pass --overwrite to replace it, or another {option}")
    check_free(path, overwrite=overwrite, kind=kind)


def named_stores(options: StudyOptions, *, each_model: bool = True, **parts: Sequence[str]) -> list[Path]:
    """The stores named by `--out`, with {model} and the names of `parts` filled in; raises if several would be one."""
    if options.out is None:
        return []
    words = {"model": [str(number + 1) for number in range(len(options.model) if each_model else 1)], **parts}
    template = str(options.out)
    for word, values in words.items():
        if len(values) > 1 and f"{{{word}}}" not in template:
            raise ValueError(
                f"{len(values)} {word}s need a store each: put {{{word}}} into --out, e.g. result-{{{word}}}.zarr"
            )
    stores = []
    for choice in product(*words.values()):
        path = template
        for word, value in zip(words, choice, strict=True):
            path = path.replace(f"{{{word}}}", value)
        stores.append(Path(path))
    for store in stores:
        _check_unread(store, options, "--out")
    return stores


def resumable_stores(options: RunOptions, *, each_model: bool = True, **parts: Sequence[str]) -> list[Path]:
    """The stores named by `--out`; raises if one exists, unless it is a run that can resume."""
    stores = named_stores(options, each_model=each_model, **parts)
    for store in stores:
        if options.overwrite or not _is_run(store):
            check_new(store, "--out", overwrite=options.overwrite, kind="store")
    return stores


def _is_run(store: Path) -> bool:
    """Whether a run has started to write a store."""
    if not has_folder(store):
        return False
    from boundarygeo.runs import is_run  # slow to import

    return is_run(store)


def has_folder(store: Path) -> bool:
    """Whether there is a folder for a store, which has a suffix while it is unfinished."""
    return bool(store.name) and any(path.is_dir() for path in store.absolute().parent.glob(f"{escape(store.name)}*"))


def check_figure(
    options: StudyOptions, figure: Path | None, option: str = "--figure", *, beside: Sequence[Path] = ()
) -> None:
    """Raise if a figure exists or cannot be written."""
    if figure is None:
        return
    if figure.suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(f"{option} must end in {', '.join(FIGURE_SUFFIXES)}: {str(figure)!r} does not")
    _check_unread(figure, options, option)
    check_new(figure, option, overwrite=options.overwrite, kind="figure")
    if any(_same(figure, other) for other in beside):
        raise ValueError(f"--figure and {option} are the same file, {figure}")
    if options.out is not None and _same(figure, options.out):
        raise ValueError(f"{option} and --out are the same file, {figure}")
    if any(_same(parent, options.out) for parent in figure.absolute().parents if options.out is not None):
        raise ValueError(f"{option} must not be inside the store --out: {figure} is")


def check_figures(options: StudyOptions) -> list[Path]:
    """The figures named by `--figure` for a command that draws each model separately, checked by `check_figure`."""
    if options.figure is None:
        return []
    template = str(options.figure)
    count = len(options.model) if "{model}" in template else 1
    figures = [Path(template.replace("{model}", str(number))) for number in range(1, count + 1)]
    for figure in figures:
        check_figure(options, figure)
    return figures


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are the same place."""
    return one.resolve() == other.resolve()


def _check_unread(path: Path, options: StudyOptions, name: str) -> None:
    """Raise if an output would overwrite an input of the same command, even with `--overwrite`."""
    said = options.entries
    read = {
        "--model": [entry.model.removeprefix("hf:") for entry in said],
        "--weights": [*(options.weights or []), *(entry.weights for entry in said if entry.weights)],
        "--data": [options.data.partition(":")[2]],
        "--study": [options.study.file] if options.study else [],
    }
    for option, places in read.items():
        for place in map(str, places):
            if place and _same(path, Path(place)):
                raise ValueError(f"{name} would overwrite {path}, which {option} reads")


def draw(path: Path | None, make: Callable[[], "Axes | Figure"]) -> None:
    """Make a figure and save it, if a file is given."""
    if path is not None:
        print(f"saved {bg.plots.save_figure(make(), path)}")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def cost(*parts: "bg.Provenance") -> str:
    """Total cost of results, in one line."""
    forwards, backwards = sum(part.forwards for part in parts), sum(part.backwards for part in parts)
    return f"{forwards:,} forwards, {backwards:,} backwards, {sum(part.seconds for part in parts):.1f} s"
