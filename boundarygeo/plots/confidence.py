"""Decision regions of a two-dimensional problem, shaded by confidence."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.plots.cells import BORDER, axes_or_new, place_legend
from boundarygeo.plots.style import class_labels, shown_colors, styled

_STRONGEST = 0.85
"""Strength of a class's colour at probability 1, so that points of full colour stay visible."""


def confidence(
    maps: BoundaryMaps,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    cell: int = 0,
    bounds: tuple[float, float] | None = None,
    axis_names: tuple[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A map whose classes fade to white as the probability of the predicted class falls to chance.

    The colour's strength runs from 0 at probability 1/C to full at 1, where C is the number of classes on the map or
    among the points; a black line is the boundary between classes. The figure is meant for two-dimensional problems,
    where the map is the input space (Verma et al. 2019, Fig. 1), but draws any plane through three points.

    Args:
        maps: maps of planes without true classes, from `boundary_maps(..., method="dense", keep=["probability"])`.
        x: points to draw, two coordinates each, `[example, *]`: map coordinates or, with `bounds`, inputs.
        y: their classes, int64 `[example]`.
        cell: position of the map.
        bounds: lowest and highest value of both inputs, if the map is a whole two-dimensional input space: the
            coordinates of its outermost pixels. Axes are then in input units, by default in those of the map.
        axis_names: labels of both axes; by default the map's, or "x₁" and "x₂" with `bounds`.
        class_names: name of each class, for the legend.
        ax: axes to draw on; by default those of a new pyplot figure.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the map has no probability at every pixel or has true classes, the position does not exist, or
            points and classes do not match.
    """
    if not isinstance(maps, BoundaryMaps):
        raise TypeError(f"maps must be a BoundaryMaps, got {type(maps).__name__}")
    if not 0 <= cell < len(maps.labels):
        raise ValueError(f"cell must be between 0 and {len(maps.labels) - 1}, got {cell}")
    if maps.true_labels is not None:
        raise ValueError("maps must be of planes without true classes: theirs hold the true class's probability")
    if maps.probability is None or bool(maps.probability[cell].isnan().any()):
        raise ValueError("maps must have a probability at every pixel: method='dense', keep=['probability']")
    if (x is None) != (y is None) or (x is not None and y is not None and x.flatten(1).shape != (len(y), 2)):
        raise ValueError("x and y must be points of two coordinates and one class for each")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}")
    labels = maps.labels[cell].numpy().astype(int)
    drawn = np.empty(0, dtype=int) if y is None else y.detach().cpu().numpy()
    appearing = np.unique(np.concatenate([labels.ravel(), drawn]))
    colors = shown_colors(appearing, int(appearing[-1]) + 1)
    chance = 1 / max(len(appearing), 2)
    strength = ((maps.probability[cell].numpy() - chance) / (1 - chance)).clip(0, 1)[..., None] * _STRONGEST
    columns, rows = maps.u.numpy(), maps.v.numpy()
    names = axis_names or tuple(f"{name}\n{maps.unit}" for name in maps.axis_names)
    if bounds is not None:
        columns, rows = (np.linspace(*bounds, len(axis)) for axis in (columns, rows))
        names = axis_names or ("x₁", "x₂")
    half_col, half_row = (columns[1] - columns[0]) / 2, (rows[1] - rows[0]) / 2
    extent = (columns[0] - half_col, columns[-1] + half_col, rows[0] - half_row, rows[-1] + half_row)
    with styled():
        axes = axes_or_new(ax, figsize=(6.0, 4.6))
        picture = 1 - strength * (1 - colors[labels])
        axes.imshow(picture, origin="lower", interpolation="nearest", extent=extent)
        for number in appearing[:-1]:  # the boundary of the last class is drawn by the others
            inside = (labels == number).astype(float)
            if inside.any() and not inside.all():
                axes.contour(columns, rows, inside, levels=[0.5], colors="black", linewidths=0.8)
        if x is not None:
            points = x.detach().cpu().flatten(1).numpy()
            axes.scatter(*points.T, s=14, c=colors[drawn], edgecolors="black", linewidths=0.5, zorder=3)
        axes.set(xlabel=names[0], ylabel=names[1], xlim=extent[:2], ylim=extent[2:])
        called = class_labels(class_names, appearing)
        handles = [Patch(facecolor=colors[number], edgecolor=BORDER, label=called[number]) for number in called]
        place_legend(axes, handles, f"white: probability {chance:.2g}\nfull colour: 1")
    return axes
