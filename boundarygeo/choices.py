"""Settings that are chosen by name, for the library and the command line. Imports no heavy package."""

from typing import Literal, get_args

Norm = Literal["l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)
NORM_NAMES = {"l2": "L2", "linf": "L∞"}
"""Names of the norms in axis labels and tables."""

Direction = Literal["fgsm", "gradient", "random"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

PlaneKind = Literal["fgsm_random", "fgsm_adversarial", "random"]
PLANE_KINDS: tuple[PlaneKind, ...] = get_args(PlaneKind)

MapMethod = Literal["adaptive", "dense"]
MAP_METHODS: tuple[MapMethod, ...] = get_args(MapMethod)

MAP_EXTRAS = ("margin", "probability", "planes")
"""What boundary maps can store besides labels."""

SMALLEST_RESOLUTION = 5
"""Fewest pixels per side of a boundary map."""

Precision = Literal["auto", "float32", "float64", "bfloat16"]

Attack = Literal["fgsm", "pgd", "apgd", "square", "strongest"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)

TransferAttack = Literal["fgsm", "pgd", "minimal_norm"]

FrameMethod = Literal["gaas", "frame"]
FRAME_METHODS: tuple[FrameMethod, ...] = get_args(FrameMethod)

METHOD_NAMES = {"gaas": "gradient-aligned frames", "frame": "optimised frames"}

Rule = Literal["all", "count"]
RULES: tuple[Rule, ...] = get_args(Rule)
RULE_NAMES = {"all": "all of a frame succeed", "count": "most successes in a frame"}

Box = Literal["feasible", "clip", "ignore"]
BOXES: tuple[Box, ...] = get_args(Box)
BOX_NAMES = {"feasible": "inside the bounds", "clip": "clipped to the bounds", "ignore": "bounds ignored"}

TrainingMethod = Literal["standard", "mixup", "manifold_mixup", "batchout", "layerwise", "fgsm", "pgd", "trades"]

TrainingPrecision = Literal["auto", "float32", "bfloat16"]
TRAINING_PRECISIONS: tuple[TrainingPrecision, ...] = get_args(TrainingPrecision)

Instrument = Literal[
    "accuracy", "masking", "distances", "dimension", "pieces", "segments", "spectrum", "transfer", "certified"
]
INSTRUMENT_NAMES: tuple[Instrument, ...] = get_args(Instrument)

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
