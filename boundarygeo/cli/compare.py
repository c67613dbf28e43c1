"""`boundarygeo compare`: checkpoints under every instrument, in one table grouped by training method."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import boundarygeo as bg
from boundarygeo.choices import INSTRUMENT_NAMES
from boundarygeo.cli.outputs import check_new, draw, table
from boundarygeo.cli.words import at_least, positive_number, read_class_names, short_names, some_of

if TYPE_CHECKING:
    from boundarygeo.comparison import Comparison
    from boundarygeo.training import Checkpoint
    from boundarygeo.zoo import Dataset

_NOT_THE_METHOD = ("method", "settings", "device")
"""Parts of a checkpoint's configuration that are shown elsewhere or do not matter."""


def compare(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT", help="Checkpoint written by `train`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table.csv, table.md and all results as Zarr stores; or a .csv file, the table."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for one figure per instrument.")] = None,
    data: Annotated[str | None, typer.Option(help="As in train; by default as recorded in the checkpoints.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file that names the checkpoints' outputs, one a line.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side, to which images of a folder are resized first.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Rows and columns after the crop.")] = None,
    examples: Annotated[int, typer.Option(help="Number of test examples, drawn by the seed.")] = 200,
    instruments: Annotated[
        str | None, typer.Option(help=f"Some of {','.join(INSTRUMENT_NAMES)}; by default all that apply.")
    ] = None,
    eps: Annotated[str | None, typer.Option(help="ε in L∞; by default 0.1 (one channel) or 8/255 (three).")] = None,
    radius: Annotated[str | None, typer.Option(help="ε of dimensions in L2; by default an FGSM step's length.")] = None,
    restarts: Annotated[int, typer.Option(help="Restarts of PGD-100.")] = 5,
    queries: Annotated[int, typer.Option(help="Forward passes per example of the Square attack.")] = 1000,
    few: Annotated[int, typer.Option(help="Examples for pieces, optimised frames and certified radii.")] = 20,
    max_dimension: Annotated[int | None, typer.Option(help="Largest dimension to look for.")] = None,
    frame: Annotated[bool, typer.Option("--frame", help="Dimensions by optimised frames, too.")] = False,
    pairs: Annotated[int, typer.Option(help="Pairs of examples of each kind for segments.")] = 500,
    smoothing: Annotated[str | None, typer.Option(help="σ of the noise for certified radii.")] = None,
    votes: Annotated[int, typer.Option(help="Noise vectors per certificate.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the examples and everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Compare checkpoints with every instrument: accuracy under attack, signs of masked gradients, geometry.

    Checkpoints that differ only in their seed share a row: mean ± standard deviation over the seeds. With --out, each
    instrument's result on each checkpoint is saved as it finishes, and re-running the command resumes.
    """
    for value, least, option in (
        (examples, 1, "--examples"),
        (seed, 0, "--seed"),
        (restarts, 1, "--restarts"),
        (queries, 1, "--queries"),
        (few, 1, "--few"),
        (max_dimension, 1, "--max-dimension"),
        (pairs, 1, "--pairs"),
        (votes, 1, "--votes"),
        (resize, 1, "--resize"),
        (size, 1, "--size"),
    ):
        at_least(value, least, option)
    sizes = {"--eps": eps, "--radius": radius, "--smoothing": smoothing}
    given = {option: None if text is None else positive_number(text, option) for option, text in sizes.items()}
    chosen = None if instruments is None else some_of(instruments, INSTRUMENT_NAMES, "--instruments")
    if out is not None and out == figures:
        raise ValueError(f"--out and --figures are the same folder, {out}")
    names = _names(checkpoints)
    class_names = () if classes is None else read_class_names(classes)

    from boundarygeo.cli.sources import draw_examples
    from boundarygeo.comparison import Settings, Subject, default_eps
    from boundarygeo.comparison import compare as measure
    from boundarygeo.comparison.compare import check_instruments
    from boundarygeo.comparison.journal import check_out
    from boundarygeo.training import load_checkpoint
    from boundarygeo.training.layers import hidden_layers

    loaded = [load_checkpoint(file) for file in checkpoints]
    described = [checkpoint for _, checkpoint in loaded]
    _check_alike(names, described)
    if class_names:
        described = _named(described, class_names)
        _check_alike(names, described)
    settings = Settings(
        eps=given["--eps"] or default_eps(described[0].input_shape[0]),
        radius=given["--radius"],
        restarts=restarts,
        queries=queries,
        few=few,
        max_dimension=max_dimension,
        frame=frame,
        pairs=pairs,
        sigma=given["--smoothing"],
        votes=votes,
    )
    subjects = [
        Subject(
            name=name,
            group=group,
            classifier=bg.Classifier(
                module, bounds=checkpoint.bounds, mean=checkpoint.mean, std=checkpoint.std, device=device
            ),
            seed=None if checkpoint.training is None else checkpoint.training.seed,
            family=checkpoint.architecture,
            standard=checkpoint.method == "standard",
            layers=hidden_layers(module),
        )
        for name, group, (module, checkpoint) in zip(names, group_names(described, names), loaded, strict=True)
    ]
    used = check_instruments(subjects, settings, chosen)
    drawings = {} if figures is None else {name: figures / f"{name}.png" for name in used}
    if out is not None:
        check_out(out, overwrite=overwrite)
    for file in drawings.values():
        check_new(file, "--figures", overwrite=overwrite, kind="figure")
    spec = _data_of(names, described) if data is None else data
    dataset = _load_data(spec, names, described, resize=resize, size=size)
    drawn = draw_examples(subjects[0].classifier, dataset, examples, correct_only=False, seed=seed)
    try:
        found = measure(
            subjects, drawn.x, drawn.y, settings=settings, instruments=used, seed=seed, index=drawn.index, out=out,
            overwrite=overwrite,
        )  # fmt: skip
    except KeyboardInterrupt:
        if out is not None:
            print(
                "boundarygeo: finished measurements are safe; re-running the command resumes from there",
                file=sys.stderr,
            )
        raise
    _print(found)
    if out is not None:
        print(f"saved {out}")
    for name, file in drawings.items():
        if found.quantities(name):
            draw(file, partial(bg.plots.measurements, found, name))


def group_names(checkpoints: "Sequence[Checkpoint]", names: Sequence[str]) -> list[str]:
    """Name of a group of checkpoints that differ only in their seed: architecture, method and its settings.

    It includes method settings other than the defaults, and whatever else distinguishes groups with the same name. A
    checkpoint without training information is its own group.
    """
    titles = [
        f"{checkpoint.architecture} {_method(checkpoint)}" if checkpoint.training is not None else name
        for checkpoint, name in zip(checkpoints, names, strict=True)
    ]
    settings = [_remaining(checkpoint) for checkpoint in checkpoints]
    groups = []
    for title, own in zip(titles, settings, strict=True):
        alike = [other for name, other in zip(titles, settings, strict=True) if name == title]
        keys = dict.fromkeys(key for other in alike for key in other)
        differing = [key for key in keys if len({repr(other.get(key)) for other in alike}) > 1]
        groups.append(", ".join([title, *(f"{key} {_plain(own.get(key))}" for key in differing)]))
    return groups


def _method(checkpoint: "Checkpoint") -> str:
    """The method, with settings other than the defaults."""
    from boundarygeo.training import METHODS
    from boundarygeo.training.method import settings_of

    method = checkpoint.method or "unknown method"
    given: Mapping[str, Any] = checkpoint.training.config.get("settings", {}) if checkpoint.training else {}
    usual = settings_of(METHODS[method]()) if method in METHODS else {}
    changed = [f"{key} {_plain(value)}" for key, value in given.items() if _plain(usual.get(key)) != _plain(value)]
    return f"{method} ({', '.join(changed)})" if changed else method


def _plain(value: Any) -> str:
    """A setting as text, the same for tuples and for JSON's lists."""
    return ",".join(_plain(part) for part in value) if isinstance(value, list | tuple) else str(value)


def _remaining(checkpoint: "Checkpoint") -> dict[str, Any]:
    config = {} if checkpoint.training is None else checkpoint.training.config
    return {key: value for key, value in config.items() if key not in _NOT_THE_METHOD} | {"data": checkpoint.data}


def _names(checkpoints: Sequence[Path]) -> list[str]:
    names = short_names([str(file) for file in checkpoints])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"checkpoint {twice!r} is given twice")
    return [name.replace("/", "_").replace("\\", "_") for name in names]


def _named(checkpoints: "Sequence[Checkpoint]", class_names: tuple[str, ...]) -> "list[Checkpoint]":
    """Give class names to checkpoints without any; if all have names, these replace them."""
    from boundarygeo.zoo.classes import are_numbers

    needy = [not one.class_names or are_numbers(one.class_names) for one in checkpoints]
    return [
        replace(one, class_names=class_names) if needs or not any(needy) else one
        for one, needs in zip(checkpoints, needy, strict=True)
    ]


def _check_alike(names: Sequence[str], checkpoints: "Sequence[Checkpoint]") -> None:
    from boundarygeo.zoo.classes import check_same_classes

    for what, values in (
        ("number of classes", [checkpoint.num_classes for checkpoint in checkpoints]),
        ("input shape", [list(checkpoint.input_shape) for checkpoint in checkpoints]),
        ("bounds", [checkpoint.bounds for checkpoint in checkpoints]),
    ):
        for name, value in zip(names, values, strict=True):
            if value != values[0]:
                raise ValueError(
                    f"checkpoints must have the same {what}, got {values[0]} ({names[0]}) and {value} ({name})"
                )
    pairs = zip(names, checkpoints, strict=True)
    check_same_classes({name: checkpoint.class_names for name, checkpoint in pairs if checkpoint.class_names})


def _data_of(names: Sequence[str], checkpoints: "Sequence[Checkpoint]") -> str:
    """The data that all checkpoints were trained on."""
    for name, checkpoint in zip(names, checkpoints, strict=True):
        if not checkpoint.data:
            raise ValueError(f"pass --data: checkpoint {name} does not record its data")
        if checkpoint.data != checkpoints[0].data:
            raise ValueError(
                f"pass --data: the checkpoints were trained on different data, {checkpoints[0].data} ({names[0]}) and "
                f"{checkpoint.data} ({name})"
            )
    return checkpoints[0].data


def _load_data(
    spec: str,
    names: Sequence[str],
    checkpoints: "Sequence[Checkpoint]",
    *,
    resize: int | None,
    size: int | None,
) -> "Dataset":
    """The data with the checkpoints' class numbers and names."""
    from boundarygeo.cli.sources import numbered_as
    from boundarygeo.zoo import load_data
    from boundarygeo.zoo.classes import match_classes

    dataset = load_data(
        spec, resize=resize, size=size, channels=checkpoints[0].input_shape[0] if spec.startswith("folder:") else None
    )
    if dataset.input_shape != checkpoints[0].input_shape:
        raise ValueError(
            f"--data must have the input shape of the checkpoints, {list(checkpoints[0].input_shape)}, "
            f"got {list(dataset.input_shape)}"
        )
    pairs = zip(names, checkpoints, strict=True)
    name, first = next((pair for pair in pairs if pair[1].class_names), (names[0], checkpoints[0]))
    try:
        return numbered_as(dataset, match_classes(dataset.class_names, first.class_names, first.num_classes))
    except ValueError as error:
        raise ValueError(f"classes of --data must be those of {name}: {error}") from error


def _print(found: "Comparison") -> None:
    from boundarygeo.comparison.tables import instrument_table, overview, remarks

    for instrument in found.instruments:
        notes = "\n".join(remarks(found, instrument))
        print(f"{instrument}\n{table(instrument_table(found, instrument))}\n{notes}\n")
    # Groups as columns, because there are more quantities than fit side by side.
    print(f"overview\n{table(list(zip(*overview(found), strict=True)))}")
    print(f"{found.forwards:,} forwards, {found.backwards:,} backwards, {found.seconds:.1f} s")
