"""Shared examples and attacks of all instruments, each computed once."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from boundarygeo.attacks import pgd
from boundarygeo.attacks.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.attacks.norms import DrawnOnce, length
from boundarygeo.comparison.settings import Settings
from boundarygeo.comparison.subjects import Subject, standard_partners
from boundarygeo.results import Provenance
from boundarygeo.results.statistics import Estimate, share
from boundarygeo.transfer.matrix import TransferMatrix

STEPS, MORE_STEPS = 20, 100
"""Steps of PGD, and of the PGD that should be stronger."""
STRONGEST = "strongest"
"""Name of the strongest attack."""


class Bench:
    """Classifiers, examples and settings.

    Args:
        subjects: the classifiers to compare.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        settings: settings of the instruments.
        seed: seed of everything random.
        index: number of each example, int64 `[example]`.
        progress: whether to show progress bars.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        x: Tensor,
        y: Tensor,
        settings: Settings,
        *,
        seed: int,
        index: Tensor,
        progress: bool,
    ) -> None:
        self.subjects = tuple(subjects)
        self.x, self.y, self.index = x, y, index
        self.settings = settings
        self.seed = seed
        self.progress = progress
        self.partners = standard_partners(subjects)
        self._curves: dict[tuple[int, str], AccuracyCurve] = {}

    @property
    def radius(self) -> float:
        """L2 ε of the dimensions: from the settings, or the length of an FGSM step."""
        given = self.settings.radius
        return self.settings.eps * self.x[0].numel() ** 0.5 if given is None else given

    @property
    def masking_attacks(self) -> tuple[str, str, str, str]:
        """Names of the attacks used to check for masked gradients."""
        settings = self.settings
        return (
            "FGSM",
            f"PGD-{STEPS}",
            f"PGD-{MORE_STEPS} × {settings.restarts}",
            f"Square-{settings.queries}",
        )

    @property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """Names of all attacks, with their settings for `accuracy_curve`."""
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
        """Accuracy under an attack; the curve of FGSM starts at ε = 0.

        Args:
            subject: the classifier.
            attack: one of `attacks`.

        Returns:
            The curve, of one or two points.
        """
        key = self.subjects.index(subject), attack
        if key not in self._curves:
            self._curves[key] = accuracy_curve(
                subject.classifier, self.x, self.y, norm="linf", seed=self.seed, index=self.index,
                progress=self.progress, **self.attacks[attack],
            )  # fmt: skip
        return self._curves[key]

    def hold(self, subject: Subject, attack: str, curve: AccuracyCurve) -> None:
        """Reuse a curve computed earlier.

        Args:
            subject: the classifier.
            attack: one of `attacks`.
            curve: result of `curve`.
        """
        self._curves[self.subjects.index(subject), attack] = curve

    def right(self, subject: Subject) -> Tensor:
        """Whether a classifier is correct without an attack, bool `[example]`.

        Raises:
            ValueError: if it is never correct.
        """
        right = subject.classifier.predict(self.x) == self.y.cpu()
        if not bool(right.any()):
            raise ValueError("the model classifies no example correctly")
        return right

    @functools.cached_property
    def matrix(self) -> TransferMatrix:
        """PGD examples of every classifier evaluated on every other, as by `transfer_matrix`.

        Unlike there, no example has to be classified correctly by all classifiers: the table counts pair by pair, and
        one untrained classifier must not stop it.
        """
        records = [subject.classifier.record() for subject in self.subjects]
        clean = torch.stack([subject.classifier.predict(self.x) for subject in self.subjects])
        count = len(self.subjects)
        labels = torch.empty(count, count, len(self.x), dtype=torch.int64)
        distance = torch.empty(count, len(self.x), dtype=torch.float64)
        draw = DrawnOnce()
        eps = self.settings.eps
        for i, source in enumerate(self.subjects):
            found = pgd(
                source.classifier, self.x, self.y, eps=eps, steps=STEPS, early_stop=False, seed=self.seed,
                index=self.index, draw=draw, progress=self.progress,
            )  # fmt: skip
            distance[i] = length(found.x_adv.double() - self.x.cpu().double(), "linf")
            for j, target in enumerate(self.subjects):
                labels[i, j] = found.predicted if i == j else target.classifier.predict(found.x_adv)
        made = f"transfer_matrix(attack='pgd', eps={eps!r}, norm='linf', early_stop=False, steps={STEPS})"
        return TransferMatrix(
            provenance=dataclasses.replace(_together([record(seed=self.seed) for record in records]), command=made),
            predicted=labels,
            clean=clean,
            true_labels=self.y.detach().cpu().long(),
            targets=None,
            distance=distance,
            index=self.index,
            names=tuple(subject.name for subject in self.subjects),
            attack="pgd",
            norm="linf",
            eps=eps,
            eight_bit=False,
        )

    def sent(self, source: int, target: int) -> Estimate:
        """Share of the examples classified correctly by two models that fool the target when made for the source.

        Args:
            source: position of the model for which examples are made.
            target: position of the attacked model.

        Returns:
            The estimate, with its Wilson interval.
        """
        both = self.matrix.correct[source] & self.matrix.correct[target]
        return share(int((self.matrix.success[source, target] & both).sum()), int(both.sum()))


def _together(parts: Sequence[Provenance]) -> Provenance:
    return dataclasses.replace(
        parts[0],
        model=", ".join(part.model for part in parts),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
    )
