"""Data sets and models to start from. The geometry never imports them."""

from boundarygeo.zoo.data import Dataset, Split, load_data
from boundarygeo.zoo.models import MODELS, build_model
from boundarygeo.zoo.weights import load_weights

__all__ = ["MODELS", "Dataset", "Split", "build_model", "load_data", "load_weights"]
