"""Boundary maps as figures: the grid of church windows, one large map, the outlines of several models."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from boundarygeo.plots.style import STYLE, NotebookFigure, class_colors, class_labels
from boundarygeo.sections.maps import BoundaryMaps
from boundarygeo.sections.regions import check_same_planes

LEGEND_CLASSES = 20
"""A longer legend helps nobody: beyond, the most frequent classes are named and the rest counted."""

_NO_PLANE = 0.92  # grey level of planes that do not exist
_HATCH = "0.7"
_BORDER = "0.55"
_CROSS_OUTLINE = [patheffects.withStroke(linewidth=2.4, foreground="white")]  # visible on dark classes
_LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def map_grid(
    maps: BoundaryMaps,
    *,
    class_names: Sequence[str] | None = None,
    columns: int | None = None,
    title: str | None = None,
    cells: Iterable[int] | None = None,
) -> Figure:
    """The grid of boundary maps as on Goodfellow's slides (CS231n lecture 16, 2017).

    One cell per example, row by row from the top left. White is the true class, every other class has its one
    colour in all cells and figures, a cross marks the example (or the images that span the plane), and planes
    that do not exist are hatched. Maps without true labels have no white.

    Args:
        maps: boundary maps.
        class_names: name of each class, for the legend.
        columns: number of cells in a row; by default as many as rows, or one more.
        title: title of the figure.
        cells: positions of the examples to draw, in this order; by default all.

    Returns:
        The figure. Notebooks show it where it is a cell's value; pyplot does not know it, so that it needs no
        closing. `save_figure` writes it to a file.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there is nothing to draw, a position does not exist, `columns` is not positive or names
            are missing.
    """
    positions = _positions(maps, cells)
    if columns is None:
        columns = math.ceil(math.sqrt(len(positions)))
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    columns = min(columns, len(positions))
    rows = math.ceil(len(positions) / columns)
    legend, legend_title = _legend(maps, positions, class_names)

    pixel_u, pixel_v = _pixel(maps)
    cell_rows, cell_cols = maps.labels.shape[1:]
    cell_width = float(np.clip(7 / columns, 0.35, 1.6))  # inches
    cell_height = cell_width * (cell_rows * pixel_v) / (cell_cols * pixel_u)
    width, height = columns * cell_width, rows * cell_height
    legend_columns = min(3, math.ceil((0.19 * len(legend) + 0.3) / max(height, 1.5)))  # 0.19 inches a line
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        # Corner of each cell in pixels of the mosaic, whose first row is the lowest.
        place = np.arange(len(positions))
        left, bottom = place % columns * cell_cols, (rows - 1 - place // columns) * cell_rows
        mosaic = np.ones((rows, columns, cell_rows, cell_cols, 3), dtype=np.float32)
        mosaic[rows - 1 - place // columns, place % columns] = _cell_images(maps, positions)
        mosaic = mosaic.swapaxes(1, 2).reshape(rows * cell_rows, columns * cell_cols, 3)
        axes.imshow(mosaic, origin="lower", interpolation="nearest", aspect=pixel_v / pixel_u)

        right, top = left + cell_cols, bottom + cell_rows
        corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top]]) - 0.5
        outlines = corners.transpose(2, 0, 1)
        valid = maps.valid.numpy()[positions]
        _hatch(axes, outlines[~valid], _missing_note(maps), fontsize=min(8.0, 9 * cell_width))
        axes.add_collection(
            PolyCollection(list(outlines), facecolors="none", edgecolors=_BORDER, linewidths=0.6, clip_on=False),
            autolim=False,
        )
        points = _marked_points(maps, positions)
        x = left[:, None] + np.interp(points[..., 0], maps.u.numpy(), np.arange(cell_cols))
        y = bottom[:, None] + np.interp(points[..., 1], maps.v.numpy(), np.arange(cell_rows))
        _crosses(axes, x[valid], y[valid], size=float(np.clip(9 * cell_width, 3.5, 9)))

        axes.set_axis_off()
        _place_legend(axes, legend, legend_title, ncols=legend_columns)
        characters = int(max(width, 5.5) / 0.068)  # inches that a character takes on average
        caption = "\n".join(textwrap.fill(line, characters) for line in _axes_lines(maps))
        axes.text(0, -0.08 / height, caption, va="top", transform=axes.transAxes)
        if title is not None:
            axes.set_title(title)
        _enlarge_to_fit(figure, axes)
    return figure


def map_single(
    maps: BoundaryMaps, cell: int = 0, *, class_names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """One boundary map, large, with axes in axis units and a legend.

    Args:
        maps: boundary maps.
        cell: position of the example.
        class_names: name of each class, for legend and title.
        ax: axes to draw on; by default those of a new pyplot figure.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the position does not exist or names are missing.
    """
    positions = _positions(maps, [cell])
    legend, legend_title = _legend(maps, positions, class_names)
    with mpl.rc_context(STYLE):
        axes = _axes(ax, figsize=(6.4, 4.6))
        low_u, high_u, low_v, high_v = extent = _extent(maps)
        axes.imshow(_cell_images(maps, positions)[0], origin="lower", interpolation="nearest", extent=extent)
        if maps.valid[cell]:
            points = _marked_points(maps, positions)
            _crosses(axes, points[..., 0], points[..., 1], size=11)
            _place_legend(axes, legend, legend_title)
        else:
            outline = np.array([[(low_u, low_v), (high_u, low_v), (high_u, high_v), (low_u, high_v)]])
            _hatch(axes, outline, _missing_note(maps), fontsize=10)
        _label_axes(axes, maps)
        axes.set_title(_single_title(maps, cell, class_names))
    return axes


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
        ax: axes to draw on; by default those of a new pyplot figure.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no maps, their planes or true labels differ or are missing, the plane does
            not exist, or the number of names is not that of the maps.
    """
    _check_outlines(list_of_maps, cell, names)
    first = list_of_maps[0]
    assert first.true_labels is not None  # checked above
    true = int(first.true_labels[cell])
    if names is None:
        names = [f"model {number}" for number in range(1, len(list_of_maps) + 1)]
    true_name = class_labels(class_names, [true])[true]
    colors = class_colors(len(list_of_maps))
    widths = np.linspace(2.8, 1.4, len(list_of_maps))  # of outlines that coincide, the first stays visible
    with mpl.rc_context(STYLE):
        axes = _axes(ax, figsize=(6.8, 4.6))
        handles: list[Artist] = []
        for number, (maps, name) in enumerate(zip(list_of_maps, names, strict=True)):
            region = maps.labels[cell].numpy() == true
            style = _LINE_STYLES[number % len(_LINE_STYLES)]
            note = ""
            if region.all() or not region.any():
                note = " (everywhere)" if region.all() else " (nowhere)"
            else:
                axes.contour(
                    maps.u.numpy(),
                    maps.v.numpy(),
                    region.astype(float),
                    levels=[0.5],
                    colors=[colors[number]],
                    linestyles=[style],
                    linewidths=[widths[number]],
                )
                if int(maps.center_labels[cell]) != true:
                    note = " (wrong at the example)"
            handles.append(Line2D([], [], color=colors[number], ls=style, lw=widths[number], label=name + note))
        points = _marked_points(first, np.array([cell]))
        _crosses(axes, points[..., 0], points[..., 1], size=11)
        handles.append(_cross_handle(first))
        low_u, high_u, low_v, high_v = _extent(first)
        axes.set(xlim=(low_u, high_u), ylim=(low_v, high_v), aspect="equal")
        _label_axes(axes, first)
        axes.set_title(f"example {int(first.index[cell])}: region of the true class, {true_name}")
        _place_legend(axes, handles, None, handlelength=3.5)
    return axes


