"""Attacks: small changes of the input that change the label. Each is one function; all give `AdversarialExamples`."""

from boundarygeo.attacks.adaptive_gradient import apgd, apgd_targeted
from boundarygeo.attacks.examples import AdversarialExamples
from boundarygeo.attacks.fast_gradient import fgsm
from boundarygeo.attacks.minimum_norm import minimal_norm
from boundarygeo.attacks.norms import NORMS
from boundarygeo.attacks.projected_gradient import pgd
from boundarygeo.attacks.random_squares import square
from boundarygeo.attacks.worst_case import strongest

__all__ = [
    "NORMS",
    "AdversarialExamples",
    "apgd",
    "apgd_targeted",
    "fgsm",
    "minimal_norm",
    "pgd",
    "square",
    "strongest",
]
