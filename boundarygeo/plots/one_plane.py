"""One plane for several models: the decision regions of each, and all outlines of the true class's region."""

import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.plots.cells import axes_lines, draw_crosses, marked_points, outer_edges, positions_of
from boundarygeo.plots.maps import cell_images, class_legend, colors_of
from boundarygeo.plots.outlines import check_cells, check_outlines, draw_outlines, model_handles, outline_names
from boundarygeo.plots.style import NotebookFigure, class_labels, shortened, styled

_PANEL = 2.3  # inches
_NAME = 26  # longest name that fits above a panel, in characters


def one_plane(
    list_of_maps: Sequence[BoundaryMaps],
    cell: int = 0,
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """The same plane for several models, a panel each, and a last panel with all outlines of the true class's region.

    The figures of Liu et al. 2017 (arXiv 1611.02770). Colours are those of `map_grid`, lines those of `map_outlines`.

    Args:
        list_of_maps: maps of each model, all on the same planes.
        cell: position of the example.
        names: name of each model; by default "model 1" and so on.
        class_names: name of each class, for the legend and the title.
        columns: number of panels in a row; by default all for three panels, otherwise as many as rows, or one more.

    Returns:
        The figure, not registered with pyplot.

    Raises:
        TypeError: as `map_outlines`.
        ValueError: as `map_outlines`, or if `columns` is not positive.
    """
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    check_outlines(list_of_maps, names)
    check_cells(list_of_maps, [cell])
    first = list_of_maps[0]
    assert first.true_labels is not None  # checked above
    true = int(first.true_labels[cell])
    positions = positions_of(first, [cell])
    called = outline_names(names, len(list_of_maps))
    classes, legend_title = class_legend(list_of_maps, positions, class_names)
    colors = colors_of(list_of_maps, positions)
    panels = len(list_of_maps) + 1
    columns = min(columns or (panels if panels <= 3 else math.ceil(math.sqrt(panels))), panels)
    rows = -(-panels // columns)
    with styled():
        figure = NotebookFigure(figsize=(_PANEL * columns + 2.3, (_PANEL + 0.2) * rows + 0.7), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in grid[panels:]:
            axes.set_axis_off()
        for axes, maps, name in zip(grid, list_of_maps, called, strict=False):
            picture = cell_images(maps, positions, colors)[0]
            axes.imshow(picture, origin="lower", interpolation="nearest", extent=outer_edges(maps))
            points = marked_points(maps, positions)
            draw_crosses(axes, points[..., 0], points[..., 1], size=9)
            axes.set_title(shortened(name, _NAME), fontsize="medium")
        notes = draw_outlines(grid[panels - 1], list_of_maps, cell)
        grid[panels - 1].set_title("true class: outlines of all", fontsize="medium")
        for axes in grid[:panels]:
            axes.set(xticks=[], yticks=[])
        lines = model_handles([name + note for name, note in zip(called, notes, strict=True)])
        # Colours of classes and of outlines have different meanings, so each has a heading.
        handles: list[Artist] = [_heading("regions"), *classes, _heading("outlines"), *lines]
        figure.legend(handles=handles, title=legend_title, loc="outside right upper", frameon=False, handlelength=2.8)
        figure.suptitle(f"example {int(first.index[cell])}: {class_labels(class_names, [true])[true]}", fontsize=11)
        figure.supxlabel("\n".join(axes_lines(first)), fontsize="medium", x=0.01, ha="left")
    return figure


def _heading(text: str) -> Line2D:
    return Line2D([], [], ls="none", label=text)
