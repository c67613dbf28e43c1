"""Directions in the input space, one per example."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.choices import DIRECTIONS
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import scaled_to


@dataclass(frozen=True, eq=False)
class Directions:
    """One direction per example.

    Attributes:
        vectors: float32 `[example, *input]`, in input units per step; zero where a direction does not exist.
        unit: unit of a step, for axis labels: e.g. `"ε (L∞)"` or `"L2"`.
        name: name of the directions, for axis labels.
    """

    vectors: Tensor
    unit: str
    name: str


@analysis
def named_directions(
    clf: Classifier, x: Tensor, y: Tensor, name: str, *, seed: int = 0, index: Tensor | None = None
) -> Directions:
    """Directions by name, for examples `[example, *input]`; zero where a gradient is zero.

    "fgsm" is the sign of the loss gradient (a step of ε is ε in L∞); "gradient", the loss gradient with L2 length 1;
    "random", an isotropic direction with L2 length 1, decided by `seed` and the example's number in `index`.
    """
    if name == "fgsm":
        return Directions(gradient_directions(clf, x, y).sign(), "ε (L∞)", "FGSM sign direction")
    if name == "gradient":
        return Directions(scaled_to(gradient_directions(clf, x, y), 1).float(), "L2", "loss gradient")
    if name == "random":
        drawn = random_directions(x.shape[1:], torch.arange(len(x)) if index is None else index, seed=seed)
        return Directions(scaled_to(drawn, 1).float(), "L2", "random")
    raise ValueError(f"direction must be one of {list(DIRECTIONS)} or a tensor, got {name!r}")


def numbers_of(index: Sequence[int] | Tensor | None, count: int) -> Tensor:
    """Checked numbers of the examples, int64 `[example]`; by default 0, 1, 2, …."""
    numbers = torch.arange(count) if index is None else torch.as_tensor(index).detach().cpu()
    if numbers.shape != (count,) or numbers.dtype.is_floating_point or bool((numbers < 0).any()):
        raise ValueError(f"index must be {count} integers >= 0, one per example, got {index!r}")
    return numbers.long()


@analysis
def towards(x: Tensor, targets: Tensor, *, name: str = "towards a target") -> Directions:
    """Unit L2 directions from each example to its target point; zero where an example is its own target."""
    if x.shape != targets.shape:
        raise ValueError(f"targets must have the shape of x, {list(x.shape)}, got {list(targets.shape)}")
    difference = targets.double().cpu() - x.double().cpu()
    return Directions(scaled_to(difference, 1).float(), "L2", name)


@analysis
def nearest_of_other_class(x: Tensor, y: Tensor, pool_x: Tensor, pool_y: Tensor) -> Tensor:
    """The nearest candidate (in L2) of another class for each example: Tramèr et al. 2017, §4, *legitimate* target."""
    other = y.cpu()[:, None] != pool_y.cpu()[None, :]
    if not bool(other.any(1).all()):
        raise ValueError(
            f"every example needs a candidate of another class, but pool_y holds only {pool_y.unique().tolist()}"
        )
    flat, pool = x.cpu().double().flatten(1), pool_x.cpu().double().flatten(1)
    chosen = torch.empty(len(x), dtype=torch.int64)
    for rows in torch.arange(len(x)).split(256):  # all distances at once may not fit into memory
        distance = torch.cdist(flat[rows], pool)
        chosen[rows] = distance.masked_fill(~other[rows], torch.inf).argmin(1)
    return pool_x.cpu()[chosen]


@analysis
def random_of_other_label(
    labels: Tensor, pool_x: Tensor, pool_labels: Tensor, *, seed: int = 0, index: Tensor | None = None
) -> Tensor:
    """A random candidate of another predicted class for each example: Tramèr et al. 2017, §4, *random* target."""
    other = labels.cpu()[:, None] != pool_labels.cpu()[None, :]
    if not bool(other.any(1).all()):
        only = pool_labels.unique().tolist()
        raise ValueError(f"every example needs a candidate of another class, but pool_labels holds only {only}")
    numbers = range(len(labels)) if index is None else index.tolist()
    # One generator per example, so that its choice does not depend on the other examples.
    chosen = [
        int(np.random.default_rng((seed, number)).choice(row.nonzero()[:, 0].numpy()))
        for number, row in zip(numbers, other, strict=True)
    ]
    return pool_x.cpu()[torch.tensor(chosen)]


@analysis
def class_directions(clf: Classifier, x: Tensor, targets: Tensor) -> Directions:
    """Unit L2 directions of steepest increase of a target class's log-odds; zero where the gradient is zero."""
    uphill = -clf.input_gradient(x, targets, loss="log_odds")
    return Directions(scaled_to(uphill, 1).float(), "L2", "towards a class")


@analysis
def gradient_directions(clf: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Input gradient of the log-odds: that of the cross-entropy, up to a positive factor per example.

    It does not vanish where the classifier is confident, only where the logits do not depend on the input.
    """
    return clf.input_gradient(x, y, loss="log_odds")


def random_directions(shape: torch.Size, index: Tensor, *, seed: int, axis: int = 0) -> Tensor:
    """Isotropic random directions (standard normal vectors), each of which depends on seed, example and axis alone.

    `shape` is that of one input; axes number several independent directions per example.
    """
    size = int(np.prod(shape))
    drawn = np.empty((len(index), size), dtype=np.float32)
    for row, number in zip(drawn, index.tolist(), strict=True):
        generator_of(seed, number, axis).standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(drawn).view(len(index), *shape)


def generator_of(*words: int) -> np.random.Generator:
    """A generator of its own for a seed, an example and a purpose, so that no draw depends on the other examples.

    Zeros at the end do not count: (seed, example) and (seed, example, 0) are the same generator.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
