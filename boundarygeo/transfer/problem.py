"""What every comparison of classifiers starts with: a check that they fit the same inputs, and their predictions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.results import Provenance
from boundarygeo.results.statistics import Estimate, share

Classifiers = Mapping[str, Classifier] | Sequence[Classifier]
"""Several classifiers, by name or in a list; in a list, their names are "0", "1", …."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Several classifiers that fit the same examples.

    Attributes:
        names: name of each classifier.
        classifiers: the classifiers, in the same order.
        x: inputs, float32 on the CPU, clamped to the bounds, `[example, *input]`.
        y: true classes, int64 on the CPU `[example]`.
        labels: class predicted by each classifier, int64 `[classifier, example]`.
        provenance: function of the command and the keyword `seed` that ends the recording started before the labels,
            with the cost of all classifiers. A classifier that is listed twice is counted once.
    """

    names: tuple[str, ...]
    classifiers: tuple[Classifier, ...]
    x: Tensor
    y: Tensor
    labels: Tensor
    provenance: Callable[..., Provenance]

    @property
    def shared(self) -> Tensor:
        """Whether every classifier is correct, bool `[example]`."""
        return (self.labels == self.y).all(0)

    def accuracy(self) -> dict[str, Estimate]:
        """Share of the examples that each classifier, and "all" at once, classify correctly, with 95 % intervals."""
        right = [*(self.labels == self.y), self.shared]
        return {name: share(int(each.sum()), len(each)) for name, each in zip([*self.names, "all"], right, strict=True)}


def check_classifiers(classifiers: Classifiers, x: Tensor, y: Tensor) -> Problem:
    """Check that classifiers can be compared on these examples, and compute their labels in one pass each.

    Args:
        classifiers: at least two, in a list or by name.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.

    Returns:
        The problem.

    Raises:
        TypeError: if `classifiers` are not classifiers, or as `Classifier.logits`.
        ValueError: if there are fewer than two, two have the same name, their bounds or numbers of classes differ, or
            the inputs do not fit one of them.
    """
    names, several = _named(classifiers)
    bounds = {name: clf.bounds for name, clf in zip(names, several, strict=True)}
    if len(set(bounds.values())) > 1:
        raise ValueError(f"classifiers must have the same bounds, got {_listed(bounds)}")
    provenance = _record(several)
    rows = [_labels(name, clf, x, y) for name, clf in zip(names, several, strict=True)]
    classes = {name: clf.num_classes for name, clf in zip(names, several, strict=True)}
    if len(set(classes.values())) > 1:
        raise ValueError(f"classifiers must have the same number of classes, got {_listed(classes)}")
    return Problem(
        names=names,
        classifiers=several,
        x=x.detach().float().cpu().clamp(*several[0].bounds),
        y=y.detach().cpu().long(),
        labels=torch.stack(rows),
        provenance=provenance,
    )


def check_shared(problem: Problem) -> None:
    """Check that some example is classified correctly by every classifier.

    Only for whole data sets: a part of a long run may have no such example.

    Args:
        problem: result of `check_classifiers`.

    Raises:
        ValueError: if there is none.
    """
    if not bool(problem.shared.any()):
        right = dict(zip(problem.names, (problem.labels == problem.y).sum(1).tolist(), strict=True))
        raise ValueError(
            "x must have an example that every classifier gets right, got none: of "
            f"{len(problem.y)} are right {_listed(right)}"
        )


def position(names: Sequence[str], which: str | int, name: str) -> int:
    """Position of a classifier given by name or number.

    Args:
        names: name of each classifier.
        which: one of the names, or its position.
        name: the argument's name in the message.

    Returns:
        The position, not negative.

    Raises:
        ValueError: if there is no such classifier.
    """
    if isinstance(which, str) and which in names:
        return list(names).index(which)
    if isinstance(which, int) and not isinstance(which, bool) and 0 <= which < len(names):
        return which
    raise ValueError(f"{name} must be one of {list(names)}, or a number below {len(names)}, got {which!r}")


def _named(classifiers: Classifiers) -> tuple[tuple[str, ...], tuple[Classifier, ...]]:
    if isinstance(classifiers, Mapping):
        names, several = tuple(str(name) for name in classifiers), tuple(classifiers.values())
    elif isinstance(classifiers, Sequence) and not isinstance(classifiers, str):
        several = tuple(classifiers)
        names = tuple(str(number) for number in range(len(several)))
    else:
        raise TypeError(f"classifiers must be a list, or a dict of names, got {type(classifiers).__name__}")
    for clf in several:
        if not isinstance(clf, Classifier):
            raise TypeError(f"classifiers must be Classifier objects, got {type(clf).__name__}")
    if len(several) < 2:
        raise ValueError(f"pass at least two classifiers, got {len(several)}")
    if len(set(names)) < len(names):
        raise ValueError(f"classifiers must have different names, got {list(names)}")
    return names, several


def _labels(name: str, clf: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Predicted classes; errors name the classifier."""
    try:
        clf.check_inputs(x)
        clf.check_labels(y, len(x))
        labels = clf.predict(x)
        clf.check_labels(y, len(x))  # again, because now the number of classes is known
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        shape = list(x.shape)
        raise ValueError(f"classifier {name!r} does not accept x of shape {shape}: {reason}") from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (classifier {name!r})") from error
    return labels


def _record(classifiers: Sequence[Classifier]) -> Callable[..., Provenance]:
    records = {id(clf): clf.record() for clf in classifiers}

    def provenance(**arguments: Any) -> Provenance:
        each = {key: record(**arguments) for key, record in records.items()}
        parts = list(each.values())
        return dataclasses.replace(
            parts[0],
            model=", ".join(each[id(clf)].model for clf in classifiers),
            device=", ".join(dict.fromkeys(part.device for part in parts)),
            forwards=sum(part.forwards for part in parts),
            backwards=sum(part.backwards for part in parts),
        )

    return provenance


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{value} ({name!r})" for name, value in values.items())
