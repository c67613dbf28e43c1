"""Accuracy against ε as a figure: one curve per model, with its interval."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from boundarygeo.plots.cells import axes_or_new
from boundarygeo.plots.style import STYLE, class_colors
from boundarygeo.sections.accuracy import AccuracyCurve

_NORM_NAMES = {"l2": "L2", "linf": "L∞"}
_MARKERS = "osD^vP*X"
_MOST_TICKS = 12
_GREY_LEVELS = 255


def accuracy_curves(
    curves: AccuracyCurve | Sequence[AccuracyCurve], *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against ε for several models or attacks, with the 95 % intervals as bands.

    Args:
        curves: one curve, or several in one norm.
        names: name of each curve, for the legend; by default the attack, and "model 1" and so on where there are
            several.
        ax: axes to draw on; by default those of a new pyplot figure.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no curves, their norms differ, or the number of names is not that of the curves.
    """
    several = [curves] if isinstance(curves, AccuracyCurve) else list(curves)
    _check(several, names)
    norm = several[0].norm
    with mpl.rc_context(STYLE):
        axes = axes_or_new(ax, figsize=(5.6, 3.8))
        colors = class_colors(len(several))
        labels = _default_names(several) if names is None else list(names)
        for number, (curve, color, label) in enumerate(zip(several, colors, labels, strict=True)):
            eps = curve.eps.numpy()
            axes.fill_between(eps, curve.low.numpy(), curve.high.numpy(), color=color, alpha=0.18, lw=0)
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(eps, curve.accuracy.numpy(), color=color, marker=marker, ms=4, lw=1.6, label=label)
        sizes = np.unique(np.concatenate([curve.eps.numpy() for curve in several]))
        _label_sizes(axes, sizes)
        axes.set_xlabel(f"ε ({_NORM_NAMES[norm]}, input units)")
        axes.set(ylabel="accuracy", ylim=(-0.02, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y", color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        examples = sorted({curve.n for curve in several})
        count = f"{examples[0]}" if len(examples) == 1 else f"{examples[0]} to {examples[-1]}"
        axes.set_title(f"n = {count} examples; bands: 95 % (Wilson)", fontsize="medium")
        axes.legend(frameon=False)
    return axes


def _check(curves: Sequence[AccuracyCurve], names: Sequence[str] | None) -> None:
    if not curves:
        raise ValueError("curves must have at least one entry, got none")
    for curve in curves:
        if not isinstance(curve, AccuracyCurve):
            raise TypeError(f"curves must be AccuracyCurve results, got {type(curve).__name__}")
    norms = sorted({curve.norm for curve in curves})
    if len(norms) > 1:
        raise ValueError(f"curves must be in one norm, got {norms}")
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of names, got {names!r}")
    if names is not None and len(names) != len(curves):
        raise ValueError(f"names must have {len(curves)} entries, one per curve, got {len(names)}")


def _default_names(curves: Sequence[AccuracyCurve]) -> list[str]:
    attacks = [curve.attack.upper() for curve in curves]
    if len(curves) == 1:
        return attacks
    models = list(dict.fromkeys(curve.provenance.model for curve in curves))
    if len(models) == 1:
        return attacks
    return [
        f"model {models.index(curve.provenance.model) + 1}, {attack}"
        for curve, attack in zip(curves, attacks, strict=True)
    ]


def _label_sizes(axes: Axes, sizes: np.ndarray) -> None:
    """Ticks k/255 where all sizes are multiples of a grey level of 8-bit images."""
    levels = sizes * _GREY_LEVELS
    if not np.allclose(levels, levels.round(), atol=1e-3) or levels[-1] > _GREY_LEVELS or levels[-1] < 1:
        return
    ticks = np.unique(levels.round().astype(int))
    if len(ticks) > _MOST_TICKS:
        ticks = ticks[:: -(-len(ticks) // _MOST_TICKS)]
    axes.set_xticks(ticks / _GREY_LEVELS, [f"{tick}/{_GREY_LEVELS}" if tick else "0" for tick in ticks])
