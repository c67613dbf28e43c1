"""Turning of the input gradient along a line, as a figure."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes

from boundarygeo.lines.straightness import GradientCosines
from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import check_results, common_unit, count_text, key, looks, model_names
from boundarygeo.plots.curves import draw_band
from boundarygeo.plots.style import few_ticks, styled

_QUARTILES = (0.25, 0.5, 0.75)


def straightness(
    cosines: GradientCosines | Sequence[GradientCosines], *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Cosine between the input gradient at the example and along its line: median and quartiles over the examples.

    A network that is affine along the line has cosine 1 everywhere. Each model has a colour and each direction a line
    style; with one model, directions have colours, too. Points without a gradient are left out.

    Args:
        cosines: one result, or several with the same unit.
        names: name of the model of each result, as in `accuracy_curves`.
        ax: axes to draw on; by default new ones.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no results, their units differ, or `names` has another length.
    """
    several = [cosines] if isinstance(cosines, GradientCosines) else list(cosines)
    check_results(several, GradientCosines, "cosines")
    unit = common_unit(several, "cosines")
    models = model_names(several, names)
    directions = [result.name for result in several]
    with styled():
        axes = axes_or_new(ax, figsize=(7.0, 3.8))
        for result, look in zip(several, looks(models, directions), strict=True):
            order = result.t.argsort()
            shares = torch.tensor(_QUARTILES, dtype=torch.float64)
            low, middle, high = torch.nanquantile(result.cosine[:, order], shares, dim=0)
            draw_band(axes, result.t[order], (middle, low, high), look)
        axes.axvline(0.0, color="0.6", lw=0.8, ls=":")
        axes.grid(axis="y", color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0)
        few_ticks(axes)
        clipped = sorted({result.clip for result in several})
        inputs = "; inputs clipped to the bounds" if clipped == [True] else ""
        along = f"{directions[0]}, in {unit}" if len(set(directions)) == 1 else f"step, in {unit}"
        axes.set(xlabel=f"{along}{inputs}", ylabel="cosine with the gradient at 0", ylim=(None, 1.02))
        counts = [int(result.cosine.isfinite().any(1).sum()) for result in several]
        axes.set_title(f"n = {count_text(counts)} examples; median and quartiles", fontsize="medium")
        if len(several) > 1:  # for one, the axis suffices
            place_legend(axes, key(models, directions), None, handlelength=2.8)
    return axes
