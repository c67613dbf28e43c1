"""Distances to the decision boundary as a figure: share of labels changed within a distance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boundarygeo.lines.distances import BoundaryDistances
from boundarygeo.plots.comparison import Look, check_results, count_text, key, looks, model_names, percent_axis
from boundarygeo.plots.style import NotebookFigure, styled
from boundarygeo.results.statistics import share

_MOST_INTERVALS = 257  # exact intervals; with more examples, the others are interpolated


def distances(
    results: BoundaryDistances | Sequence[BoundaryDistances], *, names: Sequence[str] | None = None
) -> Figure:
    """Share of the examples whose label has changed within a distance, against the distance, with 95 % Wilson bands.

    Each model has a colour and each direction a line style; with one model, directions have colours, too. There is one
    panel per unit, because steps of ε in L∞ and in L2 cannot share an axis. Labels that do not change within the search
    range count as unchanged, so a curve ends there below 100 %; examples without a direction are left out, and counted
    in the title.

    Args:
        results: one result, or several of any models and directions.
        names: name of the model of each result, as in `accuracy_curves`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no results, one has no example with a direction, or `names` has another length.
    """
    several = [results] if isinstance(results, BoundaryDistances) else list(results)
    check_results(several, BoundaryDistances, "results")
    for result in several:
        if not bool(result.valid.any()):
            raise ValueError(f"no example has a direction along {result.name!r}: there is nothing to draw")
    models = model_names(several, names)
    directions = [result.name for result in several]
    units = list(dict.fromkeys(result.unit for result in several))
    with styled():
        figure = NotebookFigure(figsize=(4.4 * len(units) + 2.2, 3.8), layout="constrained")
        panels = dict(zip(units, figure.subplots(1, len(units), squeeze=False, sharey=True)[0], strict=True))
        for result, look in zip(several, looks(models, directions), strict=True):
            _draw_share(panels[result.unit], result, look)
        for number, (unit, axes) in enumerate(panels.items()):
            inside = [result for result in several if result.unit == unit]
            percent_axis(axes, "label changed within the distance" if number == 0 else "")
            axes.set(xlabel=f"distance, in {unit}", xlim=(0, max(result.max_distance for result in inside)))
            axes.set_title(_counts(inside), fontsize="medium")
        figure.legend(handles=key(models, directions), loc="outside right upper", frameon=False, handlelength=2.8)
    return figure


def _draw_share(axes: Axes, result: BoundaryDistances, look: Look) -> None:
    """A step up at each distance found; the last step extends to the end of the search range."""
    n = int(result.valid.sum())
    found = np.sort(result.distance.numpy()[result.found.numpy()])
    t = np.concatenate([[0.0], found, [result.max_distance]])
    hits = np.append(np.arange(len(found) + 1), len(found))
    at = np.unique(np.linspace(0, len(found), _MOST_INTERVALS).round().astype(int))
    intervals = [share(int(count), n) for count in at]
    low, high = (np.interp(hits, at, ends) for ends in ([e.low for e in intervals], [e.high for e in intervals]))
    axes.fill_between(t, low, high, step="post", color=look.color, alpha=0.15, lw=0)
    axes.step(t, hits / n, where="post", color=look.color, ls=look.style, lw=1.6)


def _counts(results: Sequence[BoundaryDistances]) -> str:
    counts = [int(result.valid.sum()) for result in results]
    missing = [int((~result.valid).sum()) for result in results]
    text = f"n = {count_text(counts)} examples"
    if any(missing):
        text += f" ({count_text(missing)} without a direction)"
    return f"{text}; bands: 95 % (Wilson)"
