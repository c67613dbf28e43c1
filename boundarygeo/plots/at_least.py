"""Share of examples with at least k orthogonal adversarial directions, as a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from boundarygeo.plots.captions import COUNT, fitted, legend_above, settings_of
from boundarygeo.plots.cells import axes_or_new
from boundarygeo.plots.comparison import check_results, count_text, key, looks, model_names, percent_axis
from boundarygeo.plots.style import styled
from boundarygeo.results.statistics import Estimate
from boundarygeo.subspace.dimension import AdversarialDimension
from boundarygeo.subspace.summary import at_least, included

_LEFT = 0.7  # left end of the curves: up to 1, the share with at least one
_SHORT = 32  # longest legend entry, in characters, of which three fit side by side


def dimension_at_least(
    results: AdversarialDimension | Sequence[AdversarialDimension],
    *,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of the examples with at least k orthogonal adversarial directions, against k, with 95 % Wilson bands.

    The curves of Tramèr et al. 2018. Each model has a colour and each setting (ε, norm, method, rule, box) a line
    style; with one model, settings have colours, too. A triangle marks a share limited by the cap.

    Args:
        results: one result, or several of any models and settings.
        names: name of the model of each result, as in `accuracy_curves`.
        ax: axes to draw on; by default new ones.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no results, one has no correctly classified example, or `names` has another length.
    """
    several = [results] if isinstance(results, AdversarialDimension) else list(results)
    check_results(several, AdversarialDimension, "results")
    models = model_names(several, names)
    for result, name in zip(several, models, strict=True):
        if not bool(result.correct.any()):
            raise ValueError(f"{name} classifies no example correctly: there is nothing to draw")
    kinds, common = _kinds(several)
    with styled():
        entries = key(models, kinds) if len(several) > 1 else []
        rows = len(entries) if max(map(len, (*models, *kinds))) > _SHORT else -(-len(entries) // 3)
        axes = axes_or_new(ax, figsize=(7.0, 3.6 + 0.2 * rows))
        for result, look in zip(several, looks(models, kinds), strict=True):
            draw_at_least(axes, *at_least(result), color=look.color, style=look.style)
        at_least_axes(axes, max(int(included(result).max()) for result in several), COUNT)
        notes = [
            f"n = {count_text([int(result.correct.sum()) for result in several])} examples",
            "bands: 95 % (Wilson)",
        ]
        if any(bool(result.at_cap[result.correct].any()) for result in several):
            notes.append(f"▶ limited by the cap of {count_text([result.max_dimension for result in several])}")
        title = "\n".join(fitted(axes, words, mark) for words, mark in ((common, ", "), (notes, "; ")) if words)
        legend_above(axes, entries, title, columns=-(-len(entries) // rows) if rows else 1)
    return axes


def draw_at_least(
    axes: Axes, sizes: NDArray[np.intp], shares: Sequence[Estimate], *, color: Any, style: Any, alpha: float = 0.15
) -> None:
    """Draw the shares of examples with at least each size, with a band, and a triangle where they end above zero."""
    k = np.concatenate([[_LEFT], sizes])
    # The share with at least t is constant between whole numbers and steps down after each.
    value, low, high = ([ends[0], *ends] for ends in zip(*((e.value, e.low, e.high) for e in shares), strict=True))
    axes.fill_between(k, low, high, step="pre", color=color, alpha=alpha, lw=0)
    axes.step(k, value, where="pre", color=color, ls=style, lw=1.6)
    if value[-1]:
        axes.plot(k[-1], value[-1], color=color, marker=">", ms=6, clip_on=False, zorder=3)


def at_least_axes(axes: Axes, reach: int, what: str) -> None:
    """Set up axes for such curves: percent against logarithmic k up to the largest count of any curve, `reach`."""
    percent_axis(axes, "examples with at least k directions")
    axes.set_xscale("log")
    axes.set(xlabel=f"k, {what}", xlim=(_LEFT, max(1.1 * reach, 2.0)))
    ticks = range(1, 11) if reach < 10 else [step * 10**decade for decade in range(7) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if tick <= 1.1 * reach], minor=False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _kinds(results: Sequence[AdversarialDimension]) -> tuple[list[str], list[str]]:
    """The settings that differ, for each result, and those that all results share."""
    settings = [settings_of(result) for result in results]
    common = [words for words in settings[0] if all(words in other for other in settings)]
    kinds = [", ".join(words for words in own if words not in common) for own in settings]
    return kinds, common
