"""Several classifiers that fit the same examples: what every analysis of transfer starts with."""

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
class MatchedClassifiers:
    """Several classifiers that fit the same examples.

    Attributes:
        names: name of each classifier.
        classifiers: the classifiers, in the same order.
        x: inputs, float32 on the CPU, clamped to the bounds, `[example, *input]`.
        y: true classes, int64 on the CPU `[example]`.
        predicted: class that each classifier gives, int64 `[classifier, example]`.
        provenance: ends the recording started before the predictions, with the cost of all classifiers; takes `seed`
            and resolved arguments. A classifier that is listed twice is counted once.
    """

    names: tuple[str, ...]
    classifiers: tuple[Classifier, ...]
    x: Tensor
    y: Tensor
    predicted: Tensor
    provenance: Callable[..., Provenance]

    @property
    def correct(self) -> Tensor:
        """Whether each classifier is correct, bool `[classifier, example]`."""
        return self.predicted == self.y

    @property
    def shared(self) -> Tensor:
        """Whether every classifier is correct, bool `[example]`."""
        return self.correct.all(0)

    def accuracy(self) -> dict[str, Estimate]:
        """Share of the examples that each classifier, and "all" at once, classify correctly, with 95 % intervals."""
        right = [*self.correct, self.shared]
        return {name: share(int(each.sum()), len(each)) for name, each in zip([*self.names, "all"], right, strict=True)}


def check_classifiers(classifiers: Classifiers, x: Tensor, y: Tensor) -> MatchedClassifiers:
    """Check that at least two classifiers can be compared on these examples; one forward pass each, errors name it."""
    names, several = _named(classifiers)
    bounds = {name: clf.bounds for name, clf in zip(names, several, strict=True)}
    if len(set(bounds.values())) > 1:
        raise ValueError(f"classifiers must have the same bounds, got {_listed(bounds)}")
    provenance = _record(several)
    rows = [_predicted(name, clf, x, y) for name, clf in zip(names, several, strict=True)]
    classes = {name: clf.num_classes for name, clf in zip(names, several, strict=True)}
    if len(set(classes.values())) > 1:
        raise ValueError(f"classifiers must have the same number of classes, got {_listed(classes)}")
    x = x.detach().float().cpu().clamp(*several[0].bounds)
    return MatchedClassifiers(names, several, x, y.detach().cpu().long(), torch.stack(rows), provenance)


def check_shared(models: MatchedClassifiers) -> None:
    """Raise unless all classifiers are correct on some example; not for parts of long runs, which may have none."""
    if not bool(models.shared.any()):
        right = dict(zip(models.names, models.correct.sum(1).tolist(), strict=True))
        raise ValueError(
            "x must have an example that every classifier gets right, got none: of "
            f"{len(models.y)} are right {_listed(right)}"
        )


def position(names: Sequence[str], which: str | int, argument: str) -> int:
    """Position of a classifier given by name or number; errors name the argument."""
    if isinstance(which, str) and which in names:
        return list(names).index(which)
    if isinstance(which, int) and not isinstance(which, bool) and 0 <= which < len(names):
        return which
    raise ValueError(f"{argument} must be one of {list(names)}, or a number below {len(names)}, got {which!r}")


def pair_number(names: Sequence[str], pairs: Tensor, a: str | int, b: str | int) -> int:
    """Number of a pair among positions `[pair, 2]`, its classifiers given by name or number, in any order."""
    wanted = sorted((position(names, a, "a"), position(names, b, "b")))
    if wanted not in pairs.tolist():
        raise ValueError(f"a and b must be different models, got {a!r} twice")
    return pairs.tolist().index(wanted)


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


def _predicted(name: str, clf: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Predicted classes; errors name the classifier."""
    try:
        clf.check_inputs(x)
        clf.check_labels(y, len(x))
        predicted = clf.predict(x)
        clf.check_labels(y, len(x))  # again, because now the number of classes is known
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"classifier {name!r} does not accept x of shape {list(x.shape)}: {reason}") from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (classifier {name!r})") from error
    return predicted


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
