"""Accuracy against ε as a figure: one curve with its interval per model and attack."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from boundarygeo.attacks.accuracy import AccuracyCurve
from boundarygeo.choices import ATTACKS, NORM_NAMES
from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import Look, check_results, count_text, key, looks, model_names, percent_axis
from boundarygeo.plots.style import styled

_MOST_TICKS = 12
_GREY_LEVELS = 255


def accuracy_curves(
    curves: AccuracyCurve | Sequence[AccuracyCurve], *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against ε for several models and attacks, with 95 % intervals as bands.

    Each model has a colour and each attack a line style; with one model, attacks have colours, too.

    Args:
        curves: one curve, or several in one norm.
        names: name of the model of each curve; curves with the same name share a colour. By default "model 1" and so
            on, by the weights of the models.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no curves, their norms differ, or `names` has another length.
    """
    several = [curves] if isinstance(curves, AccuracyCurve) else list(curves)
    check_results(several, AccuracyCurve, "curves")
    norms = sorted({curve.norm for curve in several})
    if len(norms) > 1:
        raise ValueError(f"curves must have the same norm, got {norms}")
    models = model_names(several, names)
    attacks = [curve.attack.upper() if curve.attack in ATTACKS else curve.attack for curve in several]
    with styled():
        axes = axes_or_new(ax, figsize=(7.0, 3.8))
        for curve, look in zip(several, looks(models, attacks), strict=True):
            draw_band(axes, curve.eps, (curve.accuracy, curve.low, curve.high), look, marker=look.marker, ms=4)
        sizes = np.unique(np.concatenate([curve.eps.numpy() for curve in several]))
        _label_sizes(axes, sizes)
        axes.set_xlabel(f"ε ({NORM_NAMES[norms[0]]}, input units)")
        percent_axis(axes, "accuracy")
        axes.set_title(
            f"n = {count_text([curve.n for curve in several])} examples; bands: 95 % (Wilson)", fontsize="medium"
        )
        # With one attack for several models, it is named in the title of the legend.
        title = attacks[0] if len(set(models)) > 1 and len(set(attacks)) == 1 else None
        place_legend(axes, key(models, attacks, markers=True), title, handlelength=2.8)
    return axes


def draw_band(axes: Axes, x: Tensor, values: tuple[Tensor, Tensor, Tensor], look: Look, **line: Any) -> None:
    """Draw a curve, and a band from its lower to its upper end."""
    middle, low, high = values
    axes.fill_between(x.numpy(), low.numpy(), high.numpy(), color=look.color, alpha=0.15, lw=0)
    axes.plot(x.numpy(), middle.numpy(), color=look.color, ls=look.style, lw=1.6, **line)


def _label_sizes(axes: Axes, sizes: np.ndarray) -> None:
    """Ticks k/255 if all sizes are multiples of a grey level of 8-bit images."""
    levels = sizes * _GREY_LEVELS
    if not np.allclose(levels, levels.round(), atol=1e-3) or levels[-1] > _GREY_LEVELS or levels[-1] < 1:
        return
    ticks = np.unique(levels.round().astype(int))
    if len(ticks) > _MOST_TICKS:
        ticks = ticks[:: -(-len(ticks) // _MOST_TICKS)]
    axes.set_xticks(ticks / _GREY_LEVELS, [f"{tick}/{_GREY_LEVELS}" if tick else "0" for tick in ticks])
