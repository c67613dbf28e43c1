"""Certified accuracy against the radius, as a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from boundarygeo.defences.certification import CertifiedRadii
from boundarygeo.plots.cells import axes_or_new, place_legend
from boundarygeo.plots.comparison import check_results, count_text, key, looks, model_names, percent_axis
from boundarygeo.plots.style import styled

_MOST_STEPS = 257  # per curve; with more examples, the curve is evaluated at this many equally spaced radii


def certified_accuracy(
    radii: CertifiedRadii | Sequence[CertifiedRadii], *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Share of correctly classified examples certified up to a radius, against it, with 95 % Wilson bands.

    Each model has a colour and each σ a line style; with one model, σ have colours, too. Abstentions count as errors. A
    curve ends at the largest radius that its number of noise vectors can certify.

    Args:
        radii: one result, or several of any models and σ.
        names: name of the model of each result; results with the same name share a colour. By default "model 1" and so
            on, by the weights of the models.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if there are no results, or the number of names is not that of the results.
    """
    several = [radii] if isinstance(radii, CertifiedRadii) else list(radii)
    check_results(several, CertifiedRadii, "radii")
    models = model_names(several, names)
    levels = [f"σ = {result.sigma:.4g}" for result in several]
    with styled():
        axes = axes_or_new(ax, figsize=(7.0, 3.8))
        for result, look in zip(several, looks(models, levels), strict=True):
            steps = np.unique(np.append(result.radius.numpy(), [0.0, result.largest]))
            if len(steps) > _MOST_STEPS:
                steps = np.linspace(0, result.largest, _MOST_STEPS)
            shares = result.accuracy_at(steps.tolist())
            low, high = ([getattr(estimate, end) for estimate in shares] for end in ("low", "high"))
            # The certificate includes its radius: the share falls just after it.
            axes.fill_between(steps, low, high, step="pre", color=look.color, alpha=0.15, lw=0)
            axes.step(
                steps, [estimate.value for estimate in shares], where="pre", color=look.color, ls=look.style, lw=1.6
            )
        percent_axis(axes, "certified accuracy")
        failures = sorted({result.alpha for result in several})
        axes.set(xlabel="radius (L2, input units)", xlim=(0, None))
        axes.set_title(
            f"n = {count_text([len(result.radius) for result in several])}; bands: 95 % (Wilson); "
            f"each certificate fails with probability ≤ {failures[-1]:g}",
            fontsize="medium",
        )
        place_legend(axes, key(models, levels), None, handlelength=2.8)
    return axes
