"""Outlines of the true class's region for several models on one plane."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.maps.regions import check_same_planes
from boundarygeo.plots.cells import (
    axes_lines,
    axes_or_new,
    cross_handle,
    draw_crosses,
    label_axes,
    marked_points,
    missing_note,
    outer_edges,
    place_legend,
    positions_of,
)
from boundarygeo.plots.comparison import LINE_STYLES
from boundarygeo.plots.style import NotebookFigure, class_labels, shown_colors, styled


def map_outlines(
    list_of_maps: Sequence[BoundaryMaps],
    cell: int = 0,
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Outline of the true class's region for several models on one plane (Liu et al. 2017, arXiv 1611.02770).

    Args:
        list_of_maps: maps of each model, all on the same planes.
        cell: position of the example.
        names: name of each model; by default "model 1" and so on.
        class_names: name of each class, for the title.
        ax: axes to draw on; by default new ones.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no maps, their planes or true labels differ or are missing, the plane does
            not exist, or the number of names is not that of the maps.
    """
    check_outlines(list_of_maps, names)
    check_cells(list_of_maps, [cell])
    first = list_of_maps[0]
    assert first.true_labels is not None  # checked above
    true = int(first.true_labels[cell])
    names = outline_names(names, len(list_of_maps))
    true_name = class_labels(class_names, [true])[true]
    with styled():
        axes = axes_or_new(ax, figsize=(6.8, 4.6))
        notes = draw_outlines(axes, list_of_maps, cell)
        handles = model_handles([name + note for name, note in zip(names, notes, strict=True)])
        handles.append(cross_handle(first))
        label_axes(axes, first)
        axes.set_title(f"example {int(first.index[cell])}: region of the true class, {true_name}")
        place_legend(axes, handles, None, handlelength=3.5)
    return axes


def outline_grid(
    list_of_maps: Sequence[BoundaryMaps],
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    cells: Iterable[int] | None = None,
    columns: int = 4,
) -> Figure:
    """Outlines of the true class's region for several models, one cell per example.

    Args:
        list_of_maps: maps of each model, all on the same planes.
        names: name of each model; by default "model 1" and so on.
        class_names: name of each class, for the cells' titles.
        cells: positions of the examples to draw; by default the first 12 whose plane exists.
        columns: number of cells in a row.

    Raises:
        TypeError: as `map_outlines`.
        ValueError: as `map_outlines`, or if `columns` is not positive.
    """
    if columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    check_outlines(list_of_maps, names)
    first = list_of_maps[0]
    chosen = first.valid.nonzero()[:12, 0].tolist() if cells is None else positions_of(first, cells).tolist()
    check_cells(list_of_maps, chosen)
    assert first.true_labels is not None
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    with styled():
        figure = NotebookFigure(figsize=(2.3 * columns + 2.0, 2.5 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(chosen) :]:
            axes.set_axis_off()
        for axes, cell in zip(grid.flat, chosen, strict=False):
            draw_outlines(axes, list_of_maps, cell)
            axes.set(xticks=[], yticks=[])
            true = int(first.true_labels[cell])
            axes.set_title(class_labels(class_names, [true])[true])
        handles = [*model_handles(outline_names(names, len(list_of_maps))), cross_handle(first)]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, handlelength=3.5)
        figure.supxlabel("\n".join(axes_lines(first)), fontsize="medium", x=0.01, ha="left")
    return figure


def check_outlines(list_of_maps: Sequence[BoundaryMaps], names: Sequence[str] | None) -> None:
    """Check a list of maps with true labels on the same planes, with one name per map."""
    if isinstance(list_of_maps, BoundaryMaps) or not isinstance(list_of_maps, Sequence):
        raise TypeError(f"list_of_maps must be a list of BoundaryMaps, got {type(list_of_maps).__name__}")
    if not list_of_maps:
        raise ValueError("list_of_maps must have at least one entry, got none")
    first = list_of_maps[0]
    for maps in list_of_maps:
        check_same_planes(first, maps)
        if maps.true_labels is None or first.true_labels is None:
            raise ValueError("maps must have true labels")
    if names is not None and len(names) != len(list_of_maps):
        raise ValueError(f"names must have {len(list_of_maps)} entries, one per model, got {len(names)}")


def check_cells(list_of_maps: Sequence[BoundaryMaps], cells: Sequence[int]) -> None:
    """Raise if cells do not exist in all maps, or their true labels differ."""
    first = list_of_maps[0]
    for cell in positions_of(first, cells).tolist():
        for maps in list_of_maps:
            assert maps.true_labels is not None
            assert first.true_labels is not None
            if maps.true_labels[cell] != first.true_labels[cell]:
                raise ValueError(
                    f"maps must have the same true labels, got {int(first.true_labels[cell])} and "
                    f"{int(maps.true_labels[cell])} in cell {cell}"
                )
            if not maps.valid[cell]:
                raise ValueError(f"the plane of cell {cell} does not exist: {missing_note(maps)}")


def outline_names(names: Sequence[str] | None, count: int) -> Sequence[str]:
    """Names of the models in figures."""
    return [f"model {number}" for number in range(1, count + 1)] if names is None else names


def _look(number: int, count: int) -> tuple[tuple[float, float, float], Any, float]:
    """Colour, style and width of a model's line, chosen so that coinciding outlines stay visible."""
    width = float(np.linspace(2.8, 1.4, count)[number])
    red, green, blue = shown_colors(range(count), count)[number].tolist()
    return (red, green, blue), LINE_STYLES[number % len(LINE_STYLES)], width


def model_handles(labels: Sequence[str]) -> list[Artist]:
    """Legend entries of the models' outlines."""
    handles: list[Artist] = []
    for number, label in enumerate(labels):
        color, style, width = _look(number, len(labels))
        handles.append(Line2D([], [], label=label, color=color, linestyle=style, linewidth=width))
    return handles


def draw_outlines(axes: Axes, list_of_maps: Sequence[BoundaryMaps], cell: int) -> list[str]:
    """Outlines of one example's class for all models; returns additions to each legend entry."""
    first = list_of_maps[0]
    assert first.true_labels is not None  # checked by the callers
    true = int(first.true_labels[cell])
    notes = []
    for number, maps in enumerate(list_of_maps):
        region = maps.labels[cell].numpy() == true
        if region.all() or not region.any():
            notes.append(" (everywhere)" if region.all() else " (nowhere)")
            continue
        color, style, width = _look(number, len(list_of_maps))
        axes.contour(
            maps.u.numpy(),
            maps.v.numpy(),
            region.astype(float),
            levels=[0.5],
            colors=[color],
            linestyles=[style],
            linewidths=[width],
        )
        notes.append("" if int(maps.center_labels[cell]) == true else " (wrong at the example)")
    points = marked_points(first, np.array([cell]))
    draw_crosses(axes, points[..., 0], points[..., 1], size=11)
    low_u, high_u, low_v, high_v = outer_edges(first)
    axes.set(xlim=(low_u, high_u), ylim=(low_v, high_v), aspect="equal")
    return notes
