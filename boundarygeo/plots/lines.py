"""Logits along lines as figures: curves against ε over a strip of the inputs themselves."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from boundarygeo.plots.style import NotebookFigure, class_colors, class_labels, few_ticks, styled
from boundarygeo.sections.lines import LogitLines

_CORRECT = "#f2c200"  # the yellow box round inputs that are still classified correctly
MOST_CURVES = 20
"""Beyond so many classes only those whose logit is largest somewhere, and the true one, are drawn."""

WIDTH, TRUE_WIDTH = 1.3, 2.6
"""Widths of the curves in points: of the others, and of the true class."""


def lines(
    result: LogitLines,
    *,
    cells: Iterable[int] | None = None,
    class_names: Sequence[str] | None = None,
    thumbnails: int = 9,
    columns: int = 3,
    probabilities: bool = False,
) -> Figure:
    """All classes' logits against ε, over a strip of the inputs (Goodfellow et al. 2015, arXiv 1412.6572, Fig. 4).

    The true class is drawn thick and black, every other class in its one colour of all figures. Below the curves stand
    the inputs along the line, those still classified correctly in a yellow box; inputs that are not images have none.

    Args:
        result: logits along lines.
        cells: positions of the examples to draw; by default the first.
        class_names: name of each class, for the legend.
        thumbnails: number of inputs in the strip.
        columns: number of examples in a row.
        probabilities: whether to draw the softmax and not the logits.

    Returns:
        The figure, unknown to pyplot.

    Raises:
        TypeError: if `result` is not a `LogitLines`.
        ValueError: if a position does not exist, or `columns` or `thumbnails` is not positive.
    """
    if not isinstance(result, LogitLines):
        raise TypeError(f"result must be LogitLines, got {type(result).__name__}")
    chosen = [0] if cells is None else [int(cell) for cell in cells]
    count = len(result.logits)
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise ValueError(f"cells must be positions from 0 to {count - 1}, got {chosen}")
    if columns < 1 or thumbnails < 1:
        raise ValueError(f"columns and thumbnails must be positive, got {columns} and {thumbnails}")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    images = result.origin.ndim == 4 and result.origin.shape[1] in (1, 3)
    with styled():
        wide = 6.4 if columns == 1 else 4.4
        figure = NotebookFigure(
            figsize=(wide * columns + 1.6, (3.9 if columns == 1 else 3.1) * rows), layout="constrained"
        )
        panels = figure.subfigures(rows, columns, squeeze=False)
        curves: set[int] = set()
        for panel, cell in zip(panels.flat, chosen, strict=False):
            if images:
                top, strip = panel.subplots(2, 1, height_ratios=[4, 1])
                _draw_strip(strip, result, cell, thumbnails)
            else:
                top = panel.subplots()
            curves |= _draw_curves(top, result, cell, probabilities=probabilities)
            true = int(result.true_labels[cell])
            top.set_title(f"example {int(result.index[cell])}: {class_labels(class_names, [true])[true]}")
        _legend(figure, result, curves, class_names, images=images)
    return figure


def draw_logits(
    axes: Axes, t: NDArray, values: NDArray, true: int | None, *, shown: Sequence[int] | None = None
) -> set[int]:
    """Draw curves of all classes, each in its colour, the true one thick and black.

    Args:
        axes: to draw on.
        t: coordinates `[point]`.
        values: logits or probabilities `[point, class]`.
        true: the true class, or None where it is not known.
        shown: classes to draw besides the true one; by default all.

    Returns:
        The classes drawn in colour.
    """
    colors = class_colors(values.shape[1])
    others = [number for number in (range(values.shape[1]) if shown is None else shown) if number != true]
    for number in others:
        axes.plot(t, values[:, number], color=colors[number], lw=WIDTH)
    if true is not None:
        axes.plot(t, values[:, true], color="black", lw=TRUE_WIDTH)
    return set(others)


def _draw_curves(axes: Axes, result: LogitLines, cell: int, *, probabilities: bool) -> set[int]:
    """Draw one example's curves; returns the classes drawn in colour."""
    values = (result.probabilities() if probabilities else result.logits)[cell].numpy()
    leading = np.unique(values.argmax(axis=1)).tolist() if values.shape[1] > MOST_CURVES else None
    others = draw_logits(axes, result.eps.numpy(), values, int(result.true_labels[cell]), shown=leading)
    axes.axvline(0.0, color="0.6", lw=0.8, ls=":")
    axes.set(xlim=(float(result.eps[0]), float(result.eps[-1])), ylabel="probability" if probabilities else "logit")
    few_ticks(axes)
    clipped = "clipped to the bounds" if result.clip else "not clipped"
    axes.set_xlabel(f"{result.name}, in {result.unit}; inputs {clipped}")
    return others


def _draw_strip(axes: Axes, result: LogitLines, cell: int, thumbnails: int) -> None:
    """The inputs along the line, below the ε they belong to."""
    low, high = float(result.eps[0]), float(result.eps[-1])
    edges = np.linspace(low, high, thumbnails + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    nearest = np.abs(result.eps.numpy()[None, :] - middles[:, None]).argmin(axis=1)
    positions = result.eps.new_tensor(nearest).long()
    inputs = result.inputs(cell, positions)
    least, most = result.bounds
    pictures = ((inputs - least) / (most - least)).clamp(0, 1).movedim(1, -1).numpy()
    correct = (result.labels()[cell, positions] == result.true_labels[cell]).tolist()
    gap = 0.06  # of a thumbnail's side, so that boxes do not touch
    for number, (picture, right) in enumerate(zip(pictures, correct, strict=True)):
        extent = (number + gap, number + 1 - gap, 0.0 + gap, 1.0 - gap)
        axes.imshow(picture.squeeze(), extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if right:
            side = 1 - 2 * gap
            axes.add_patch(Rectangle((number + gap, gap), side, side, fill=False, ec=_CORRECT, lw=2.4))
    axes.set(xlim=(0, thumbnails), ylim=(0, 1), aspect="equal")
    axes.set_axis_off()


def _legend(
    figure: Figure, result: LogitLines, curves: set[int], class_names: Sequence[str] | None, *, images: bool
) -> None:
    classes = result.logits.shape[2]
    colors = class_colors(classes)
    handles: list[Line2D | Patch] = [Line2D([], [], color="black", lw=TRUE_WIDTH, label="true class")]
    for number, name in class_labels(class_names, sorted(curves)).items():
        handles.append(Line2D([], [], color=colors[number], lw=WIDTH, label=name))
    if images:
        handles.append(Patch(fill=False, ec=_CORRECT, lw=2.4, label="classified correctly"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
