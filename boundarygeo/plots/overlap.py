"""Overlap of adversarial subspaces as figures, always compared with chance."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import LINE_STYLES, check_results, count_text, level_text
from boundarygeo.plots.style import CLASS_COLORS, shown_colors, styled
from boundarygeo.results.statistics import Estimate, mean
from boundarygeo.transfer.overlap import SubspaceOverlap

_ROW = 0.62  # inches
_ENERGY, _INTERSECTION, _PERMUTED, _RANDOM = CLASS_COLORS[1], CLASS_COLORS[4], CLASS_COLORS[0], "0.55"
_BAR = 0.3  # height of the bars of the nulls, in rows
_ABOVE, _BELOW = -0.17, 0.24  # positions of energy and intersection within a row
_CENTRAL = (0.025, 0.975)


def overlap(
    result: SubspaceOverlap, *, pairs: Sequence[tuple[str | int, str | int]] | None = None, ax: Axes | None = None
) -> Axes:
    """Number of dimensions shared by the subspaces of two models, and expected by chance: one row per pair.

    Above: the mean over the examples of the shared energy, Σ cos² of the principal angles, with the 95 % ranges of such
    means for random subspaces (simulated) and for subspaces of different examples (permuted); a tick marks the
    theoretical value for random subspaces, k₁k₂/d. Below: the mean number of principal angles within the result's
    tolerance, the effective dimension of the intersection, for the models and for random subspaces. Lines are 95 %
    intervals over the examples.

    Args:
        result: result of `boundarygeo.subspace_overlap` or `boundarygeo.basis_overlap`.
        pairs: names or numbers of the two models of each row, from the top; by default all pairs.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if there is no such pair, or none to draw.
    """
    check_results([result], SubspaceOverlap, "result")
    chosen = result.pairs.tolist() if pairs is None else list(pairs)
    if not chosen:
        raise ValueError("pairs must have at least one entry, got none")
    numbers = [result.pair(a, b) for a, b in chosen]
    with styled():
        axes = axes_or_new(ax, figsize=(8.2, 1.5 + _ROW * max(len(numbers), 1.6)))
        labels, drawn, reach = [], [], 0.0
        for row, pair in enumerate(numbers):
            first, second = result.pairs[pair].tolist()
            valid = result.valid[pair]
            n = int(valid.sum())
            labels.append(f"{result.names[first]} - {result.names[second]}\nn = {n:,}, {_sizes(result, pair)}")
            if not n:
                axes.text(0.01, row, "no example has both subspaces", va="center", fontsize=8, color="0.4")
                continue
            above, below = row + _ABOVE, row + _BELOW
            for draws, color in ((result.random_mean, _RANDOM), (result.permuted_mean, _PERMUTED)):
                if not bool(draws[pair].isnan().any()):
                    low, high = np.quantile(draws[pair].numpy(), _CENTRAL)
                    axes.barh(above, high - low, left=low, height=_BAR, color=color, ec=color, lw=1.0)
                    reach = max(reach, float(high))
            chance = float(result.expected[pair])
            axes.plot([chance] * 2, [above - 0.2, above + 0.2], color="black", lw=1.4)
            most = min(result.dimensions[first], result.dimensions[second])
            energy, intersection = (
                mean(each[pair, valid].double().numpy(), within=(0, most))
                for each in (result.energy, result.intersection)
            )
            _draw_estimate(axes, energy, above, "o", _ENERGY)
            _draw_estimate(axes, intersection, below, "D", _INTERSECTION)
            drawn += [energy, intersection]
            reach = max(reach, *(np.nanmax([each.value, each.high]) for each in (energy, intersection)))
            by_chance = float(result.random_intersection[pair].double().mean())
            # Round the other.
            axes.plot(by_chance, below, marker="D", ms=10, mfc="none", mec="0.35", ls="none", zorder=2)
        axes.set_yticks(range(len(numbers)), labels, parse_math=False)
        axes.set(
            xlim=(-0.04 * reach, 1.08 * reach or 1.0),
            ylim=(len(numbers) - 0.5, -0.5),
            xlabel=f"shared dimensions, of k = {count_text(list(result.dimensions))}",
        )
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        degrees = f"{math.degrees(result.tolerance):.3g}°"
        handles = [
            _mark("o", _ENERGY, _ENERGY, "shared energy, Σ cos² θ"),
            Line2D([], [], color="black", lw=1.4, label="random subspaces: k₁k₂/d"),
            Patch(color=_RANDOM, label="the same, simulated: 95 % range"),
            Patch(color=_PERMUTED, label="another example's: 95 % range"),
            _mark("D", _INTERSECTION, _INTERSECTION, f"angles of at most {degrees}"),
            _mark("D", "none", "0.35", "those of random subspaces"),
        ]
        place_legend(axes, handles, None)
        lines = f"lines: {level_text(drawn)}"
        axes.set_title(f"subspaces of {result.kind}, d = {result.input_size:,}; {lines}", fontsize="medium")
    return axes


def principal_angles(
    result: SubspaceOverlap, *, pairs: Sequence[tuple[str | int, str | int]] | None = None, ax: Axes | None = None
) -> Axes:
    """Principal angles between the subspaces of pairs of models, smallest first, compared with random subspaces.

    Lines are medians over the examples (or draws), bands hold 80 % of them. A dotted line marks the tolerance, below
    which an angle counts as a shared direction.

    Args:
        result: result of `boundarygeo.subspace_overlap` or `boundarygeo.basis_overlap`.
        pairs: names or numbers of the two models of each curve; by default all pairs.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if there is no such pair, or none that has subspaces.
    """
    check_results([result], SubspaceOverlap, "result")
    chosen = result.pairs.tolist() if pairs is None else list(pairs)
    numbers = [pair for pair in (result.pair(a, b) for a, b in chosen) if bool(result.valid[pair].any())]
    if not numbers:
        raise ValueError("pairs must include one with both subspaces at some example")
    with styled():
        axes = axes_or_new(ax, figsize=(7.6, 3.8))
        handles = []
        colors = shown_colors(range(len(numbers)), len(numbers))
        for number, (pair, color) in enumerate(zip(numbers, colors, strict=True)):
            style = LINE_STYLES[number % len(LINE_STYLES)]
            first, second = result.pairs[pair].tolist()
            size = min(result.dimensions[first], result.dimensions[second])
            _draw_spectrum(axes, result.angles[pair, result.valid[pair], :size].numpy(), color, style)
            _draw_spectrum(axes, result.random_angles[pair, :, :size].numpy(), _RANDOM, style)
            name = f"{result.names[first]} - {result.names[second]}\nn = {int(result.valid[pair].sum()):,}"
            handles.append(Line2D([], [], color=color, ls=style, lw=1.8, label=name))
        handles.append(Line2D([], [], color=_RANDOM, lw=1.8, label="random subspaces"))
        axes.axhline(math.degrees(result.tolerance), color="0.3", lw=0.9, ls=":")
        handles.append(Line2D([], [], color="0.3", lw=0.9, ls=":", label="counts as shared below"))
        axes.set(xlabel="number of the angle", ylabel="principal angle, in degrees", ylim=(0, 92))
        axes.set_yticks(range(0, 91, 15))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        place_legend(axes, handles, None, handlelength=2.8)
        axes.set_title(f"subspaces of {result.kind}, d = {result.input_size:,}; bands: 10 to 90 %", fontsize="medium")
    return axes


def _sizes(result: SubspaceOverlap, pair: int) -> str:
    first, second = (result.dimensions[model] for model in result.pairs[pair].tolist())
    return f"k = {first}" if first == second else f"k = {first} and {second}"


def _draw_estimate(axes: Axes, estimate: Estimate, at: float, marker: str, color: str) -> None:
    if estimate.has_interval:
        axes.plot([estimate.low, estimate.high], [at, at], color=color, lw=1.4, zorder=3)
    axes.plot(estimate.value, at, marker=marker, ms=6, color=color, ls="none", zorder=3)


def _draw_spectrum(axes: Axes, angles: np.ndarray, color: object, style: object) -> None:
    low, middle, high = np.degrees(np.quantile(angles, (0.1, 0.5, 0.9), axis=0))
    places = np.arange(1, angles.shape[1] + 1)
    axes.fill_between(places, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(places, middle, color=color, ls=style, lw=1.6)


def _mark(marker: str, face: str, edge: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, ms=6, mfc=face, mec=edge, ls="none", label=label)