def _positions(maps: BoundaryMaps, cells: Iterable[int] | None) -> NDArray[np.intp]:
    if not isinstance(maps, BoundaryMaps):
        raise TypeError(f"maps must be a BoundaryMaps, got {type(maps).__name__}")
    count = len(maps.labels)
    positions = np.arange(count) if cells is None else np.asarray(list(cells))
    if not len(positions):
        raise ValueError("maps must have at least one cell to draw, got none")
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"cells must be integers, got {positions.tolist()}")
    outside = positions[(positions < 0) | (positions >= count)]
    if len(outside):
        raise ValueError(f"cells must be between 0 and {count - 1}, got {outside[0]}")
    return positions.astype(np.intp)


def _check_outlines(list_of_maps: Sequence[BoundaryMaps], cell: int, names: Sequence[str] | None) -> None:
    if isinstance(list_of_maps, BoundaryMaps) or not isinstance(list_of_maps, Sequence):
        raise TypeError(f"list_of_maps must be a list of BoundaryMaps, got {type(list_of_maps).__name__}")
    if not list_of_maps:
        raise ValueError("list_of_maps must have at least one entry, got none")
    first = list_of_maps[0]
    _positions(first, [cell])
    for maps in list_of_maps:
        check_same_planes(first, maps)
        if maps.true_labels is None or first.true_labels is None:
            raise ValueError("maps must have true labels, got planes without")
        if maps.true_labels[cell] != first.true_labels[cell]:
            raise ValueError(
                f"maps must have the same true labels, got {int(first.true_labels[cell])} and "
                f"{int(maps.true_labels[cell])} in cell {cell}"
            )
        if not maps.valid[cell]:
            raise ValueError(f"cell must be of a plane that exists, got {cell}: {_missing_note(maps)}")
    if names is not None and len(names) != len(list_of_maps):
        raise ValueError(f"names must have {len(list_of_maps)} entries, one per model, got {len(names)}")


