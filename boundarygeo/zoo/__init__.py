"""Data sets and models to start from. The geometry never imports them."""

from boundarygeo.zoo.data import Dataset, LazySplit, Split, crop_and_flip, hold_out, load_data
from boundarygeo.zoo.models import MODELS, build_model, find_model
from boundarygeo.zoo.weights import load_weights

__all__ = [
    "MODELS",
    "Dataset",
    "LazySplit",
    "Split",
    "build_model",
    "crop_and_flip",
    "find_model",
    "hold_out",
    "load_data",
    "load_weights",
]
