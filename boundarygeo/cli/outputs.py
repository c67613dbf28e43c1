"""Where results and figures of a command go, checked before any work is done; and the tables that it prints."""

from collections.abc import Sequence
from pathlib import Path

from boundarygeo import plots
from boundarygeo.results import check_free


def check_outputs(out: Path | None, figure: Path | None, *, models: int, overwrite: bool) -> list[Path]:
    """Refuse files that exist or cannot be written in the format asked for.

    Args:
        out: `--out`; `{model}` in it counts the models.
        figure: `--figure`.
        models: number of models.
        overwrite: whether files may be replaced.

    Returns:
        One store per model, or none.

    Raises:
        ValueError: if a file exists, the figure's format is unknown, or several models share a store.
    """
    if out is not None and models > 1 and "{model}" not in str(out):
        raise ValueError(f"--out must hold {{model}} for {models} models, e.g. result-{{model}}.zarr, got {str(out)!r}")
    numbers = range(1, models + 1)
    stores = [] if out is None else [Path(str(out).replace("{model}", str(number))) for number in numbers]
    for store in stores:
        check_free(store, overwrite=overwrite)
    if figure is not None:
        plots.check_figure_path(figure)
        check_free(figure, overwrite=overwrite)
    return stores


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
