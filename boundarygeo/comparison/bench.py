"""Shared examples and attacks of all instruments, each computed once."""

import functools
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from boundarygeo.attacks.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.comparison.settings import Settings
from boundarygeo.comparison.subjects import Subject, standard_partners
from boundarygeo.results.statistics import Estimate, share
from boundarygeo.transfer.matrix import TransferMatrix, transfer_matrix

STEPS, MORE_STEPS = 20, 100
"""Steps of PGD, and of the PGD that should be stronger."""
STRONGEST = "strongest"
"""Name of the strongest attack."""
FGSM_REACH = 5
"""Largest distance searched along the FGSM direction, in ε."""


@dataclass(eq=False, kw_only=True)
class Bench:
    """Classifiers, examples, their numbers, and settings; attacks are computed when first needed, and then kept."""

    subjects: tuple[Subject, ...]
    x: Tensor
    y: Tensor
    index: Tensor
    settings: Settings
    seed: int
    progress: bool
    curves: dict[tuple[str, str], AccuracyCurve] = field(default_factory=dict)

    @functools.cached_property
    def partners(self) -> list[int | None]:
        """For each subject, the position of the standard model with which it exchanges examples."""
        return standard_partners(self.subjects)

    @property
    def radius(self) -> float:
        """L2 ε of the dimensions: from the settings, or the length of an FGSM step."""
        given = self.settings.radius
        return self.settings.eps * self.x[0].numel() ** 0.5 if given is None else given

    @property
    def reaches(self) -> dict[str, float]:
        """Largest distance searched in each direction: several ε (L∞), and the diagonal of the box (L2)."""
        low, high = self.subjects[0].classifier.bounds
        return {"fgsm": FGSM_REACH * self.settings.eps, "random": (high - low) * self.x[0].numel() ** 0.5}

    @property
    def masking_attacks(self) -> tuple[str, str, str, str]:
        """Names of the attacks used to check for masked gradients."""
        settings = self.settings
        return "FGSM", f"PGD-{STEPS}", f"PGD-{MORE_STEPS} × {settings.restarts}", f"Square-{settings.queries}"

    @property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """Names of all attacks, with their settings for `accuracy_curve`; the curve of FGSM starts at ε = 0."""
        eps, queries = [self.settings.eps], self.settings.queries
        settings: list[dict[str, Any]] = [
            {"attack": "fgsm", "eps": [0.0, *eps]},
            {"attack": "pgd", "eps": eps, "steps": STEPS},
            {"attack": "pgd", "eps": eps, "steps": MORE_STEPS, "restarts": self.settings.restarts},
            {"attack": "square", "eps": eps, "queries": queries},
            {"attack": "strongest", "eps": eps, "queries": queries},
        ]
        return dict(zip((*self.masking_attacks, STRONGEST), settings, strict=True))

    def curve(self, subject: Subject, attack: str) -> AccuracyCurve:
        """Accuracy of a subject under one of `attacks`."""
        key = subject.name, attack
        if key not in self.curves:
            self.curves[key] = accuracy_curve(
                subject.classifier, self.x, self.y, norm="linf", seed=self.seed, index=self.index,
                progress=self.progress, **self.attacks[attack],
            )  # fmt: skip
        return self.curves[key]

    def right(self, subject: Subject) -> Tensor:
        """Whether a classifier is correct without an attack, bool `[example]`; a `ValueError` if it never is."""
        right = subject.classifier.predict(self.x) == self.y.cpu()
        if not bool(right.any()):
            raise ValueError("the model classifies no example correctly")
        return right

    @functools.cached_property
    def matrix(self) -> TransferMatrix:
        """PGD examples of every classifier evaluated on every other."""
        classifiers = {subject.name: subject.classifier for subject in self.subjects}
        return transfer_matrix(
            classifiers, self.x, self.y, eps=self.settings.eps, steps=STEPS, seed=self.seed, index=self.index,
            progress=self.progress,
        )  # fmt: skip

    def sent(self, source: int, target: int) -> Estimate:
        """Share of the examples that two models classify correctly, made for one of them, that fool the other.

        Unlike in the rates of the matrix, other models need not be correct: one untrained classifier must not decide.
        """
        both = self.matrix.correct[source] & self.matrix.correct[target]
        return share(int((self.matrix.success[source, target] & both).sum()), int(both.sum()))
