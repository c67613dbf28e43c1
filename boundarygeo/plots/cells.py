"""Common elements of figures of boundary maps: coordinates, crosses at the examples, axis labels, legends."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from boundarygeo.maps.maps import BoundaryMaps

NO_PLANE = 0.92
"""Grey level of planes that do not exist."""

BORDER = "0.55"
"""Grey of the borders of cells and legend patches."""

_CROSS_OUTLINE = [patheffects.withStroke(linewidth=2.4, foreground="white")]  # visible on dark classes


def positions_of(maps: BoundaryMaps, cells: Iterable[int] | None) -> NDArray[np.intp]:
    """Positions of the cells to draw, by default all; raises if one does not exist."""
    if not isinstance(maps, BoundaryMaps):
        raise TypeError(f"maps must be a BoundaryMaps, got {type(maps).__name__}")
    count = len(maps.labels)
    positions = np.arange(count) if cells is None else np.asarray(list(cells))
    if not len(positions):
        raise ValueError("maps are empty: there is no cell to draw")
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"cells must be integers, got {positions.tolist()}")
    outside = positions[(positions < 0) | (positions >= count)]
    if len(outside):
        raise ValueError(f"cells must be between 0 and {count - 1}, got {outside[0]}")
    return positions.astype(np.intp)


def axes_or_new(ax: Axes | None, *, figsize: tuple[float, float]) -> Axes:
    """The given axes, or those of a new pyplot figure; texts are drawn literally, without TeX."""
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}")
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):  # created before `styled`
        text.set(parse_math=False, usetex=False)
    return ax


def pixel_size(maps: BoundaryMaps) -> tuple[float, float]:
    """Width and height of a pixel in axis units."""
    steps = [float(axis[-1] - axis[0]) / max(len(axis) - 1, 1) or 1.0 for axis in (maps.u, maps.v)]
    return steps[0], steps[1]


def outer_edges(maps: BoundaryMaps) -> tuple[float, float, float, float]:
    """Outer edges of the first and last pixels: left, right, bottom, top."""
    width, height = pixel_size(maps)
    return (
        float(maps.u[0]) - width / 2,
        float(maps.u[-1]) + width / 2,
        float(maps.v[0]) - height / 2,
        float(maps.v[-1]) + height / 2,
    )


def marked_points(maps: BoundaryMaps, positions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Coordinates `[cell, point, 2]` of the images that span each plane, or else of its origin; NaN outside the map."""
    points = np.zeros((len(positions), 1, 2)) if maps.anchors is None else maps.anchors.numpy()[positions]
    low_u, high_u, low_v, high_v = outer_edges(maps)
    inside = ((points >= [low_u, low_v]) & (points <= [high_u, high_v])).all(axis=-1, keepdims=True)
    return np.where(inside, points, np.nan)


def draw_crosses(axes: Axes, x: NDArray, y: NDArray, *, size: float) -> None:
    """Crosses that stay visible on every colour; `size` in points."""
    axes.scatter(x, y, s=size**2, marker="+", c="black", linewidths=1.0, path_effects=_CROSS_OUTLINE, zorder=3)


def missing_note(maps: BoundaryMaps) -> str:
    """Why a plane does not exist."""
    return "zero gradient" if maps.kind.startswith("fgsm") else "no plane"


def cross_handle(maps: BoundaryMaps) -> Line2D:
    """Legend entry of the crosses."""
    several = maps.anchors is not None and maps.anchors.shape[1] > 1
    label = "images" if several else "example"
    return Line2D([], [], color="black", marker="+", ls="none", ms=8, label=label)


def place_legend(
    axes: Axes, handles: Sequence[Artist], title: str | None, *, ncols: int = 1, handlelength: float = 1.4
) -> None:
    """A legend beside the axes, at the top right."""
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


def label_axes(axes: Axes, maps: BoundaryMaps) -> None:
    """Name both axes, with their unit."""
    axes.set_xlabel(f"{maps.axis_names[0]}\n{maps.unit}")
    axes.set_ylabel(f"{maps.axis_names[1]}\n{maps.unit}")


def axes_lines(maps: BoundaryMaps) -> tuple[str, str]:
    """Description of the axes of all cells, with range and unit."""
    names = f"x: {maps.axis_names[0]};  y: {maps.axis_names[1]}, same L2 length"
    ranges = [range_text(float(axis[0]), float(axis[-1])) for axis in (maps.u, maps.v)]
    if ranges[0] == ranges[1]:
        return names, f"both {ranges[0]}, in {maps.unit}"
    return names, f"x {ranges[0]}, y {ranges[1]}, in {maps.unit}"


def range_text(low: float, high: float) -> str:
    """A range of coordinates; values close to grey levels of 8-bit images are named.

    >>> range_text(-16 / 255, 16 / 255), range_text(-0.1, 0.1), range_text(0, 1.5)
    ('±0.0627 = 16/255', '±0.1', '0 to 1.5')
    """
    if not math.isclose(low, -high, rel_tol=1e-6):
        return f"{low:.3g} to {high:.3g}"
    text = f"±{high:.3g}"
    levels = round(high * 255)
    if not 0 < levels < 255 or abs(high * 255 - levels) > 0.1:
        return text
    return f"{text} {'=' if math.isclose(high, levels / 255, rel_tol=1e-6) else '≈'} {levels}/255"
