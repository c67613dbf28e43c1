"""What is compared: classifiers with what the table calls them, and the standard model that each is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

from boundarygeo.classifier import Classifier


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """One classifier of a comparison.

    Attributes:
        name: what the table calls it.
        group: what it shares with those that differ from it by their seed alone.
        classifier: the classifier.
        seed: seed of its training, or None where it is not known.
        family: name of its architecture, or empty.
        standard: whether it was trained without any defence.
        layers: names of the hidden layers to look into, the first and the last; or none.
    """

    name: str
    group: str
    classifier: Classifier
    seed: int | None = None
    family: str = ""
    standard: bool = False
    layers: tuple[str, ...] = ()


def standard_partners(subjects: Sequence[Subject]) -> list[int | None]:
    """For each classifier, the standard one that its adversarial examples are exchanged with.

    Standard ones of the same architecture are preferred, and among them one of the same seed. The partner of a standard
    one is the next standard one of its architecture, cyclically: the same method with another seed; or else one of
    another architecture.

    Args:
        subjects: what is compared.

    Returns:
        Positions in `subjects`; None where there is no standard classifier but itself.
    """
    return [_partner(subjects, number) for number in range(len(subjects))]


def _partner(subjects: Sequence[Subject], number: int) -> int | None:
    own = subjects[number]
    count = len(subjects)
    others = [(number + step) % count for step in range(1, count)]
    candidates = [other for other in others if subjects[other].standard]

    def distance(other: int) -> tuple[bool, bool]:
        # Of one method no two have the same seed: there the next in order is as good as any.
        return subjects[other].family != own.family, not own.standard and subjects[other].seed != own.seed

    return min(candidates, key=distance, default=None)
