"""Results to matplotlib figures. Nothing here calls a model, shows a window or changes global settings."""

from boundarygeo.plots.at_least import dimension_at_least
from boundarygeo.plots.claims import claimed_verified
from boundarygeo.plots.curves import accuracy_curves
from boundarygeo.plots.dimension import dimension
from boundarygeo.plots.distances import distances
from boundarygeo.plots.lines import lines
from boundarygeo.plots.maps import map_grid, map_single
from boundarygeo.plots.outlines import map_outlines, outline_grid
from boundarygeo.plots.pieces import pieces
from boundarygeo.plots.sequential import sequential_distances
from boundarygeo.plots.straightness import straightness
from boundarygeo.plots.style import check_figure_path, class_colors, save_figure
from boundarygeo.plots.transfer import boundary_distances, mistakes, transfer_matrix

__all__ = [
    "accuracy_curves",
    "boundary_distances",
    "check_figure_path",
    "claimed_verified",
    "class_colors",
    "dimension",
    "dimension_at_least",
    "distances",
    "lines",
    "map_grid",
    "map_outlines",
    "map_single",
    "mistakes",
    "outline_grid",
    "pieces",
    "save_figure",
    "sequential_distances",
    "straightness",
    "transfer_matrix",
]
