"""A classifier's behaviour between two examples as a figure: misses and gradients against λ."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from boundarygeo.lines.segments import SegmentCurves
from boundarygeo.plots.comparison import (
    check_results,
    count_text,
    key,
    level_text,
    looks,
    model_names,
    percent_axis,
)
from boundarygeo.plots.curves import draw_band
from boundarygeo.plots.style import NotebookFigure, styled
from boundarygeo.results.statistics import mean

_WEIGHT = "weight λ of the first example"


def segments(curves: SegmentCurves | Sequence[SegmentCurves], *, names: Sequence[str] | None = None) -> Figure:
    """Share of misses and norm of the input gradient against λ, with 95 % bands (Zhang et al. 2018, Fig. 2).

    Each model has a colour, and pairs of the same class, of different classes, and of both have a line style each; with
    one model, they have colours, too.

    Args:
        curves: one result, or several of any models and kinds of pairs.
        names: name of the model of each result, as in `accuracy_curves`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there are no results, or `names` has another length.
    """
    several = [curves] if isinstance(curves, SegmentCurves) else list(curves)
    check_results(several, SegmentCurves, "curves")
    models = model_names(several, names)
    kinds = [_kind(result) for result in several]
    with styled():
        figure = NotebookFigure(figsize=(9.6, 3.6), layout="constrained")
        misses, gradients = figure.subplots(1, 2)
        for result, look in zip(several, looks(models, kinds), strict=True):
            draw_band(misses, result.lam, (result.miss, result.miss_low, result.miss_high), look)
            draw_band(gradients, result.lam, (result.gradient, result.gradient_low, result.gradient_high), look)
        counts = count_text([result.n for result in several])
        percent_axis(misses, "misses: predictions of neither class")
        highest = max(float(result.miss_high.max()) for result in several)
        misses.set(xlabel=_WEIGHT, ylim=(-0.02 * highest, 1.05 * highest), xlim=(0, 1))
        misses.set_title(f"n = {counts} pairs; bands: 95 % (Wilson)", fontsize="medium")
        gradients.grid(axis="y", color="0.9", lw=0.8)
        gradients.set_axisbelow(True)
        gradients.set(xlabel=_WEIGHT, ylabel="mean norm of the loss's input gradient\n(L2, loss per input unit)")
        gradients.set(xlim=(0, 1), ylim=(0, None))
        means = [mean(column.numpy()) for result in several for column in result.gradient_norm.T]
        gradients.set_title(f"n = {counts} pairs; bands: {level_text(means)}", fontsize="medium")
        title = kinds[0] if len(set(models)) > 1 and len(set(kinds)) == 1 else None
        figure.legend(
            handles=key(models, kinds), title=title, loc="outside right upper", frameon=False, handlelength=2.8
        )
    return figure


def _kind(result: SegmentCurves) -> str:
    if bool(result.same.all()):
        return "pairs of one class"
    return "pairs of any classes" if bool(result.same.any()) else "pairs of two classes"
