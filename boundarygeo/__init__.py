"""The geometry of decision boundaries of PyTorch classifiers.

Inputs live in [0, 1] (or the stated bounds) before normalisation; every ε, extent and distance is in those units.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from boundarygeo._version import __version__
from boundarygeo.attacks import (
    AdversarialExamples,
    apgd,
    apgd_targeted,
    fgsm,
    minimal_norm,
    pgd,
    square,
    strongest,
)
from boundarygeo.attacks.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.classifier import Classifier
from boundarygeo.defences import (
    CertifiedRadii,
    MixupInference,
    RandomisedSmoothing,
    SmoothedPredictions,
    certify,
    predict_smoothed,
    with_mixup_inference,
    with_smoothing,
)
from boundarygeo.directions import Directions
from boundarygeo.lines.distances import BoundaryDistances, boundary_distance
from boundarygeo.lines.lines import LogitLines, logit_lines
from boundarygeo.lines.pieces.exact_distances import exact_boundary_distance
from boundarygeo.lines.pieces.pieces import DecisionBoundaries, LinearPieces, linear_pieces
from boundarygeo.lines.segments import SegmentCurves, random_pairs, segment_curves
from boundarygeo.lines.straightness import GradientCosines, Straightness, gradient_cosines, straightness
from boundarygeo.maps.example_maps import example_maps
from boundarygeo.maps.maps import BoundaryMaps, boundary_maps
from boundarygeo.maps.planes import (
    Planes,
    fgsm_adversarial_planes,
    fgsm_random_planes,
    planes_through,
    random_planes,
)
from boundarygeo.maps.regions import RegionSummary, agreement, fragmentation, region_summary
from boundarygeo.representations import HiddenSpectrum, hidden_spectrum
from boundarygeo.results import Provenance, Result, load, open_store
from boundarygeo.runs import LocalEngine, RayEngine, RunStatus, run, run_status
from boundarygeo.subspace.dimension import AdversarialDimension, adversarial_dimension
from boundarygeo.subspace.frames.gaas import claimed_dimension, gaas_frame
from boundarygeo.subspace.noise import NoiseSuccess, cone_probability, noise_success
from boundarygeo.subspace.sequential.sequential import SequentialDirections, sequential_directions
from boundarygeo.subspace.smoothness import (
    LocalSmoothness,
    best_second_order_count,
    local_smoothness,
    second_order_count,
)
from boundarygeo.subspace.summary import DimensionSummary, dimension_summary
from boundarygeo.transfer.bases import SubspaceBases, perturbation_bases, sequential_bases, set_basis
from boundarygeo.transfer.boundaries import InterBoundaryDistance, inter_boundary_distance
from boundarygeo.transfer.dimension import TransferredDimension, transferred_dimension
from boundarygeo.transfer.matrix import TransferMatrix, transfer_matrix
from boundarygeo.transfer.mistakes import TransferMistakes, transfer_mistakes
from boundarygeo.transfer.overlap import SubspaceOverlap, basis_overlap, random_overlap, subspace_overlap
from boundarygeo.transfer.predictors import TransferPredictors, transfer_predictors
from boundarygeo.transfer.reproducibility import Reproducibility, reproducibility
from boundarygeo.transfer.shared import SharedDimension, shared_dimension

if TYPE_CHECKING:
    from boundarygeo import plots

__all__ = [
    "AccuracyCurve",
    "AdversarialDimension",
    "AdversarialExamples",
    "BoundaryDistances",
    "BoundaryMaps",
    "CertifiedRadii",
    "Classifier",
    "DecisionBoundaries",
    "DimensionSummary",
    "Directions",
    "GradientCosines",
    "HiddenSpectrum",
    "InterBoundaryDistance",
    "LinearPieces",
    "LocalEngine",
    "LocalSmoothness",
    "LogitLines",
    "MixupInference",
    "NoiseSuccess",
    "Planes",
    "Provenance",
    "RandomisedSmoothing",
    "RayEngine",
    "RegionSummary",
    "Reproducibility",
    "Result",
    "RunStatus",
    "SegmentCurves",
    "SequentialDirections",
    "SharedDimension",
    "SmoothedPredictions",
    "Straightness",
    "SubspaceBases",
    "SubspaceOverlap",
    "TransferMatrix",
    "TransferMistakes",
    "TransferPredictors",
    "TransferredDimension",
    "__version__",
    "accuracy_curve",
    "adversarial_dimension",
    "agreement",
    "apgd",
    "apgd_targeted",
    "basis_overlap",
    "best_second_order_count",
    "boundary_distance",
    "boundary_maps",
    "certify",
    "claimed_dimension",
    "cone_probability",
    "dimension_summary",
    "exact_boundary_distance",
    "example_maps",
    "fgsm",
    "fgsm_adversarial_planes",
    "fgsm_random_planes",
    "fragmentation",
    "gaas_frame",
    "gradient_cosines",
    "hidden_spectrum",
    "inter_boundary_distance",
    "linear_pieces",
    "load",
    "local_smoothness",
    "logit_lines",
    "minimal_norm",
    "noise_success",
    "open_store",
    "perturbation_bases",
    "pgd",
    "planes_through",
    "plots",
    "predict_smoothed",
    "random_overlap",
    "random_pairs",
    "random_planes",
    "region_summary",
    "reproducibility",
    "run",
    "run_status",
    "second_order_count",
    "segment_curves",
    "sequential_bases",
    "sequential_directions",
    "set_basis",
    "shared_dimension",
    "square",
    "straightness",
    "strongest",
    "subspace_overlap",
    "transfer_matrix",
    "transfer_mistakes",
    "transfer_predictors",
    "transferred_dimension",
    "with_mixup_inference",
    "with_smoothing",
]


def __getattr__(name: str) -> Any:
    if name == "plots":  # on first use: drawing needs matplotlib, computing does not
        return import_module("boundarygeo.plots")
    raise AttributeError(f"module 'boundarygeo' has no attribute {name!r}")
