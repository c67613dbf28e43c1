"""Closed forms that the instruments are compared with: what first- and second-order theory, and chance, predict."""

from boundarygeo.subspace.frames.gaas import claimed_dimension, gaas_frame
from boundarygeo.subspace.noise import cone_probability
from boundarygeo.subspace.smoothness import best_second_order_count, second_order_count
from boundarygeo.transfer.chance import random_overlap

__all__ = [
    "best_second_order_count",
    "claimed_dimension",
    "cone_probability",
    "gaas_frame",
    "random_overlap",
    "second_order_count",
]
