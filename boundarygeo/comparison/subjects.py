"""The classifiers to compare, with their names in the table and the standard model each is paired with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

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


def subjects_of(classifiers: Mapping[str, Classifier] | Sequence[Subject]) -> tuple[Subject, ...]:
    """Subjects as given, or one per named classifier, each a group of its own."""
    if isinstance(classifiers, Mapping):
        return tuple(Subject(name=name, group=name, classifier=clf) for name, clf in classifiers.items())
    for subject in classifiers:
        if not isinstance(subject, Subject):
            raise TypeError(f"classifiers must be a dict of names, or Subjects, got {type(subject).__name__}")
    return tuple(classifiers)


def check_subjects(subjects: Sequence[Subject], x: Tensor, y: Tensor) -> None:
    """Check that the subjects can be compared; errors name the classifier."""
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"subjects must be one or more, with different names, got {names}")
    for subject in subjects:
        clf = subject.classifier
        try:
            clf.check_inputs(x)
            clf.predict(x)
            clf.check_labels(y, len(x))
        except (TypeError, ValueError) as error:
            raise type(error)(f"model {subject.name!r}: {error}") from error
    for what, values in (
        ("bounds", {subject.name: subject.classifier.bounds for subject in subjects}),
        ("number of classes", {subject.name: subject.classifier.num_classes for subject in subjects}),
    ):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} ({name!r})" for name, value in values.items())
            raise ValueError(f"models must have the same {what}, got {listed}")


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
    own, count = subjects[number], len(subjects)
    others = ((number + step) % count for step in range(1, count))

    def distance(other: int) -> tuple[bool, bool]:
        # Classifiers of one method have different seeds: the next in order will do.
        return subjects[other].family != own.family, not own.standard and subjects[other].seed != own.seed

    return min((other for other in others if subjects[other].standard), key=distance, default=None)