def _axes(ax: Axes | None, *, figsize: tuple[float, float]) -> Axes:
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}")
    return ax


def _pixel(maps: BoundaryMaps) -> tuple[float, float]:
    """Width and height of a pixel in axis units."""
    steps = [float(axis[-1] - axis[0]) / max(len(axis) - 1, 1) or 1.0 for axis in (maps.u, maps.v)]
    return steps[0], steps[1]


def _extent(maps: BoundaryMaps) -> tuple[float, float, float, float]:
    """Outer edges of the first and last pixels: left, right, bottom, top."""
    width, height = _pixel(maps)
    return (
        float(maps.u[0]) - width / 2,
        float(maps.u[-1]) + width / 2,
        float(maps.v[0]) - height / 2,
        float(maps.v[-1]) + height / 2,
    )


def _enlarge_to_fit(figure: Figure, axes: Axes) -> None:
    """Enlarge a figure that its axes fill to hold what lies around these, whose size in inches stays."""
    box = figure.get_tightbbox().padded(0.08)
    width, height = figure.get_size_inches()
    axes.set_position((-box.x0 / box.width, -box.y0 / box.height, width / box.width, height / box.height))
    figure.set_size_inches(box.width, box.height)


def _cell_images(maps: BoundaryMaps, positions: NDArray[np.intp]) -> NDArray[np.float32]:
    """RGB of each cell `[cell, row, col, 3]`."""
    labels = maps.labels.numpy()[positions]
    # A palette that ends in grey and white: one indexing colours everything.
    classes = max(int(labels.max()), 0) + 1
    greys = np.array([[_NO_PLANE] * 3, [1.0] * 3])
    palette = np.concatenate([class_colors(classes), greys]).astype(np.float32)
    keys = labels.astype(np.intp)
    if maps.true_labels is not None:
        keys[labels == maps.true_labels.numpy()[positions][:, None, None]] = classes + 1
    keys[~maps.valid.numpy()[positions]] = classes
    return palette[keys]


