"""Where results and figures of a command go, checked before any work is done; and the tables that it prints."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from boundarygeo import plots
from boundarygeo.cli.options import StudyOptions
from boundarygeo.results.overwriting import check_free


def named_stores(options: StudyOptions, **parts: Sequence[str]) -> list[Path]:
    """The stores that `--out` names, refused where several results would share one.

    Args:
        options: of the study; `{model}` in `--out` counts the models.
        **parts: further words in braces that `--out` understands, with what they may stand for, such as
            `attack=["fgsm", "pgd"]`.

    Returns:
        One store for each model and each choice of the parts, in this order, the last part fastest; or none.

    Raises:
        ValueError: if a word that stands for several things is missing, or the command reads what is there.
    """
    if options.out is None:
        return []
    words = {"model": [str(number) for number in range(1, len(options.model) + 1)], **parts}
    template = str(options.out)
    for word, values in words.items():
        if len(values) > 1 and f"{{{word}}}" not in template:
            raise ValueError(
                f"--out must hold {{{word}}} for {len(values)} {word}s, e.g. result-{{{word}}}.zarr, got {template!r}"
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


def check_figure(options: StudyOptions) -> None:
    """Refuse a `--figure` that exists or cannot be written.

    Args:
        options: of the study.

    Raises:
        ValueError: if the file exists, its format is unknown, it is `--out`, too, or the command reads it.
    """
    if options.figure is not None:
        _check_figure(options.figure, options)


def check_figures(options: StudyOptions) -> list[Path]:
    """The figures that `--figure` names for a command that draws each model by itself; refused as by `check_figure`.

    Args:
        options: of the study.

    Returns:
        One file per model where `{model}`, which counts them, is in `--figure`; else one, for the first; or none.

    Raises:
        ValueError: as `check_figure`.
    """
    if options.figure is None:
        return []
    template = str(options.figure)
    count = len(options.model) if "{model}" in template else 1
    figures = [Path(template.replace("{model}", str(number))) for number in range(1, count + 1)]
    for figure in figures:
        _check_figure(figure, options)
    return figures


def _check_figure(figure: Path, options: StudyOptions) -> None:
    plots.check_figure_path(figure)
    _check_unread(figure, options, "--figure")
    check_free(figure, overwrite=options.overwrite, kind="figure")
    if options.out is not None and same_path(figure, options.out):
        raise ValueError(f"--figure and --out must be different files, got {str(figure)!r} twice")
    if any(same_path(parent, options.out) for parent in figure.absolute().parents if options.out is not None):
        raise ValueError(f"--figure must not be inside the store --out, got {str(figure)!r}")


def same_path(one: Path, other: Path) -> bool:
    """Whether two paths are one place, however they are written."""
    return one.resolve() == other.resolve()


def _check_unread(path: Path, options: StudyOptions, name: str) -> None:
    """Refuse to write over what the same command reads, even with `--overwrite`."""
    read = {"--model": options.model, "--weights": options.weights or [], "--data": [options.data]}
    for option, words in read.items():
        for word in map(str, words):
            place = word.partition(":")[2] if option == "--data" else word
            if place and same_path(path, Path(place)):
                raise ValueError(f"{name} must not be what {option} reads, got {str(path)!r}")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
