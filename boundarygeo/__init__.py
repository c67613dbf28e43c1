"""The geometry of decision boundaries of PyTorch classifiers.

Inputs live in [0, 1] (or the stated bounds) before normalisation; every ε, extent and distance is in those units.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from boundarygeo._version import __version__
from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.results import Provenance, Result, load
from boundarygeo.sections.distances import BoundaryDistances, boundary_distance
from boundarygeo.sections.lines import LogitLines, logit_lines
from boundarygeo.sections.maps import BoundaryMaps, boundary_maps
from boundarygeo.sections.planes import (
    Planes,
    fgsm_adversarial_planes,
    fgsm_random_planes,
    planes_through,
    random_planes,
)
from boundarygeo.sections.regions import RegionSummary, agreement, fragmentation, region_summary

if TYPE_CHECKING:
    from boundarygeo import plots

__all__ = [
    "BoundaryDistances",
    "BoundaryMaps",
    "Classifier",
    "Directions",
    "LogitLines",
    "Planes",
    "Provenance",
    "RegionSummary",
    "Result",
    "__version__",
    "agreement",
    "boundary_distance",
    "boundary_maps",
    "fgsm_adversarial_planes",
    "fgsm_random_planes",
    "fragmentation",
    "load",
    "logit_lines",
    "planes_through",
    "plots",
    "random_planes",
    "region_summary",
]


def __getattr__(name: str) -> Any:
    if name == "plots":  # on first use: drawing needs matplotlib, computing does not
        return import_module("boundarygeo.plots")
    raise AttributeError(f"module 'boundarygeo' has no attribute {name!r}")
