"""Distances of successive orthogonal adversarial directions, as a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from boundarygeo.choices import BOX_NAMES
from boundarygeo.plots.comparison import Look, check_results, count_text, key, looks, model_names, percent_axis
from boundarygeo.plots.style import NotebookFigure, styled
from boundarygeo.results.statistics import share
from boundarygeo.subspace.sequential.sequential import SequentialDirections

_QUARTILES = (0.25, 0.5, 0.75)
_SHORT = 24  # longest legend entry, in characters, of which three fit side by side


def sequential_distances(
    results: SequentialDirections | Sequence[SequentialDirections],
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """Length of the first, second, … orthogonal adversarial direction: median and quartiles over the examples.

    An example with fewer directions counts as infinitely far: a median ends where fewer than half of the examples have
    a direction, and is never one over the remaining examples only. Below is the share of the examples that have the
    direction, with its 95 % Wilson band. Misclassified examples are left out.

    Args:
        results: result of `sequential_directions`, or several of any models and boxes.
        names: name of the model of each result; results with the same name share a colour. By default "model 1" and so
            on, by the weights of the models.

    Returns:
        The figure, not registered with pyplot.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no results, one has no correctly classified example, or the number of names is not that
            of the results.
    """
    several = [results] if isinstance(results, SequentialDirections) else list(results)
    check_results(several, SequentialDirections, "results")
    models = model_names(several, names)
    lengths = [_lengths(result, name) for result, name in zip(several, models, strict=True)]
    kinds = [BOX_NAMES[result.box] for result in several]
    with styled():
        figure = NotebookFigure(figsize=(7.0, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
        for distance, look in zip(lengths, looks(models, kinds), strict=True):
            _draw(above, below, distance, look)
        above.grid(axis="y", color="0.9", lw=0.8)
        above.set_axisbelow(True)
        above.set(ylabel="L2 distance, in input units", ylim=(0, None))
        percent_axis(below, "examples\nthat have it")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        # To one more than the largest number of directions, where the share is zero.
        last = max(min(int(np.isfinite(d).sum(1).max()) + 1, d.shape[1]) for d in lengths)
        below.set(xlabel="number of the direction, in the order of finding", xlim=(0.5, last + 0.5))
        limits = sorted({limit for result in several if (limit := result.eps) is not None})
        text = f"n = {count_text([len(distance) for distance in lengths])} examples; median and quartiles"
        if limits:
            text += f"; none longer than {', '.join(f'{limit:.4g}' for limit in limits)}"
        above.set_title(f"{text}, {kinds[0]}" if len(set(kinds)) == 1 else text, fontsize="medium")
        if len(several) > 1:
            # Above the panels: beside them it would leave no room for the title.
            entries = key(models, kinds)
            columns = 1 if max(map(len, (*models, *kinds))) > _SHORT else min(len(entries), 3)
            figure.legend(handles=entries, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.8)
    return figure


def _lengths(result: SequentialDirections, name: str) -> NDArray[np.float64]:
    """Lengths `[example, direction]` for correctly classified examples; inf after the last direction."""
    if not bool(result.valid.any()):
        raise ValueError(f"{name} classifies no example correctly: there is nothing to draw")
    return result.distance[result.valid].numpy()


def _draw(above: Axes, below: Axes, distance: NDArray[np.float64], look: Look) -> None:
    # No interpolation: there is no middle between a number and infinity.
    low, middle, high = np.quantile(distance, _QUARTILES, axis=0, method="inverted_cdf")
    number = np.arange(1, distance.shape[1] + 1)
    top = np.where(np.isfinite(high), high, np.nan)
    above.fill_between(number, low, top, where=np.isfinite(high).tolist(), color=look.color, alpha=0.15, lw=0)
    for values, line in ((low, 0.6), (middle, 1.6), (high, 0.6)):
        shown = np.where(np.isfinite(values), values, np.nan)
        above.plot(number, shown, color=look.color, ls=look.style, lw=line, marker="." if line > 1 else "", ms=4)
    shares = [share(int(hits), len(distance)) for hits in np.isfinite(distance).sum(0)]
    below.fill_between(number, [s.low for s in shares], [s.high for s in shares], color=look.color, alpha=0.15, lw=0)
    below.plot(number, [s.value for s in shares], color=look.color, ls=look.style, lw=1.6)