def _marked_points(maps: BoundaryMaps, positions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Coordinates `[cell, point, 2]` of the images that span each plane; without these, its origin.

    Those outside the map are NaN, which matplotlib leaves out.
    """
    points = np.zeros((len(positions), 1, 2)) if maps.anchors is None else maps.anchors.numpy()[positions]
    low_u, high_u, low_v, high_v = _extent(maps)
    inside = ((points >= [low_u, low_v]) & (points <= [high_u, high_v])).all(axis=-1, keepdims=True)
    return np.where(inside, points, np.nan)


def _crosses(axes: Axes, x: NDArray, y: NDArray, *, size: float) -> None:
    axes.scatter(x, y, s=size**2, marker="+", c="black", linewidths=1.0, path_effects=_CROSS_OUTLINE, zorder=3)


def _hatch(axes: Axes, outlines: NDArray, note: str, *, fontsize: float) -> None:
    """Hatch the planes that do not exist `[plane, corner, 2]` and say why."""
    axes.add_collection(
        PolyCollection(list(outlines), facecolors="none", edgecolors=_HATCH, hatch="////", linewidths=0, zorder=1.5),
        autolim=False,
    )
    for x, y in outlines.mean(axis=1):
        background = {"facecolor": str(_NO_PLANE), "edgecolor": "none", "pad": 1.0}
        lines = note.replace(" ", "\n")
        axes.text(x, y, lines, ha="center", va="center", fontsize=fontsize, linespacing=1.0, bbox=background)


def _missing_note(maps: BoundaryMaps) -> str:
    return "zero gradient" if maps.kind.startswith("fgsm") else "no plane"


def _legend(
    maps: BoundaryMaps, positions: NDArray[np.intp], class_names: Sequence[str] | None
) -> tuple[list[Artist], str | None]:
    """Handles of the white class, the classes that appear in colour and the cross; and the legend's title."""
    labels = maps.labels.numpy()[positions]
    colored = np.broadcast_to(maps.valid.numpy()[positions][:, None, None], labels.shape)
    handles: list[Artist] = []
    if maps.true_labels is not None:
        true = maps.true_labels.numpy()[positions]
        colored = colored & (labels != true[:, None, None])
        white = "white: true class"
        if len(positions) == 1:
            white += f", {class_labels(class_names, true)[int(true[0])]}"
        handles.append(Patch(facecolor="white", edgecolor=_BORDER, label=white))
    counts = np.bincount(labels[colored])
    appearing = np.flatnonzero(counts)
    frequent = np.sort(appearing[np.argsort(-counts[appearing], kind="stable")[:LEGEND_CLASSES]])
    shown = class_labels(class_names, frequent)
    colors = class_colors(len(counts))
    handles += [Patch(facecolor=colors[number], edgecolor=_BORDER, label=name) for number, name in shown.items()]
    handles.append(_cross_handle(maps))
    more = len(appearing) > len(frequent)
    return handles, f"{len(frequent)} most frequent of {len(appearing)} classes" if more else None


def _cross_handle(maps: BoundaryMaps) -> Line2D:
    several = maps.anchors is not None and maps.anchors.shape[1] > 1
    label = "images" if several else "example"
    return Line2D([], [], color="black", marker="+", ls="none", ms=8, label=label)


def _place_legend(
    axes: Axes, handles: Sequence[Artist], title: str | None, *, ncols: int = 1, handlelength: float = 1.4
) -> None:
    axes.legend(
        handles=handles,
        title=title,
        ncols=ncols,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        alignment="left",
        handlelength=handlelength,
        handleheight=1.0,
    )


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


def _label_axes(axes: Axes, maps: BoundaryMaps) -> None:
    axes.set_xlabel(f"{maps.axis_names[0]}\n{maps.unit}")
    axes.set_ylabel(f"{maps.axis_names[1]}\n{maps.unit}")


def _axes_lines(maps: BoundaryMaps) -> tuple[str, str]:
    """What the axes of all cells are, and their range and unit."""
    names = f"x: {maps.axis_names[0]};  y: {maps.axis_names[1]}, same L2 length"
    ranges = [_range_text(float(axis[0]), float(axis[-1])) for axis in (maps.u, maps.v)]
    if ranges[0] == ranges[1]:
        return names, f"both {ranges[0]}, in {maps.unit}"
    return names, f"x {ranges[0]}, y {ranges[1]}, in {maps.unit}"


def _range_text(low: float, high: float) -> str:
    """A range of coordinates; grey levels of 8-bit images are named where it is close to them.

    >>> _range_text(-16 / 255, 16 / 255), _range_text(-0.1, 0.1), _range_text(0, 1.5)
    ('±0.0627 = 16/255', '±0.1', '0 to 1.5')
    """
    if not math.isclose(low, -high, rel_tol=1e-6):
        return f"{low:.3g} to {high:.3g}"
    text = f"±{high:.3g}"
    levels = round(high * 255)
    if not 0 < levels < 255 or abs(high * 255 - levels) > 0.1:
        return text
    return f"{text} {'=' if math.isclose(high, levels / 255, rel_tol=1e-6) else '≈'} {levels}/255"
