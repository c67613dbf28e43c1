"""Figures of results with matplotlib. Nothing here calls a model, shows a window or changes global settings.

Functions return the axes that they draw on, or a figure. Notebooks show it as a cell's value; it is not registered with
pyplot, so it need not be closed.
"""

from boundarygeo.plots.at_least import dimension_at_least
from boundarygeo.plots.certified import certified_accuracy
from boundarygeo.plots.claims import claimed_verified
from boundarygeo.plots.confidence import confidence
from boundarygeo.plots.curves import accuracy_curves
from boundarygeo.plots.dimension import dimension
from boundarygeo.plots.distances import distances
from boundarygeo.plots.lines import lines
from boundarygeo.plots.maps import map_grid, map_single
from boundarygeo.plots.measurements import measurements
from boundarygeo.plots.one_plane import one_plane
from boundarygeo.plots.outlines import map_outlines, outline_grid
from boundarygeo.plots.overlap import overlap, principal_angles
from boundarygeo.plots.pieces import pieces
from boundarygeo.plots.segments import segments
from boundarygeo.plots.sequential import sequential_distances
from boundarygeo.plots.shared import shared_dimension
from boundarygeo.plots.spectrum import spectrum
from boundarygeo.plots.straightness import straightness
from boundarygeo.plots.style import check_figure_path, class_colors, save_figure
from boundarygeo.plots.transfer import boundary_distances, mistakes, reproducibility, transfer_matrix

__all__ = [
    "accuracy_curves",
    "boundary_distances",
    "certified_accuracy",
    "check_figure_path",
    "claimed_verified",
    "class_colors",
    "confidence",
    "dimension",
    "dimension_at_least",
    "distances",
    "lines",
    "map_grid",
    "map_outlines",
    "map_single",
    "measurements",
    "mistakes",
    "one_plane",
    "outline_grid",
    "overlap",
    "pieces",
    "principal_angles",
    "reproducibility",
    "save_figure",
    "segments",
    "sequential_distances",
    "shared_dimension",
    "spectrum",
    "straightness",
    "transfer_matrix",
]
