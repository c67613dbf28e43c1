"""Logits along lines as figures: curves against ε above a strip of the inputs."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from boundarygeo.lines.lines import LogitLines
from boundarygeo.lines.pieces.pieces import LinearPieces
from boundarygeo.plots.style import NotebookFigure, class_labels, few_ticks, shown_colors, styled

_CORRECT = "#f2c200"  # yellow box around correctly classified inputs
MOST_CURVES = 20
"""With more classes, only the true class and those with the largest logit somewhere are drawn."""

WIDTH, TRUE_WIDTH = 1.3, 2.6
"""Widths of the curves of other classes and of the true class, in points."""


def lines(
    result: LogitLines,
    *,
    cells: Iterable[int] | None = None,
    class_names: Sequence[str] | None = None,
    thumbnails: int = 9,
    columns: int = 3,
    probabilities: bool = False,
) -> Figure:
    """All classes' logits against ε, above a strip of the inputs (Goodfellow et al. 2015, arXiv 1412.6572, Fig. 4).

    The true class is thick and black, every other class has its fixed colour. Below the curves are the inputs along the
    line, with a yellow box around correctly classified ones; inputs that are not images are not shown.

    Args:
        result: logits along lines.
        cells: positions of the examples to draw; by default the first.
        class_names: name of each class, for the legend.
        thumbnails: number of inputs in the strip.
        columns: number of examples in a row.
        probabilities: whether to draw the softmax instead of the logits.

    Raises:
        TypeError: if `result` is not a `LogitLines`.
        ValueError: if a position does not exist, or `columns` or `thumbnails` is not positive.
    """
    if not isinstance(result, LogitLines):
        raise TypeError(f"result must be LogitLines, got {type(result).__name__}")
    if thumbnails < 1:
        raise ValueError(f"thumbnails must be positive, got {thumbnails}")
    chosen, rows, columns = panels_of(cells, columns, len(result.logits))
    images = result.origin.ndim == 4 and result.origin.shape[1] in (1, 3)
    with styled():
        wide = 6.4 if columns == 1 else 4.4
        figure = NotebookFigure(
            figsize=(wide * columns + 1.6, (3.9 if columns == 1 else 3.1) * rows), layout="constrained"
        )
        panels = figure.subfigures(rows, columns, squeeze=False)
        shown = {cell: _drawn(result, cell, probabilities=probabilities) for cell in chosen}
        curves = set().union(*shown.values())
        colors = shown_colors(curves, result.logits.shape[2])
        for panel, cell in zip(panels.flat, chosen, strict=False):
            if images:
                top, strip = panel.subplots(2, 1, height_ratios=[4, 1])
                _draw_strip(strip, result, cell, thumbnails)
            else:
                top = panel.subplots()
            _draw_curves(top, result, cell, colors, shown[cell], probabilities=probabilities)
            true = int(result.true_labels[cell])
            top.set_title(f"example {int(result.index[cell])}: {class_labels(class_names, [true])[true]}")
        _legend(figure, colors, curves, class_names, images=images)
    return figure


def panels_of(cells: Iterable[int] | None, columns: int, count: int) -> tuple[list[int], int, int]:
    """Checked positions of the examples to draw, by default the first, and the rows and columns of their panels."""
    chosen = [0] if cells is None else [int(cell) for cell in cells]
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise ValueError(f"cells must be positions from 0 to {count - 1}, got {chosen}")
    if columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    columns = min(columns, len(chosen))
    return chosen, -(-len(chosen) // columns), columns


def curves_of(values: NDArray, leading: Iterable[int], true: int | None) -> set[int]:
    """The classes of values `[point, class]` drawn in colour: all but the true one, or only leading ones of many."""
    classes = values.shape[1]
    return set(leading if classes > MOST_CURVES else range(classes)) - {true}


def draw_logits(
    axes: Axes,
    t: NDArray,
    values: NDArray,
    true: int | None,
    *,
    shown: Iterable[int],
    colors: NDArray,
    ylabel: str = "logit",
) -> None:
    """Draw the curves `[point, class]` of classes, each in its colour, the true class (if known) thick and black."""
    for number in sorted(shown):
        axes.plot(t, values[:, number], color=colors[number], lw=WIDTH)
    if true is not None:
        axes.plot(t, values[:, true], color="black", lw=TRUE_WIDTH)
    axes.axvline(0.0, color="0.6", lw=0.8, ls=":")
    axes.set(xlim=(float(t[0]), float(t[-1])), ylabel=ylabel)
    few_ticks(axes)


def label_segment(axes: Axes, result: LogitLines | LinearPieces) -> None:
    """Name the direction, its unit, and whether inputs are clipped."""
    clipped = "clipped to the bounds" if result.clip else "not clipped"
    axes.set_xlabel(f"{result.name}, in {result.unit}; inputs {clipped}")


def _values(result: LogitLines, cell: int, *, probabilities: bool) -> NDArray:
    return (result.probabilities() if probabilities else result.logits)[cell].numpy()


def _drawn(result: LogitLines, cell: int, *, probabilities: bool) -> set[int]:
    """The classes drawn in colour for one example."""
    values = _values(result, cell, probabilities=probabilities)
    return curves_of(values, np.unique(values.argmax(axis=1)).tolist(), int(result.true_labels[cell]))


def _draw_curves(
    axes: Axes, result: LogitLines, cell: int, colors: NDArray, shown: set[int], *, probabilities: bool
) -> None:
    """Draw one example's curves."""
    values = _values(result, cell, probabilities=probabilities)
    true, ylabel = int(result.true_labels[cell]), "probability" if probabilities else "logit"
    draw_logits(axes, result.t.numpy(), values, true, shown=shown, colors=colors, ylabel=ylabel)
    label_segment(axes, result)


def _draw_strip(axes: Axes, result: LogitLines, cell: int, thumbnails: int) -> None:
    """The inputs along the line, below their ε."""
    low, high = float(result.t[0]), float(result.t[-1])
    edges = np.linspace(low, high, thumbnails + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    nearest = np.abs(result.t.numpy()[None, :] - middles[:, None]).argmin(axis=1)
    positions = result.t.new_tensor(nearest).long()
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
    figure: Figure, colors: NDArray, curves: set[int], class_names: Sequence[str] | None, *, images: bool
) -> None:
    handles: list[Line2D | Patch] = [Line2D([], [], color="black", lw=TRUE_WIDTH, label="true class")]
    for number, name in class_labels(class_names, sorted(curves)).items():
        handles.append(Line2D([], [], color=colors[number], lw=WIDTH, label=name))
    if images:
        handles.append(Patch(fill=False, ec=_CORRECT, lw=2.4, label="classified correctly"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
