"""Transfer between models as figures: the matrix, the mistakes, agreement, and distances to and between boundaries."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from boundarygeo.choices import NORM_NAMES
from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import check_results, count_text, level_text
from boundarygeo.plots.style import CLASS_COLORS, styled
from boundarygeo.results.statistics import mean
from boundarygeo.transfer.boundaries import InterBoundaryDistance
from boundarygeo.transfer.classifiers import position
from boundarygeo.transfer.matrix import TransferMatrix
from boundarygeo.transfer.mistakes import TransferMistakes
from boundarygeo.transfer.reproducibility import Reproducibility

OVER_NAMES = {
    "shared": "of the examples that all models get right",
    "fooled": "of the examples that fool their source",
    "all": "of all examples",
}
"""Descriptions of the denominators."""

_MAP = "Blues"
_DARK = 0.62  # share above which numbers are white, because cells are dark
# Mistakes first, "same" on the left: both lengths, and chance, can be read from the axis.
_OUTCOMES = {
    "same": ("same mistake", CLASS_COLORS[3]),
    "different": ("different mistake", CLASS_COLORS[2]),
    "unfooled": ("unfooled", "0.85"),
}
_CELL = 0.75  # inches
_ROW = 0.28
_LONG = 9  # longest name that fits below a cell, in characters
_GROUP_WIDTH = 0.8


def transfer_matrix(matrix: TransferMatrix, *, over: str = "shared", ax: Axes | None = None) -> Axes:
    """Transfer rates as a heat map: sources as rows, targets as columns, percent in the cells.

    Frames mark the diagonal, where the source is its own target. White is 0 %, the darkest blue 100 %, in all figures.
    A cell without examples shows a dash.

    Args:
        matrix: result of `boundarygeo.transfer_matrix`.
        over: examples over which success is counted, see `TransferMatrix.counted`.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if `over` is unknown, or needs an example that all models classify correctly and there is none.
    """
    check_results([matrix], TransferMatrix, "matrix")
    rate = matrix.rate(over).numpy()
    if over != "all":
        _check_shared(matrix, "matrix")
    n = matrix.counts(over)[1].tolist()
    with styled():
        axes = _heat_map(rate, matrix.names, ax)
        axes.set(xlabel="target: sent to", ylabel="source: made for")
        axes.set_title(f"{_attack(matrix)}\nsuccess, in % {OVER_NAMES[over]} (n = {count_text(n)})", fontsize="medium")
    return axes


def reproducibility(result: Reproducibility, *, ax: Axes | None = None) -> Axes:
    """Agreement of each pair of models on random planes as a heat map, percent in the cells.

    The figure of Somepalli et al. 2022 (arXiv 2203.08124): the mean share of equal labels in the window around three
    random examples. On the framed diagonal, a model is compared with itself.

    Args:
        result: result of `boundarygeo.reproducibility`.
        ax: axes to draw on; by default those of a new pyplot figure.
    """
    check_results([result], Reproducibility, "result")
    equal = np.eye(len(result.names))
    for (i, j), each in zip(result.pairs.tolist(), result.window_agreement[:, result.valid], strict=True):
        equal[i, j] = equal[j, i] = float(each.mean())
    with styled():
        axes = _heat_map(equal, result.names, ax)
        planes = f"{int(result.valid.sum()):,} random planes, {result.resolution}² points each"
        clipped = ", clipped to the bounds" if result.clip else ""
        axes.set_title(f"equal labels, in %\n{planes}{clipped}", fontsize="medium")
    return axes


def mistakes(
    result: TransferMistakes, *, pairs: Sequence[tuple[str, str]] | None = None, ax: Axes | None = None
) -> Axes:
    """Outcomes on the targets of the examples that fool their source: a stacked bar per pair of source and target.

    The figure of Waseda et al. 2023. A black tick with its 95 % range shows where "same mistake" would end if the
    target's mistake depended on the true class alone (see `boundarygeo.transfer_mistakes`).

    Args:
        result: result of `boundarygeo.transfer_mistakes`.
        pairs: names of source and target of each bar, from the top; by default all pairs of different models.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if there is no such model, or no pair to draw.
    """
    check_results([result], TransferMistakes, "result")
    chosen = list(pairs) if pairs is not None else [(a, b) for a in result.names for b in result.names if a != b]
    if not chosen:
        raise ValueError("pairs must have at least one entry, got none")
    with styled():
        axes = axes_or_new(ax, figsize=(7.4, 1.3 + _ROW * len(chosen)))
        labels = []
        for row, (source, target) in enumerate(chosen):
            shares, expected = result.shares(source, target), result.chance_share(source, target)
            n = shares["same"].n
            labels.append(f"{source} → {target} (n = {n:,})")
            if not n:
                axes.text(0.01, row, "no example fools the source", va="center", fontsize=8, color="0.4")
                continue
            left = 0.0
            for name, (_, color) in _OUTCOMES.items():
                axes.barh(row, shares[name].value, left=left, height=0.7, color=color, lw=0)
                left += shares[name].value
            if expected.n:
                scale = expected.n / n
                middle, low, high = (scale * value for value in (expected.value, expected.low, expected.high))
                axes.plot([low, high], [row, row], color="black", lw=1.0)
                axes.plot([middle, middle], [row - 0.35, row + 0.35], color="black", lw=1.4)
        axes.set_yticks(range(len(chosen)), labels, parse_math=False)
        axes.set(xlim=(0, 1), ylim=(len(chosen) - 0.5, -0.5), xlabel="examples that fool the source")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.tick_params(axis="y", length=0)
        handles = [Patch(color=color, label=label) for label, color in _OUTCOMES.values()]
        chance = Line2D([], [], color="black", lw=1.4, label="same, by chance\n(95 % range)")
        place_legend(axes, [*handles, chance], "target")
    return axes


def boundary_distances(
    result: InterBoundaryDistance,
    *,
    source: str | int = 0,
    targets: Sequence[str | int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean distance to a source's boundary, and from it to the boundaries of other models, along each direction.

    The bar figure of Tramèr et al. 2017, with 95 % intervals of the means. All bars of a direction are averages over
    the same examples: those on which the source and all targets drawn change their label within the search range. Their
    number, and the share left out because some model does not (censored), are given below each direction.

    Args:
        result: result of `boundarygeo.inter_boundary_distance`.
        source: name or number of the model whose directions are used.
        targets: names or numbers of the other models; by default all others.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if there is no such model, no target, or no example that all models classify correctly.
    """
    check_results([result], InterBoundaryDistance, "result")
    _check_shared(result, "result")
    others = [name for name in result.names if name != _name(result, source)] if targets is None else list(targets)
    if not others:
        raise ValueError("targets must have at least one entry, got none")
    drawn = [_name(result, source), *(_name(result, target) for target in others)]
    width = _GROUP_WIDTH / len(drawn)
    with styled():
        axes = axes_or_new(ax, figsize=(2.6 + 1.7 * len(result.directions), 3.8))
        ticks, estimates = [], []
        for group, direction in enumerate(result.directions):
            every = np.stack([result.model_distance(direction, source, model).numpy() for model in drawn])
            valid, known = ~np.isnan(every[0]), np.isfinite(every).all(0)
            n, possible = int(known.sum()), int(valid.sum())
            censored = f"{100 * (possible - n) / possible:.1f} % censored" if possible else "no direction"
            ticks.append(f"{direction}\nn = {n:,}\n{censored}")
            numbers = [every[0, known], *np.abs(every[1:, known] - every[0, known])]
            for bar, values in enumerate(numbers):
                if not n:
                    continue
                estimate = mean(values, within=(0, np.inf))
                at = group - _GROUP_WIDTH / 2 + (bar + 0.5) * width
                color = "0.35" if not bar else CLASS_COLORS[(bar - 1) % len(CLASS_COLORS)]
                axes.bar(at, estimate.value, width=0.9 * width, color=color, lw=0)
                estimates.append(estimate)
                if estimate.has_interval:
                    error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
                    axes.errorbar(at, estimate.value, yerr=error, color="black", lw=1.0, capsize=2.5)
        axes.set_xticks(range(len(ticks)), ticks, parse_math=False)
        axes.set(xlim=(-0.6, len(ticks) - 0.4), ylabel="mean distance, in L2 input units")
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        handles = [Patch(color="0.35", label=f"to the boundary of\n{drawn[0]} (MD)")]
        for bar, name in enumerate(drawn[1:]):
            color = CLASS_COLORS[bar % len(CLASS_COLORS)]
            handles.append(Patch(color=color, label=f"from there to that of\n{name} (ID)"))
        place_legend(axes, handles, None)
        reach = f"looked up to {result.max_distance:.3g}; bars: {level_text(estimates)}"
        axes.set_title(f"directions of {drawn[0]}, {result.adversarial} for adversarial\n{reach}", fontsize="medium")
    return axes


