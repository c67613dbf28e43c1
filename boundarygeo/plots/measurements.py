"""Measurements of an instrument on many classifiers as a figure: a panel per quantity, a line per method."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from boundarygeo.comparison.rows import Comparison, Row
from boundarygeo.plots.comparison import level_text
from boundarygeo.plots.style import NotebookFigure, shown_colors, styled

_MOST_COLUMNS = 3
_MINUS = "\N{MINUS SIGN}"
_PANEL = 2.6  # width, in inches
_LINE = 0.34  # height of a line, in inches
_SPREAD = 0.5  # height of all seeds together, in lines
_LETTER = 0.065  # width of a letter of the group names, in inches
_TITLE = 34  # letters of a quantity in one line


def measurements(comparison: Comparison, instrument: str) -> Figure:
    """Each quantity of one instrument: a point with its 95 % interval per classifier, a bar for the group's mean.

    Each group has a line and a colour; its seeds are drawn below one another, in the order of the comparison. Infinite
    medians (beyond the search range) are arrows at the right edge; signs of masked gradients have a red ring.

    Args:
        comparison: result of `boundarygeo.compare`.
        instrument: one of its instruments.

    Raises:
        ValueError: if the instrument was not used, or measured nothing.
    """
    quantities = comparison.quantities(instrument)
    if not quantities:
        raise ValueError(f"instrument {instrument!r} has no measurements to draw")
    groups = list(dict.fromkeys(comparison.groups))
    spreads = {(spread.group, spread.quantity): spread for spread in comparison.spreads(instrument)}
    columns = 2 if len(quantities) == 4 else min(len(quantities), _MOST_COLUMNS)
    lines = math.ceil(len(quantities) / columns)
    with styled():
        width = columns * _PANEL + _LETTER * max(len(group) for group in groups) + 0.3
        figure = NotebookFigure(figsize=(width, lines * (_LINE * len(groups) + 1.1) + 0.6), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        panels = grid.flat
        infinite = flagged = False
        for axes, quantity in zip(panels, quantities, strict=False):
            rows = [row for group in groups if (group, quantity) in spreads for row in spreads[group, quantity].rows]
            _draw(axes, rows, groups)
            for number, group in enumerate(groups):
                spread = spreads.get((group, quantity))
                if spread and len(spread.rows) > 1 and math.isfinite(spread.mean):
                    axes.plot([spread.mean] * 2, [number - 0.4, number + 0.4], color="0.15", lw=1.6, zorder=4)
            axes.set_title(_wrapped(quantity, _TITLE), fontsize="medium")
            infinite |= any(math.isinf(row.measured.estimate.value) for row in rows)
            flagged |= any(row.measured.flagged for row in rows)
        for axes in grid.flat[len(quantities) :]:
            axes.axis("off")
        grid[0, 0].set_yticks(range(len(groups)), groups)
        grid[0, 0].set_ylim(len(groups) - 0.4, -0.6)
        figure.suptitle(_wrapped(comparison.notes[instrument], max(30, round(width * 15))), fontsize="small")
        several = len(groups) < len(comparison.groups)
        level = level_text(row.measured.estimate for row in comparison.rows if row.measured.instrument == instrument)
        entries = _legend(level, several=several, infinite=infinite, flagged=flagged)
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize="small")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], groups: Sequence[str]) -> None:
    """Points and intervals of one quantity."""
    colors = shown_colors(range(len(groups)), len(groups))
    seeds = {group: [row for row in rows if row.group == group] for group in groups}
    ends = [end for row in rows for end in _ends(row) if math.isfinite(end)]
    edge = 1.08 * max(ends, default=1.0)  # position of infinite values
    for number, group in enumerate(groups):
        count = len(seeds[group])
        steps = np.linspace(-0.5, 0.5, count) * _SPREAD if count > 1 else np.zeros(count)
        for row, step in zip(seeds[group], steps, strict=True):
            estimate, y = row.measured.estimate, number + float(step)
            if math.isnan(estimate.value):
                continue
            beyond = math.isinf(estimate.value)
            if estimate.has_interval:
                interval = [min(end, edge) for end in (estimate.low, estimate.high)]
                axes.plot(interval, [y, y], color=colors[number], lw=1.3, solid_capstyle="butt", zorder=2)
            at = edge if beyond else estimate.value
            axes.plot([at], [y], marker=">" if beyond else "o", ms=5, color=colors[number], zorder=3)
            if row.measured.flagged:
                axes.plot([at], [y], marker="o", ms=10, mfc="none", mec="#cc0000", mew=1.5, zorder=5)
    unit = rows[0].measured.unit if rows else ""
    if unit == "share":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %".replace("-", _MINUS)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4) if ends else NullLocator())
    statistic = rows[0].measured.statistic if rows else ""
    masking = bool(rows) and rows[0].measured.instrument == "masking"
    of_share = "difference of accuracy" if masking else "share"
    axes.set_xlabel(of_share if unit == "share" else ", ".join(part for part in (statistic, unit) if part))
    axes.grid(axis="x", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    if masking:
        axes.axvline(0.0, color="0.6", lw=1.0, zorder=1)


def _ends(row: Row) -> tuple[float, float, float]:
    estimate = row.measured.estimate
    return estimate.value, estimate.low, estimate.high


def _legend(level: str, *, several: bool, infinite: bool, flagged: bool) -> list[Line2D]:
    grey = "0.35"
    entries = [Line2D([], [], color=grey, lw=1.3, marker="o", ms=5, label=f"one model, {level} interval")]
    if several:
        entries.append(Line2D([], [], color="0.15", ls="", marker="|", ms=11, mew=1.6, label="mean over the seeds"))
    if infinite:
        entries.append(Line2D([], [], color=grey, ls="", marker=">", ms=5, label="median beyond reach"))
    if flagged:
        ring = Line2D([], [], ls="", marker="o", ms=10, mfc="none", mec="#cc0000", mew=1.5, label="flagged")
        entries.append(ring)
    return entries


def _wrapped(text: str, length: int) -> str:
    return textwrap.fill(text, length, break_long_words=False, break_on_hyphens=False)
