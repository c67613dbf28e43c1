"""Boundary maps as figures: the grid of church windows, and one large map."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.plots.cells import (
    BORDER,
    NO_PLANE,
    axes_lines,
    axes_or_new,
    cross_handle,
    draw_crosses,
    label_axes,
    marked_points,
    missing_note,
    outer_edges,
    pixel_size,
    place_legend,
    positions_of,
)
from boundarygeo.plots.style import NotebookFigure, class_labels, shown_colors, styled

LEGEND_CLASSES = 20
"""Longest useful legend: with more classes, the most frequent are named and the others counted."""

_HATCH = "0.7"


def map_grid(
    maps: BoundaryMaps,
    *,
    class_names: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    cells: Iterable[int] | None = None,
) -> Figure:
    """The grid of boundary maps as on Goodfellow's slides (CS231n lecture 16, 2017).

    One cell per example, row by row from the top left. White is the true class, every other class has its fixed colour
    in all cells and figures, a cross marks the example (or the images that span the plane), and planes that do not
    exist are hatched. Maps without true labels have no white.

    Args:
        maps: boundary maps.
        class_names: name of each class, for the legend.
        columns: number of cells in a row; by default as many as rows, or one more.
        title: title of the figure.
        cells: positions of the examples to draw, in this order; by default all.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there is nothing to draw, a position does not exist, `columns` is not positive or names
            are missing.
    """
    positions = positions_of(maps, cells)
    if columns is None:
        columns = math.ceil(math.sqrt(len(positions)))
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    columns = min(columns, len(positions))
    rows = math.ceil(len(positions) / columns)
    legend, legend_title = class_legend([maps], positions, class_names)

    pixel_u, pixel_v = pixel_size(maps)
    cell_rows, cell_cols = maps.labels.shape[1:]
    cell_width = float(np.clip(7 / columns, 0.35, 1.6))  # inches
    cell_height = cell_width * (cell_rows * pixel_v) / (cell_cols * pixel_u)
    width, height = columns * cell_width, rows * cell_height
    legend_columns = min(3, math.ceil((0.19 * len(legend) + 0.3) / max(height, 1.5)))  # 0.19 inches a line
    with styled():
        figure = NotebookFigure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        # Corner of each cell in pixels of the mosaic, whose first row is the lowest.
        place = np.arange(len(positions))
        left, bottom = place % columns * cell_cols, (rows - 1 - place // columns) * cell_rows
        mosaic = np.ones((rows, columns, cell_rows, cell_cols, 3), dtype=np.float32)
        mosaic[rows - 1 - place // columns, place % columns] = cell_images(
            maps, positions, colors_of([maps], positions)
        )
        mosaic = mosaic.swapaxes(1, 2).reshape(rows * cell_rows, columns * cell_cols, 3)
        axes.imshow(mosaic, origin="lower", interpolation="nearest", aspect=pixel_v / pixel_u)

        right, top = left + cell_cols, bottom + cell_rows
        corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top]]) - 0.5
        outlines = corners.transpose(2, 0, 1)
        valid = maps.valid.numpy()[positions]
        _hatch(axes, outlines[~valid], missing_note(maps), fontsize=min(8.0, 9 * cell_width))
        axes.add_collection(
            PolyCollection(list(outlines), facecolors="none", edgecolors=BORDER, linewidths=0.6, clip_on=False),
            autolim=False,
        )
        points = marked_points(maps, positions)
        x = left[:, None] + np.interp(points[..., 0], maps.u.numpy(), np.arange(cell_cols))
        y = bottom[:, None] + np.interp(points[..., 1], maps.v.numpy(), np.arange(cell_rows))
        draw_crosses(axes, x[valid], y[valid], size=float(np.clip(9 * cell_width, 3.5, 9)))

        axes.set_axis_off()
        place_legend(axes, legend, legend_title, ncols=legend_columns)
        characters = int(max(width, 5.5) / 0.068)  # inches that a character takes on average
        caption = "\n".join(textwrap.fill(line, characters) for line in axes_lines(maps))
        axes.text(0, -0.08 / height, caption, va="top", transform=axes.transAxes)
        if title is not None:
            axes.set_title(title)
        _enlarge_to_fit(figure, axes)
    return figure


def map_single(
    maps: BoundaryMaps, cell: int = 0, *, class_names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """One large boundary map, with axes in axis units and a legend.

    Args:
        maps: boundary maps.
        cell: position of the example.
        class_names: name of each class, for legend and title.
        ax: axes to draw on; by default new ones.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the position does not exist or names are missing.
    """
    positions = positions_of(maps, [cell])
    legend, legend_title = class_legend([maps], positions, class_names)
    with styled():
        axes = axes_or_new(ax, figsize=(6.4, 4.6))
        low_u, high_u, low_v, high_v = extent = outer_edges(maps)
        picture = cell_images(maps, positions, colors_of([maps], positions))[0]
        axes.imshow(picture, origin="lower", interpolation="nearest", extent=extent)
        if maps.valid[cell]:
            points = marked_points(maps, positions)
            draw_crosses(axes, points[..., 0], points[..., 1], size=11)
            place_legend(axes, legend, legend_title)
        else:
            outline = np.array([[(low_u, low_v), (high_u, low_v), (high_u, high_v), (low_u, high_v)]])
            _hatch(axes, outline, missing_note(maps), fontsize=10)
        label_axes(axes, maps)
        axes.set_title(_single_title(maps, cell, class_names))
    return axes


def _enlarge_to_fit(figure: Figure, axes: Axes) -> None:
    """Enlarge a figure filled by its axes to hold what surrounds them, keeping the size of the axes in inches."""
    box = figure.get_tightbbox().padded(0.08)
    width, height = figure.get_size_inches()
    axes.set_position((-box.x0 / box.width, -box.y0 / box.height, width / box.width, height / box.height))
    figure.set_size_inches(box.width, box.height)


def cell_images(maps: BoundaryMaps, positions: NDArray[np.intp], colors: NDArray[np.float64]) -> NDArray[np.float32]:
    """RGB of each cell `[cell, row, col, 3]`, in the colours of the classes `[class, 3]`."""
    labels = maps.labels.numpy()[positions]
    # The palette ends in grey and white, so that a single indexing colours everything.
    classes = len(colors)
    greys = np.array([[NO_PLANE] * 3, [1.0] * 3])
    palette = np.concatenate([colors, greys]).astype(np.float32)
    keys = labels.astype(np.intp)
    if maps.true_labels is not None:
        keys[labels == maps.true_labels.numpy()[positions][:, None, None]] = classes + 1
    keys[~maps.valid.numpy()[positions]] = classes
    return palette[keys]


def _hatch(axes: Axes, outlines: NDArray, note: str, *, fontsize: float) -> None:
    """Hatch the planes that do not exist `[plane, corner, 2]` and say why."""
    axes.add_collection(
        PolyCollection(list(outlines), facecolors="none", edgecolors=_HATCH, hatch="////", linewidths=0, zorder=1.5),
        autolim=False,
    )
    for x, y in outlines.mean(axis=1):
        background = {"facecolor": str(NO_PLANE), "edgecolor": "none", "pad": 1.0}
        lines = note.replace(" ", "\n")
        axes.text(x, y, lines, ha="center", va="center", fontsize=fontsize, linespacing=1.0, bbox=background)


def class_legend(
    several: Sequence[BoundaryMaps], positions: NDArray[np.intp], class_names: Sequence[str] | None
) -> tuple[list[Artist], str | None]:
    """Handles of the white class, the coloured classes and the cross; and the legend's title."""
    maps = several[0]
    handles: list[Artist] = []
    if maps.true_labels is not None:
        true = maps.true_labels.numpy()[positions]
        white = "white: true class"
        if len(positions) == 1:
            white += f", {class_labels(class_names, true)[int(true[0])]}"
        handles.append(Patch(facecolor="white", edgecolor=BORDER, label=white))
    counts = _pixels_in_color(several, positions)
    frequent = frequent_classes(counts)
    shown = class_labels(class_names, frequent)
    colors = colors_of(several, positions)
    handles += [Patch(facecolor=colors[number], edgecolor=BORDER, label=name) for number, name in shown.items()]
    handles.append(cross_handle(maps))
    appearing = np.count_nonzero(counts)
    more = appearing > len(frequent)
    return handles, f"{len(frequent)} most frequent of {appearing} classes" if more else None


