"""Defences: modules that wrap a module and are classifiers like any other, and certificates from smoothing."""

from boundarygeo.defences.certification import (
    CertifiedRadii,
    SmoothedPredictions,
    certify,
    predict_smoothed,
)
from boundarygeo.defences.mixup_inference import MixupInference, with_mixup_inference
from boundarygeo.defences.smoothing import RandomisedSmoothing, with_smoothing

__all__ = [
    "CertifiedRadii",
    "MixupInference",
    "RandomisedSmoothing",
    "SmoothedPredictions",
    "certify",
    "predict_smoothed",
    "with_mixup_inference",
    "with_smoothing",
]
