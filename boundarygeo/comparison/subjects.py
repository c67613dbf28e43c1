"""The classifiers to compare, with their names in the table and the standard model each is paired with."""

from collections.abc import Sequence
from dataclasses import dataclass

from boundarygeo.classifier import Classifier


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """One classifier of a comparison.

    Attributes:
        name: name in the table.
        group: group of classifiers that differ in their seed only.
        classifier: the classifier.
        seed: seed of its training, or None if unknown.
        family: name of its architecture, or empty.
        standard: whether it was trained without any defence.
        layers: names of the first and last hidden layer to analyse; or empty.
    """

    name: str
    group: str
    classifier: Classifier
    seed: int | None = None
    family: str = ""
    standard: bool = False
    layers: tuple[str, ...] = ()


def standard_partners(subjects: Sequence[Subject]) -> list[int | None]:
    """For each classifier, the standard one with which it exchanges adversarial examples.

    Standard ones of the same architecture are preferred, and among them one with the same seed. The partner of a
    standard classifier is the next standard one of its architecture, cyclically, i.e. the same method with another
    seed; or else one of another architecture.

    Args:
        subjects: the classifiers to compare.

    Returns:
        Positions in `subjects`; None if there is no other standard classifier.
    """
    return [_partner(subjects, number) for number in range(len(subjects))]


def _partner(subjects: Sequence[Subject], number: int) -> int | None:
    own = subjects[number]
    count = len(subjects)
    others = [(number + step) % count for step in range(1, count)]
    candidates = [other for other in others if subjects[other].standard]

    def distance(other: int) -> tuple[bool, bool]:
        # Classifiers of one method have different seeds: the next in order will do.
        return subjects[other].family != own.family, not own.standard and subjects[other].seed != own.seed

    return min(candidates, key=distance, default=None)