def colors_of(several: Sequence[BoundaryMaps], positions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Colours of all classes in maps of the same planes; those named in the legend are distinct."""
    counts = _pixels_in_color(several, positions)
    return shown_colors(frequent_classes(counts), len(counts))


def frequent_classes(counts: NDArray[np.integer]) -> NDArray[np.intp]:
    """The classes named in a legend, in ascending order, from the number of pixels of each."""
    appearing = np.flatnonzero(counts)
    return np.sort(appearing[np.argsort(-counts[appearing], kind="stable")[:LEGEND_CLASSES]])


def _pixels_in_color(several: Sequence[BoundaryMaps], positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of pixels of each class outside the true class, up to the largest class."""
    counts = np.zeros(0, dtype=np.intp)
    for maps in several:
        labels = maps.labels.numpy()[positions]
        colored = np.broadcast_to(maps.valid.numpy()[positions, None, None], labels.shape)
        if maps.true_labels is not None:
            colored = colored & (labels != maps.true_labels.numpy()[positions, None, None])
        size = max(len(counts), int(labels.max()) + 1)
        counts = np.pad(counts, (0, size - len(counts))) + np.bincount(labels[colored], minlength=size)
    return counts


def _single_title(maps: BoundaryMaps, cell: int, class_names: Sequence[str] | None) -> str:
    example = f"example {int(maps.index[cell])}"
    if maps.true_labels is None:
        return example
    true, predicted = int(maps.true_labels[cell]), int(maps.center_labels[cell])
    if not maps.valid[cell]:
        return f"{example}: {class_labels(class_names, [true])[true]}"
    called = class_labels(class_names, [true, predicted])
    verdict = "correct" if true == predicted else f"predicted {called[predicted]}"
    return f"{example}: {called[true]}, {verdict}"
