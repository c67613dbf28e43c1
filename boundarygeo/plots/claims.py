"""First-order claims against verified counts, as a figure."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from boundarygeo.plots.captions import settings_of
from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import check_results
from boundarygeo.plots.style import CLASS_COLORS, styled
from boundarygeo.results.statistics import share
from boundarygeo.subspace.dimension import AdversarialDimension
from boundarygeo.subspace.summary import included

_SIDES = {
    "fewer than claimed": (CLASS_COLORS[0], "o"),
    "as many": ("0.35", "o"),
    "more than claimed": (CLASS_COLORS[1], "o"),
    "at the cap, claimed\nas many or more": (CLASS_COLORS[4], "^"),
}
_SMALLEST, _LARGEST = 14.0, 320.0  # areas of the markers, in points²
_CROWDED = 200  # above this there is room for fewer ticks


def claimed_verified(result: AdversarialDimension, *, ax: Axes | None = None) -> Axes:
    """First-order against verified count of each example, on logarithmic axes that include zero.

    A marker's area grows with the number of examples at the same point. An example at the cap may have any larger
    number of directions, so if its claim is at or above the cap, it is unknown which of the two is larger.

    The claim is for γ and ignores the bounds; the verified count respects them unless `box="ignore"`.

    Args:
        result: result of `adversarial_dimension`.
        ax: axes to draw on; by default new ones.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if no example is classified correctly.
    """
    check_results([result], AdversarialDimension, "result")
    claimed, verified = included(result, result.claimed), included(result)
    n, cap = len(verified), result.max_dimension
    if not n:
        raise ValueError("no example of result is classified correctly: there is nothing to draw")
    unknown = (verified >= cap) & (claimed >= cap)
    sides = (
        ~unknown & (verified < claimed),
        ~unknown & (verified == claimed),
        ~unknown & (verified > claimed),
        unknown,
    )
    places, which, together = np.unique([claimed, verified], axis=1, return_inverse=True, return_counts=True)
    area = np.maximum(_SMALLEST * together * min(1.0, _LARGEST / (_SMALLEST * together.max())), _SMALLEST / 2)
    reach = 1.6 * max(claimed.max(), verified.max(), 1.0)
    with styled():
        axes = axes_or_new(ax, figsize=(6.6, 3.9))
        axes.plot([0, reach], [0, reach], color="0.6", lw=1.0, ls="--", zorder=1)
        entries = [Line2D([], [], color="0.6", lw=1.0, ls="--", label="verified = claimed")]
        for (name, (color, marker)), here in zip(_SIDES.items(), sides, strict=True):
            mine = np.unique(which[here])
            axes.scatter(*places[:, mine], s=area[mine], color=color, marker=marker, alpha=0.75, lw=0, zorder=2)
            label = f"{name}:\n{share(int(here.sum()), n).percent()}"
            if here.any() or name != list(_SIDES)[-1]:
                entries.append(Line2D([], [], color=color, marker=marker, ls="none", ms=6, alpha=0.75, label=label))
        if (verified >= cap).any():
            axes.axhline(cap, color="0.6", lw=0.8, ls=":", zorder=1)
            axes.annotate(f"cap {cap}", (0.02, cap), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
        _count_axis(axes, reach)
        axes.set(xlabel="claimed to first order", ylabel="verified on the network")
        place_legend(axes, entries, f"n = {n:,} examples; area: how many")
        words = settings_of(result)
        axes.set_title(f"{', '.join(words[:2])},\n{', '.join(words[2:])}", fontsize="medium", loc="left")
    return axes


def _count_axis(axes: Axes, reach: float) -> None:
    """Scale both axes alike: linear from 0 to 1, logarithmic beyond."""
    named = (1, 2, 5) if reach <= _CROWDED else (1, 3)
    steps = [0.0, *(step * 10**decade for decade in range(7) for step in named)]
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    axes.set(xlim=(-0.5, reach), ylim=(-0.5, reach), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([step for step in steps if step <= reach]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
