# Public names by subject, each with the module that defines it; `__init__.py` imports them when they are used.
# ruff: noqa: I001

# Models
from boundarygeo.classifier import Classifier as Classifier

# Maps
from boundarygeo.maps.audit import MapAudit as MapAudit, audit_maps as audit_maps
from boundarygeo.maps.example_maps import example_maps as example_maps
from boundarygeo.maps.maps import BoundaryMaps as BoundaryMaps, boundary_maps as boundary_maps
from boundarygeo.maps.planes import (
    Planes as Planes,
    fgsm_adversarial_planes as fgsm_adversarial_planes,
    fgsm_random_planes as fgsm_random_planes,
    planes_through as planes_through,
    random_planes as random_planes,
)
from boundarygeo.maps.regions import (
    RegionSummary as RegionSummary,
    agreement as agreement,
    fragmentation as fragmentation,
    region_summary as region_summary,
)

# Lines
from boundarygeo.directions import Directions as Directions
from boundarygeo.lines.distances import BoundaryDistances as BoundaryDistances, boundary_distance as boundary_distance
from boundarygeo.lines.lines import LogitLines as LogitLines, logit_lines as logit_lines
from boundarygeo.lines.pieces.exact_distances import exact_boundary_distance as exact_boundary_distance
from boundarygeo.lines.pieces.pieces import (
    DecisionBoundaries as DecisionBoundaries,
    LinearPieces as LinearPieces,
    linear_pieces as linear_pieces,
)
from boundarygeo.lines.segments import (
    SegmentCurves as SegmentCurves,
    random_pairs as random_pairs,
    segment_curves as segment_curves,
)
from boundarygeo.lines.straightness import (
    GradientCosines as GradientCosines,
    Straightness as Straightness,
    gradient_cosines as gradient_cosines,
    straightness as straightness,
)

# Attacks
from boundarygeo.attacks import (
    AdversarialExamples as AdversarialExamples,
    apgd as apgd,
    apgd_targeted as apgd_targeted,
    fgsm as fgsm,
    minimal_norm as minimal_norm,
    pgd as pgd,
    square as square,
    strongest as strongest,
)
from boundarygeo.attacks.external import external_attack as external_attack
from boundarygeo.attacks.accuracy import AccuracyCurve as AccuracyCurve, accuracy_curve as accuracy_curve
from boundarygeo.attacks.worst_case_accuracy import (
    WorstCaseAccuracy as WorstCaseAccuracy,
    worst_case_accuracy as worst_case_accuracy,
)

# Adversarial subspaces
from boundarygeo.subspace.dimension import (
    AdversarialDimension as AdversarialDimension,
    adversarial_dimension as adversarial_dimension,
)
from boundarygeo.subspace.noise import (
    NoiseSuccess as NoiseSuccess,
    noise_success as noise_success,
)
from boundarygeo.subspace.sequential.sequential import (
    SequentialDirections as SequentialDirections,
    sequential_directions as sequential_directions,
)
from boundarygeo.subspace.smoothness import (
    LocalSmoothness as LocalSmoothness,
    local_smoothness as local_smoothness,
)
from boundarygeo.subspace.summary import DimensionSummary as DimensionSummary, dimension_summary as dimension_summary

# Transfer
from boundarygeo.transfer.bases import (
    SubspaceBases as SubspaceBases,
    perturbation_bases as perturbation_bases,
    sequential_bases as sequential_bases,
    set_basis as set_basis,
)
from boundarygeo.transfer.boundaries import (
    InterBoundaryDistance as InterBoundaryDistance,
    inter_boundary_distance as inter_boundary_distance,
)
from boundarygeo.transfer.dimension import (
    TransferredDimension as TransferredDimension,
    transferred_dimension as transferred_dimension,
)
from boundarygeo.transfer.matrix import TransferMatrix as TransferMatrix, transfer_matrix as transfer_matrix
from boundarygeo.transfer.mistakes import TransferMistakes as TransferMistakes, transfer_mistakes as transfer_mistakes
from boundarygeo.transfer.overlap import (
    SubspaceOverlap as SubspaceOverlap,
    basis_overlap as basis_overlap,
    subspace_overlap as subspace_overlap,
)
from boundarygeo.transfer.predictors import (
    TransferPredictors as TransferPredictors,
    transfer_predictors as transfer_predictors,
)
from boundarygeo.transfer.reproducibility import Reproducibility as Reproducibility, reproducibility as reproducibility
from boundarygeo.transfer.shared import SharedDimension as SharedDimension, shared_dimension as shared_dimension

# Hidden layers
from boundarygeo.representations import HiddenSpectrum as HiddenSpectrum, hidden_spectrum as hidden_spectrum

# Many models
from boundarygeo.comparison import Comparison as Comparison, compare as compare

# Results and long runs
from boundarygeo._version import __version__ as __version__
from boundarygeo.results import Provenance as Provenance, Result as Result, load as load, open_store as open_store
from boundarygeo.runs import (
    LocalEngine as LocalEngine,
    RayEngine as RayEngine,
    RunStatus as RunStatus,
    run as run,
    run_status as run_status,
)

# Rooms with names of their own
from boundarygeo import (
    comparison as comparison,
    defences as defences,
    plots as plots,
    theory as theory,
    training as training,
    zoo as zoo,
)
