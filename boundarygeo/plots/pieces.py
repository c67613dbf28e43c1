"""Exact affine pieces as figures: logits along a segment, above the breakpoints of each layer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from boundarygeo.lines.pieces.pieces import DecisionBoundaries, LinearPieces
from boundarygeo.lines.straightness import straightness
from boundarygeo.plots.lines import TRUE_WIDTH, WIDTH, curves_of, draw_logits, label_segment, panels_of
from boundarygeo.plots.style import NotebookFigure, class_labels, shown_colors, styled

MOST_LAYERS = 10
"""With more layers, only those with the most breakpoints are named, and the others share a row."""

BEST_LINE: dict[str, Any] = {"color": "0.65", "lw": 1.4, "ls": (0, (4, 2))}
"""Look of the best straight line: visible on white and on a black curve that coincides with it."""

BOUNDARY = "0.35"
"""Grey of the decision boundaries."""

_BOUNDS = "bounds"  # name in `LinearPieces.layers` of the clamp to the bounds, which is not a layer
_MOST_VECTOR_LINES = 2000  # more lines make vector graphics slow


@dataclass(frozen=True)
class _Row:
    """One row of the rug: a layer, or all unnamed layers."""

    label: str
    color: str
    layers: tuple[int, ...]


def pieces(
    result: LinearPieces,
    *,
    cells: Iterable[int] | None = None,
    true_labels: Sequence[int] | Tensor | None = None,
    index: Sequence[int] | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    columns: int = 3,
) -> Figure:
    """All classes' logits along exact segments, above a rug of the breakpoints between their pieces.

    The true class is thick and black, with its best straight line (least squares over the whole segment) dashed; every
    other class has its fixed colour. Thin vertical lines are the exact decision boundaries. Below are the breakpoints,
    with one row and colour per nonlinearity that causes them, in the order of the network.

    Args:
        result: exact pieces.
        cells: positions of the examples to draw; by default the first.
        true_labels: true class of each example of `result`; by default no class is emphasised.
        index: number of each example of `result`, for the titles; by default its position.
        class_names: name of each class, for titles and legend.
        columns: number of examples in a row.

    Raises:
        TypeError: if `result` is not a `LinearPieces`.
        ValueError: if a position does not exist, `columns` is not positive, or there are not as many labels or numbers
            as examples.
    """
    if not isinstance(result, LinearPieces):
        raise TypeError(f"result must be LinearPieces, got {type(result).__name__}")
    count = len(result.breakpoints)
    chosen, rows, columns = panels_of(cells, columns, count)
    labels = None if true_labels is None else _one_each(true_labels, count, "true_labels")
    numbers = list(range(count)) if index is None else _one_each(index, count, "index")
    boundaries = result.boundaries()
    best = straightness(result).line_slope, result.integral() / (result.extent[1] - result.extent[0])
    rug = _rug_rows(result, chosen)
    rug_height = 0.09 * len(rug) + 0.1  # inches
    with styled():
        wide, high = (6.4, 3.6) if columns == 1 else (4.4, 2.9)
        size = (wide * columns + 1.8, (high + rug_height) * rows + 0.3)
        figure = NotebookFigure(figsize=size, layout="constrained")
        panels = figure.subfigures(rows, columns, squeeze=False)
        shown = {cell: _drawn(result, cell, None if labels is None else labels[cell], boundaries) for cell in chosen}
        curves = set().union(*shown.values())
        colors = shown_colors(curves, result.logits.shape[2])
        for panel, cell in zip(panels.flat, chosen, strict=False):
            top, below = panel.subplots(2, 1, sharex=True, height_ratios=[high - 1, rug_height])
            true = None if labels is None else labels[cell]
            _draw_segment(top, result, cell, true, boundaries, colors, shown[cell])
            if true is not None:
                slope, mean = (float(values[cell, true]) for values in best)
                _draw_line(top, result.extent, slope, mean)
            _draw_rug(below, result, cell, rug)
            name = "" if true is None else f": {class_labels(class_names, [true])[true]}"
            total = int(result.count[cell])
            text = f"example {numbers[cell]}{name}\n{total:,} {'piece' if total == 1 else 'pieces'}"
            top.set_title(text, fontsize="medium")
        crossed = bool(np.isin(boundaries.example.numpy(), chosen).any())
        classes = _class_handles(colors, curves, class_names, known=labels is not None, crossed=crossed)
        figure.legend(handles=classes, loc="outside right upper", frameon=False)
        _place_layers(figure, rug)
    return figure


def _one_each(values: Sequence[int] | Tensor, count: int, name: str) -> list[int]:
    numbers = [int(value) for value in values]
    if len(numbers) != count:
        raise ValueError(f"{name} must have {count} entries, one per example, got {len(numbers)}")
    return numbers


def _curves(result: LinearPieces, cell: int) -> tuple[NDArray, NDArray]:
    """Breakpoints of one example, and the logits at them."""
    last = int(result.patterns[cell]) + 1
    return result.breakpoints[cell, :last].numpy(), result.logits[cell, :last].numpy()


def _drawn(result: LinearPieces, cell: int, true: int | None, boundaries: DecisionBoundaries) -> set[int]:
    """The classes drawn in colour for one example."""
    _, values = _curves(result, cell)
    # A class may be the largest between two breakpoints only.
    after = boundaries.after.numpy()[(boundaries.example == cell).numpy()]
    return curves_of(values, np.unique(np.concatenate([values.argmax(axis=1), after])).tolist(), true)


def _draw_segment(
    axes: Axes,
    result: LinearPieces,
    cell: int,
    true: int | None,
    boundaries: DecisionBoundaries,
    colors: NDArray,
    shown: set[int],
) -> None:
    """Draw one example's logits and decision boundaries."""
    t, values = _curves(result, cell)
    here = (boundaries.example == cell).numpy()
    for place in boundaries.t.numpy()[here]:
        axes.axvline(place, color=BOUNDARY, lw=0.7)
    draw_logits(axes, t, values, true, shown=shown, colors=colors)
    axes.tick_params(labelbottom=False)