def _heat_map(shares: NDArray[np.float64], names: Sequence[str], ax: Axes | None) -> Axes:
    """Shares `[row, column]` as cells from white to the darkest blue, with their percents; the diagonal has frames."""
    count = len(names)
    side = _CELL * count
    axes = axes_or_new(ax, figsize=(max(side + 2.4, 4.6), max(side + 1.6, 3.2)))
    axes.imshow(np.nan_to_num(shares), cmap=_MAP, vmin=0, vmax=1, aspect="equal")
    for i, j in np.ndindex(shares.shape):
        text = "–" if np.isnan(shares[i, j]) else _percent(float(shares[i, j]))
        color = "white" if shares[i, j] > _DARK else "black"
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=9 if count <= 8 else 7)
        if i == j:
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="0.25", lw=1.2))
    slanted = max(len(name) for name in names) > _LONG
    turned = {"rotation": 35, "ha": "right"} if slanted else {"rotation": 0, "ha": "center"}
    axes.set_xticks(range(count), names, parse_math=False, **turned)
    axes.set_yticks(range(count), names, parse_math=False)
    if slanted:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.tick_params(length=0)
    return axes


def _check_shared(result: TransferMatrix | InterBoundaryDistance, name: str) -> None:
    if not bool(result.shared.any()):
        raise ValueError(f"no example of {name} is classified correctly by all models: there is nothing to draw")


def _name(result: InterBoundaryDistance, model: str | int) -> str:
    """Name of a model given by name or number."""
    return result.names[position(result.names, model, "model")]


def _percent(share: float) -> str:
    """A share in percent without its sign: whole numbers, one decimal below 10.

    >>> _percent(0.4567), _percent(0.0349), _percent(0.0), _percent(1.0)
    ('46', '3.5', '0', '100')
    """
    return f"{100 * share:.1f}" if 0 < share < 0.0995 else f"{100 * share:.0f}"


def _attack(matrix: TransferMatrix) -> str:
    names = {"fgsm": "FGSM", "pgd": "PGD", "minimal_norm": "minimal norm"}
    attack = names.get(matrix.attack, matrix.attack)
    size = "" if matrix.eps is None else f", ε = {matrix.eps:.3g}"
    targeted = ", targeted" if matrix.targets is not None else ""
    return f"{attack}{targeted}, {NORM_NAMES[matrix.norm]}{size}{', 8-bit' if matrix.eight_bit else ''}"
