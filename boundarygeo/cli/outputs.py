"""Where results and figures of a command go, checked before any work is done; and the tables that it prints."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from boundarygeo import plots
from boundarygeo.cli.options import StudyOptions
from boundarygeo.results import check_free


def named_stores(options: StudyOptions, **parts: Sequence[str]) -> list[Path]:
    """The stores that `--out` names, refused where several results would share one.

    Args:
        options: of the study; `{model}` in `--out` counts the models.
        **parts: further words in braces that `--out` understands, with what they may stand for, such as
            `attack=["fgsm", "pgd"]`.

    Returns:
        One store for each model and each choice of the parts, in this order, the last part fastest; or none.

    Raises:
        ValueError: if a word that stands for several things is missing.
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
    return stores


def check_figure(options: StudyOptions) -> None:
    """Refuse a `--figure` that exists or cannot be written.

    Args:
        options: of the study.

    Raises:
        ValueError: if the file exists, its format is unknown, or it is `--out`, too.
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
    check_free(figure, overwrite=options.overwrite)
    if figure == options.out:
        raise ValueError(f"--figure and --out must be different files, got {str(figure)!r} twice")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