def _draw_line(axes: Axes, extent: tuple[float, float], slope: float, mean: float) -> None:
    """The best straight line, which passes through the logit's mean in the middle of the segment."""
    reach = (extent[1] - extent[0]) / 2
    heights = (mean - slope * reach, mean + slope * reach)
    axes.plot(extent, heights, **BEST_LINE)


def _rug_rows(result: LinearPieces, chosen: Sequence[int]) -> list[_Row]:
    """The rows of the rug: layers that cause breakpoints of the chosen examples, in the order of the network."""
    layer = result.layer.numpy()[chosen]
    counts = np.bincount(layer[layer >= 0], minlength=len(result.layers))
    appearing = np.flatnonzero(counts)
    named = np.sort(appearing[np.argsort(-counts[appearing], kind="stable")[:MOST_LAYERS]]).tolist()
    # From dark violet to green with depth; the yellow end would be invisible on white.
    depth = [number for number in named if result.layers[number] != _BOUNDS]
    shades = colormaps["viridis"](np.linspace(0, 0.85, max(len(depth), 1)))
    colors = {number: to_hex(shade) for number, shade in zip(depth, shades, strict=False)}
    rows = [_Row(_row_name(result.layers[number]), colors.get(number, "0.35"), (number,)) for number in named]
    others = tuple(sorted(set(appearing.tolist()) - set(named)))
    if others:
        rows.append(_Row(f"{len(others)} other layers" if len(others) > 1 else "1 other layer", "0.6", others))
    return rows


def _row_name(layer: str) -> str:
    if layer == _BOUNDS:
        return "clamp to the bounds"
    return f"layer {layer}" if layer[0].isdigit() else layer  # in an nn.Sequential the names are numbers


def _draw_rug(axes: Axes, result: LinearPieces, cell: int, rows: Sequence[_Row]) -> None:
    """One tick per breakpoint, in the row of the layer that caused it; the first layer on top."""
    t, layer = result.breakpoints[cell].numpy(), result.layer[cell].numpy()
    for number, row in enumerate(rows):
        places: NDArray[np.float64] = t[np.isin(layer, row.layers)]
        many = len(places) > _MOST_VECTOR_LINES
        axes.vlines(places, number - 0.42, number + 0.42, color=row.color, lw=0.6, rasterized=many)
    axes.set(ylim=(max(len(rows), 1) - 0.4, -0.6), yticks=[])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    label_segment(axes, result)


def _class_handles(
    colors: NDArray, curves: set[int], class_names: Sequence[str] | None, *, known: bool, crossed: bool
) -> list[Line2D]:
    handles = []
    if known:
        handles.append(Line2D([], [], color="black", lw=TRUE_WIDTH, label="true class"))
        handles.append(Line2D([], [], **BEST_LINE, label="its best line"))
    for number, name in class_labels(class_names, sorted(curves)).items():
        handles.append(Line2D([], [], color=colors[number], lw=WIDTH, label=name))
    if crossed:
        handles.append(Line2D([], [], color=BOUNDARY, lw=0, marker="|", ms=11, label="decision boundary"))
    return handles


def _place_layers(figure: Figure, rows: Sequence[_Row]) -> None:
    """The legend of the rug, below all panels."""
    if not rows:
        return
    ticks = [Line2D([], [], color=row.color, lw=0, marker="|", ms=8, mew=2, label=row.label) for row in rows]
    figure.legend(
        handles=ticks,
        loc="outside lower left",
        ncols=max(1, min(len(ticks), int(figure.get_figwidth() / 1.7))),
        frameon=False,
        title="breakpoints, by the nonlinearity that causes them (rows from top to bottom)",
        alignment="left",
        handletextpad=0.2,
    )
