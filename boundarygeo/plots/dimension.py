"""The distribution of the dimension of adversarial subspaces, as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray

from boundarygeo.plots.captions import COUNT, HANDLE, fitted, legend_above, settings_of
from boundarygeo.plots.cells import axes_or_new
from boundarygeo.plots.comparison import LINE_STYLES, check_results, model_names, percent_axis
from boundarygeo.plots.style import shown_colors, styled
from boundarygeo.results.statistics import mean
from boundarygeo.subspace.dimension import AdversarialDimension
from boundarygeo.subspace.summary import dimension_summary, included
from boundarygeo.transfer.dimension import TransferredDimension

_WIDTHS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000)
_MOST_BINS = 40
_STEM = 5.0  # spacing of the stems, in points
_WIDTH_POINTS = 400.0  # about the width of the axes


@dataclass(frozen=True, eq=False)
class _Counts:
    """Counts of one model."""

    name: str
    numbers: NDArray[np.float64]
    cap: int

    @property
    def at_zero(self) -> float:
        return float((self.numbers == 0).mean())

    @property
    def at_cap(self) -> float:
        return float((self.numbers >= self.cap).mean())


def dimension(
    result: AdversarialDimension,
    transferred: TransferredDimension | Sequence[TransferredDimension] = (),
    *,
    names: Sequence[str] | None = None,
    width: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Distribution over the examples of the number of directions that fool a model, and of those that fool others.

    The figure of Tramèr et al. 2017. Between zero and the cap it is a histogram, normalised to a density: the share of
    the examples per `width` directions. The shares at zero and at the cap (where an example may have any larger number)
    are shown separately, as stems, and in the legend. Misclassified examples (for transferred counts: by either model)
    are left out.

    Args:
        result: result of `adversarial_dimension`.
        transferred: result of `transferred_dimension` for the same directions, for one or several other models.
        names: names of the source and of each other model; by default "model 1" and so on, by the weights.
        width: counts per bin of the histogram; by default for at most 40 bins.
        ax: axes to draw on; by default those of a new pyplot figure.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a transferred count does not belong to the directions of `result`, all examples of a model are
            left out, `width` is not positive, or the number of names is not that of the models.
    """
    others = [transferred] if isinstance(transferred, TransferredDimension) else list(transferred)
    check_results([result], AdversarialDimension, "result")
    if others:
        check_results(others, TransferredDimension, "transferred")
    for other in others:
        same = len(other.index) == len(result.index) and bool((other.index == result.index).all())
        if not same or other.source_model != result.provenance.model:
            raise ValueError("transferred does not belong to the directions of result")
    if width is not None and width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    called = model_names([result, *others], names)
    source = _Counts(f"fool {called[0]}", included(result), result.max_dimension)
    targets = [
        _Counts(f"of these, fool {name}", other.count[other.correct].double().numpy(), other.max_dimension)
        for name, other in zip(called[1:], others, strict=True)
    ]
    every = [source, *targets]
    for name, counts in zip(called, every, strict=True):
        if not len(counts.numbers):
            raise ValueError(f"{name} classifies no example correctly: there is nothing to draw")
    size = _width(every) if width is None else width
    edges = _edges(every, size)
    with styled():
        axes = axes_or_new(ax, figsize=(7.0, 3.8))
        entries, tops = [], []
        for number, (counts, color) in enumerate(zip(every, shown_colors(range(len(every)), len(every)), strict=True)):
            style = LINE_STYLES[number % len(LINE_STYLES)]
            heights = _density(counts, edges, size)
            seen = np.where(heights > 0, heights, np.nan)  # empty bins are not outlined
            axes.stairs(seen, edges, color=color, alpha=0.2 if number == 0 else 0.1, fill=True)
            axes.stairs(seen, edges, color=color, ls=style, lw=1.6)
            # Stems of several models at the same count are shifted sideways, away from the histogram.
            for place, stem, marker, turn in (
                (0, counts.at_zero, "o", number - len(targets)),
                (counts.cap, counts.at_cap, ">", number),
            ):
                beside = offset_copy(axes.transData, fig=axes.get_figure(root=True), x=_STEM * turn, units="points")
                if stem:
                    axes.plot([place] * 2, [0, stem], color=color, lw=2.0, transform=beside, zorder=3)
                    axes.plot(place, stem, color=color, marker=marker, ms=5, transform=beside, zorder=3)
            tops.append(max(heights.max(initial=0.0), counts.at_zero, counts.at_cap))
            entries.append(
                Line2D([], [], color=color, ls=style, lw=1.8, label=fitted(axes, _words(counts), " ", taken=HANDLE))
            )
        percent_axis(axes, "share of examples" if size == 1 else f"density: share of examples\nper {size} directions")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        reach = max([edges[-1], *(counts.cap for counts in every if counts.at_cap)])
        room = (_STEM * len(every) + 4) * reach / _WIDTH_POINTS
        axes.set(xlabel=COUNT, xlim=(-room, reach + room), ylim=(0, 1.08 * max(tops)))
        note = f"stems: ● none, ▶ limited by the cap of {source.cap}"
        closed = dimension_summary(result).closed
        note += "" if closed is None else f"; {100 * closed.value:.0f} % proven maximal"
        legend_above(axes, entries, f"{fitted(axes, settings_of(result), ', ')}\n{note}")
    return axes


def _width(every: Sequence[_Counts]) -> int:
    """Counts per bin for a limited number of bins."""
    reach = max(counts.numbers.max() for counts in every)
    return next((width for width in _WIDTHS if reach <= width * _MOST_BINS), int(reach))


def _edges(every: Sequence[_Counts], width: int) -> NDArray[np.float64]:
    """Bin edges between counts, from below 1 to above the largest count under the cap; the last bin may be narrower."""
    below = [counts.numbers[counts.numbers < counts.cap].max(initial=1.0) for counts in every]
    limit = max(counts.cap for counts in every) - 1
    last = min(int(-(-max(below) // width)) * width, limit) if limit else 1
    return np.append(np.arange(0.5, last, width), last + 0.5)


def _density(counts: _Counts, edges: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Share of the examples per `width` directions in each bin, without those at zero and at the cap."""
    inside = counts.numbers[counts.numbers < counts.cap]
    return np.histogram(inside, edges)[0] / len(counts.numbers) * width / np.diff(edges)


def _words(counts: _Counts) -> list[str]:
    average = mean(counts.numbers, within=(0, np.inf))
    return [
        f"{counts.name}:",
        f"mean {average.plain(1)},",
        f"n = {len(counts.numbers):,};",
        f"none {100 * counts.at_zero:.0f} %,",
        f"at the cap {100 * counts.at_cap:.0f} %",
    ]
