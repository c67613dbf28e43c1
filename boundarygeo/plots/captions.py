"""Text for figures of adversarial subspaces, and legends above the axes."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from boundarygeo.choices import BOX_NAMES, METHOD_NAMES, NORM_NAMES, RULE_NAMES
from boundarygeo.subspace.dimension import AdversarialDimension

COUNT = "number of orthogonal adversarial directions"

HANDLE = 30.0
"""Width of the line before an entry of the legend, in points."""

_GROWTH = 1.08  # least growth of the axes in layout


def settings_of(result: AdversarialDimension) -> list[str]:
    """What was counted: ε and norm, frames, rule, bounds, and whether there were targets."""
    return [
        f"ε = {result.eps:.4g} ({NORM_NAMES[result.norm]}, input units)",
        METHOD_NAMES[result.method],
        RULE_NAMES[result.rule],
        BOX_NAMES[result.box],
        *(["targeted"] if result.targets is not None else []),
    ]


def fitted(axes: Axes, parts: Sequence[str], separator: str, *, taken: float = 0.0) -> str:
    """Wrap the phrases of a sentence to the width of the axes below it; longer lines would shrink the axes.

    Each phrase stays on one line; `taken` is the width taken by other things, in points.
    """
    root = axes.get_figure(root=True)
    assert root is not None
    room = _GROWTH * axes.get_position().width * root.get_figwidth() * 72 - taken
    font = FontProperties(size=mpl.rcParams["legend.fontsize"])
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}{separator}{part}"
        if text_to_path.get_text_width_height_descent(longer, font, False)[0] <= room:
            lines[-1] = longer
        else:
            lines[-1] += separator.rstrip()
            lines.append(part)
    return "\n".join(lines)


def legend_above(axes: Axes, entries: Sequence[Line2D], title: str, *, columns: int = 1) -> None:
    """A legend over the full width, because its entries may be sentences."""
    axes.legend(
        handles=entries,
        title=title,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        frameon=False,
        alignment="left",
        borderaxespad=0.2,
        borderpad=0.0,
        handlelength=2.4,
    )
