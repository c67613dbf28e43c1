"""Singular values of hidden representations as a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from boundarygeo.plots.comparison import check_results, count_text, looks, model_names
from boundarygeo.plots.style import NotebookFigure, styled
from boundarygeo.representations import HiddenSpectrum

_MOST_RANKS = 50
_FLOOR = 1e-4
"""Share of a panel's largest value at which the logarithmic axis ends: smaller values are rounding errors."""


def spectrum(
    spectra: HiddenSpectrum | Sequence[HiddenSpectrum],
    *,
    names: Sequence[str] | None = None,
    centred: bool = False,
    ranks: int = _MOST_RANKS,
) -> Figure:
    """Singular values of each layer's representations against their rank: mean and range over the classes.

    One panel per layer, and a colour per model. Values are divided by √n of their class, so that they do not grow with
    the number of examples. The legends give the sum of all but the largest (not divided, not centred:
    `HiddenSpectrum.rest`), as a mean over the classes.

    Args:
        spectra: one result, or several with the same layers.
        names: name of the model of each result. By default "model 1" and so on, by the weights of the models.
        centred: whether to draw the spectra of the centred representations.
        ranks: number of largest values to draw.

    Returns:
        The figure, not registered with pyplot.

    Raises:
        ValueError: if there are no results, their layers differ, `ranks` is below 2, or the number of names is not that
            of the results.
    """
    several = [spectra] if isinstance(spectra, HiddenSpectrum) else list(spectra)
    check_results(several, HiddenSpectrum, "spectra")
    layers = several[0].layers
    if any(result.layers != layers for result in several):
        raise ValueError(f"spectra must be of the same layers, got {sorted({str(r.layers) for r in several})}")
    if ranks < 2:
        raise ValueError(f"ranks must be at least 2, got {ranks}")
    models = model_names(several, names)
    kind = "centred" if centred else "not centred"
    with styled():
        figure = NotebookFigure(figsize=(3.6 * len(layers), 3.8), layout="constrained")
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for number, (axes, layer) in enumerate(zip(panels, layers, strict=True)):
            scaled = [_scaled(result, number, centred) for result in several]
            for values, result, model, look in zip(
                scaled, several, models, looks(models, [kind] * len(several)), strict=True
            ):
                label = f"{model}: {result.rest[number].mean():.1f}"
                _draw(axes, values[:, :ranks], look.color, label)
            drawn = np.concatenate([values[:, :ranks].ravel() for values in scaled])
            top = float(np.nanmax(drawn))
            bottom = max(0.7 * float(np.nanmin(drawn)), _FLOOR * top)
            axes.set(yscale="log", ylim=(bottom, 4 * top), xlabel="rank")  # with room for the legend
            axes.set_title(f"layer {layer!r}, {int(several[0].features[number]):,} features", fontsize="medium")
            axes.grid(color="0.9", lw=0.8)
            axes.set_axisbelow(True)
            axes.yaxis.set_major_formatter(LogFormatter())  # without TeX
            axes.yaxis.set_minor_formatter(LogFormatter())
            lines = axes.get_lines()  # even if their names start with an underscore
            legend = axes.legend(handles=lines, loc="upper right", fontsize="small", frameon=False)
            legend.set_title("sum of all but the largest, not centred", prop={"size": "small"})
        panels[0].set_ylabel(f"singular value / √n, {kind}")
        counts = count_text([int(count) for result in several for count in result.n])
        figure.suptitle(f"lines: mean of the classes; bands: their range; n = {counts} examples a class", fontsize=9)
    return figure


def _scaled(result: HiddenSpectrum, layer: int, centred: bool) -> NDArray[np.float64]:
    values = (result.centred if centred else result.values)[layer].numpy()
    return values / np.sqrt(result.n.numpy())[:, None]


def _draw(axes: Axes, values: NDArray[np.float64], color: tuple[float, float, float], label: str) -> None:
    """Mean and range over the classes, for ranks that every class has."""
    shown = values[:, ~np.isnan(values).any(0)]
    rank = np.arange(1, shown.shape[1] + 1)
    axes.fill_between(rank, shown.min(0), shown.max(0), color=color, alpha=0.15, lw=0)
    axes.plot(rank, shown.mean(0), color=color, lw=1.6, label=label)
