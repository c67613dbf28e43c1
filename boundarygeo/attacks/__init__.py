"""Attacks: small changes of the input that change the label. Each is one function; all give `AdversarialExamples`."""

from boundarygeo.attacks.examples import AdversarialExamples
from boundarygeo.attacks.fast_gradient import fgsm
from boundarygeo.attacks.minimum_norm import minimal_norm
from boundarygeo.attacks.norms import NORMS
from boundarygeo.attacks.projected_gradient import pgd

__all__ = ["NORMS", "AdversarialExamples", "fgsm", "minimal_norm", "pgd"]
