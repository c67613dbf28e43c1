"""The dimension shared by several models, compared with chance, as a figure."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from boundarygeo.choices import BOX_NAMES, METHOD_NAMES, RULE_NAMES
from boundarygeo.plots.at_least import at_least_axes, draw_at_least
from boundarygeo.plots.captions import COUNT, fitted, legend_above
from boundarygeo.plots.cells import axes_or_new
from boundarygeo.plots.comparison import check_results
from boundarygeo.plots.style import CLASS_COLORS, styled
from boundarygeo.subspace.summary import at_least, included
from boundarygeo.transfer.shared import SharedDimension

_MODELS, _CHANCE = CLASS_COLORS[1], CLASS_COLORS[0]


def shared_dimension(result: SharedDimension, *, ax: Axes | None = None) -> Axes:
    """Share of the examples with at least k orthogonal directions that fool all models, compared with chance.

    Solid lines are counts verified on the networks, dashed ones first-order claims. For chance, all models but the
    first are rotated at random about the example (see `boundarygeo.shared_dimension`); this is verified only if the
    bounds are ignored. Bands are 95 % Wilson intervals of verified counts; a triangle marks a share limited by the cap.

    Args:
        result: result of `boundarygeo.shared_dimension`.
        ax: axes to draw on; by default those of a new pyplot figure.

    Raises:
        ValueError: if no example is classified correctly by all models.
    """
    check_results([result], SharedDimension, "result")
    if not bool(result.correct.any()):
        raise ValueError("no example is classified correctly by all models: there is nothing to draw")
    curves = [
        ("verified on all networks", result.verified, _MODELS, "-"),
        ("claimed to first order", result.claimed, _MODELS, "--"),
        ("verified, others rotated at random", result.null_verified, _CHANCE, "-"),
        ("claimed, others rotated at random", result.null_claimed, _CHANCE, "--"),
    ]
    with styled():
        axes = axes_or_new(ax, figsize=(7.0, 4.2))
        entries, reach = [], 1
        for label, counts, color, style in curves:
            if counts is None:
                continue
            alpha = 0.15 if style == "-" else 0.0  # four bands would hide each other
            draw_at_least(axes, *at_least(result, counts), color=color, style=style, alpha=alpha)
            reach = max(reach, min(int(included(result, counts).max()), result.max_dimension))
            entries.append(Line2D([], [], color=color, ls=style, lw=1.8, label=label))
        at_least_axes(axes, reach, COUNT)
        axes.set_ylabel(f"examples with at least k directions\nthat fool all {len(result.names)} models")
        named = METHOD_NAMES[result.method], RULE_NAMES[result.rule], BOX_NAMES[result.box]
        words = [f"ε = {result.eps:.4g} (L2, input units)", *named]
        notes = [f"n = {int(result.correct.sum()):,} examples", "bands: 95 % (Wilson)"]
        if bool((result.claimed >= result.max_dimension)[result.correct].any()):
            notes.append(f"▶ limited by the cap of {result.max_dimension}")
        title = f"{', '.join(result.names)}\n{fitted(axes, words, ', ')}\n{fitted(axes, notes, '; ')}"
        legend_above(axes, entries, title, columns=2)
    return axes
