"""The geometry of decision boundaries of PyTorch classifiers.

Inputs live in [0, 1] (or the stated bounds) before normalisation; every ε, extent and distance is in those units.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from boundarygeo._version import __version__
from boundarygeo.attacks import AdversarialExamples, fgsm, minimal_norm, pgd
from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.results import Provenance, Result, load
from boundarygeo.sections.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.sections.distances import BoundaryDistances, boundary_distance
from boundarygeo.sections.exact_distances import exact_boundary_distance
from boundarygeo.sections.lines import LogitLines, logit_lines
from boundarygeo.sections.maps import BoundaryMaps, boundary_maps
from boundarygeo.sections.pieces import DecisionBoundaries, LinearPieces, linear_pieces
from boundarygeo.sections.planes import (
    Planes,
    fgsm_adversarial_planes,
    fgsm_random_planes,
    planes_through,
    random_planes,
)
from boundarygeo.sections.regions import RegionSummary, agreement, fragmentation, region_summary
from boundarygeo.sections.straightness import GradientCosines, Straightness, gradient_cosines, straightness

if TYPE_CHECKING:
    from boundarygeo import plots

__all__ = [
    "AccuracyCurve",
    "AdversarialExamples",
    "BoundaryDistances",
    "BoundaryMaps",
    "Classifier",
    "DecisionBoundaries",
    "Directions",
    "GradientCosines",
    "LinearPieces",
    "LogitLines",
    "Planes",
    "Provenance",
    "RegionSummary",
    "Result",
    "Straightness",
    "__version__",
    "accuracy_curve",
    "agreement",
    "boundary_distance",
    "boundary_maps",
    "exact_boundary_distance",
    "fgsm",
    "fgsm_adversarial_planes",
    "fgsm_random_planes",
    "fragmentation",
    "gradient_cosines",
    "linear_pieces",
    "load",
    "logit_lines",
    "minimal_norm",
    "pgd",
    "planes_through",
    "plots",
    "random_planes",
    "region_summary",
    "straightness",
]


def __getattr__(name: str) -> Any:
    if name == "plots":  # on first use: drawing needs matplotlib, computing does not
        return import_module("boundarygeo.plots")
    raise AttributeError(f"module 'boundarygeo' has no attribute {name!r}")
