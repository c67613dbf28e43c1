"""The examples that all instruments share, and the attacks that several of them need: each made once."""

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
"""Steps of PGD, and of the PGD that should find more."""
STRONGEST = "strongest"
"""What the strongest attack is called."""


class Bench:
    """Classifiers, examples and settings.

    Args:
        subjects: what is compared.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        settings: of the instruments.
        seed: decides everything random.
        index: number of each example, int64 `[example]`.
        progress: whether to show bars.
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
        """ε of the dimensions in L2: that of the settings, or the length of an FGSM step."""
        given = self.settings.radius
        return self.settings.eps * self.x[0].numel() ** 0.5 if given is None else given

    @property
    def masking_attacks(self) -> tuple[str, str, str, str]:
        """What the attacks are called that signs of masked gradients are looked for with."""
        settings = self.settings
        return (
            "FGSM",
            f"PGD-{STEPS}",
            f"PGD-{MORE_STEPS} × {settings.restarts}",
            f"Square-{settings.queries}",
        )

    @property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """What all attacks are called, and their settings in `accuracy_curve`."""
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
        """Accuracy under an attack; that of FGSM begins with ε = 0.

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
        """Use a curve that was made before.

        Args:
            subject: the classifier.
            attack: one of `attacks`.
            curve: result of `curve`.
        """
        self._curves[self.subjects.index(subject), attack] = curve

    def right(self, subject: Subject) -> Tensor:
        """Whether a classifier is right without an attack, bool `[example]`.

        Raises:
            ValueError: if it never is.
        """
        right = subject.classifier.predict(self.x) == self.y.cpu()
        if not bool(right.any()):
            raise ValueError("the model must get an example right, got none")
        return right

    @functools.cached_property
    def matrix(self) -> TransferMatrix:
        """PGD's examples of every classifier on every other, as `transfer_matrix` gives it.

        Here no example need be right in all classifiers: the table counts pair by pair, and one classifier that has
        learnt nothing must not stop it.
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
        """Of the examples that two classifiers get right, the share that, made for one, fool the other.

        Args:
            source: position of the one that they are made for.
            target: position of the other.

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
