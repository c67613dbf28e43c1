"""Curves of several models in one figure: a colour per model, a line style per kind of curve, and the legend."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from boundarygeo.plots.style import shown_colors
from boundarygeo.results import Result
from boundarygeo.results.statistics import CONFIDENCE, Estimate

LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Look:
    """Colour (RGB) and line style of one curve, and the marker if it has few points."""

    color: tuple[float, float, float]
    style: Any
    marker: str


def model_names(results: Sequence[Result], names: Sequence[str] | None) -> list[str]:
    """Name of each result's model: the given names, or "model 1" and so on by the hash of the weights."""
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of names, got {names!r}")
    if names is not None:
        if len(names) != len(results):
            raise ValueError(f"names must have {len(results)} entries, one per result, got {len(names)}")
        return list(names)
    hashes = _distinct([result.provenance.model for result in results])
    return [f"model {hashes.index(result.provenance.model) + 1}" for result in results]


def check_results(results: Sequence[Any], kind: type[Result], name: str) -> None:
    """Check that an argument holds one result or more, all of one type."""
    if not results:
        raise ValueError(f"{name} must have at least one entry, got none")
    for result in results:
        if not isinstance(result, kind):
            raise TypeError(f"{name} must be {kind.__name__} results, got {type(result).__name__}")


def looks(models: Sequence[str], kinds: Sequence[str]) -> list[Look]:
    """Look of each curve: the colour shows the model (with a single one, the kind), the line style the kind."""
    colored = models if len(set(models)) > 1 else kinds
    with_color, with_style = _distinct(colored), _distinct(kinds)
    colors = shown_colors(range(len(with_color)), len(with_color)).tolist()
    chosen = []
    for what, kind in zip(colored, kinds, strict=True):
        number = with_color.index(what)
        style = LINE_STYLES[with_style.index(kind) % len(LINE_STYLES)]
        chosen.append(Look(tuple(colors[number]), style, MARKERS[number % len(MARKERS)]))
    return chosen


def key(models: Sequence[str], kinds: Sequence[str], *, markers: bool = False) -> list[Line2D]:
    """Entries of the legend: a colour per model, then a line style per kind, if there are several."""
    several_models, several_kinds = len(set(models)) > 1, len(set(kinds)) > 1
    entries: dict[str, Line2D] = {}

    def enter(what: str, label: str, color: Any, style: Any, marker: str) -> None:
        line = Line2D([], [], color=color, ls=style, lw=1.8, marker=marker if markers else "", ms=4, label=label)
        entries.setdefault(f"{what} {label}", line)

    for look, model in zip(looks(models, kinds), models, strict=True):
        if several_models:
            enter("model", model, look.color, "-", look.marker)
    for look, kind in zip(looks(models, kinds), kinds, strict=True):
        if several_models and several_kinds:
            enter("kind", kind, "0.25", look.style, "")
        elif not several_models:
            enter("kind", kind, look.color, look.style, look.marker)
    return list(entries.values())


def common_unit(results: Sequence[Any], name: str) -> str:
    """The one unit of several results."""
    units = _distinct([result.unit for result in results])
    if len(units) > 1:
        raise ValueError(f"{name} must have the same unit, got {units}")
    return units[0]


def percent_axis(axes: Axes, label: str) -> None:
    """A vertical axis from 0 to 100 % with a light grid."""
    axes.set(ylabel=label, ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="0.9", lw=0.8)
    axes.set_axisbelow(True)


def count_text(counts: Sequence[int]) -> str:
    """Numbers of examples, as a range if they differ.

    >>> count_text([100, 100]), count_text([98, 100])
    ('100', '98 to 100')
    """
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def level_text(estimates: Iterable[Estimate]) -> str:
    """Coverage of the intervals drawn, as a range if it differs.

    >>> level_text([Estimate(0.5, 0.3, 0.7, 20)]), level_text([Estimate(2, 1, 4, 3, 0.75), Estimate(3, 1, 5, 20)])
    ('95 %', '75 to 95 %')
    """
    levels = [round(100 * estimate.confidence) for estimate in estimates if estimate.has_interval]
    return f"{count_text(levels or [round(100 * CONFIDENCE)])} %"


def _distinct(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))
