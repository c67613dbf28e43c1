"""Distances between the decision boundaries of different models (Tramèr et al. 2017, arXiv 1704.03453, §4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_choice
from boundarygeo.classifier import Classifier
from boundarygeo.directions import (
    Directions,
    named_directions,
    nearest_of_other_class,
    numbers_of,
    random_of_other_label,
    towards,
)
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import scaled_to
from boundarygeo.lines.distances import boundary_distance, check_reach
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, mean, share
from boundarygeo.transfer.classifiers import Classifiers, MatchedClassifiers, check_classifiers, position

DIRECTIONS = ("legitimate", "adversarial", "random")
ADVERSARIAL = ("gradient", "fgsm")
Pool = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BoundaryComparison:
    """Whether another model's boundary is nearer to the source's boundary than the latter is to the example.

    All averages are over the `distance.n` examples on which both models change their label within `max_distance`; over
    all examples they would be larger.

    Attributes:
        n: number of examples for which the direction exists.
        source_censored: number of examples on which only the source keeps its label up to `max_distance`.
        target_censored: number on which only the target does.
        both_censored: number on which both do.
        distance: mean of MD_d(source, x), in L2 input units, with its 95 % interval.
        inter: mean of ID_d(source, target, x), in L2 input units, with its 95 % interval.
        difference: mean of MD - ID of the same example, with its 95 % interval: positive where ID < MD on average.
        nearer: share of the examples with ID < MD among those where both are known, with its Wilson interval.
        conservative: the same number as a share of all `n` examples: the censored ones count as ID ≥ MD.
    """

    n: int
    source_censored: int
    target_censored: int
    both_censored: int
    distance: Estimate
    inter: Estimate
    difference: Estimate
    nearer: Estimate
    conservative: Estimate


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class InterBoundaryDistance(Result):
    """Distance to each model's boundary along the same directions, on the examples that all models classify correctly.

    All other examples are excluded throughout.

    Attributes:
        distance: MD_d(f, x), the smallest ε at which the label of f at x + ε d differs from that at x, along each
            source's directions; in L2 input units, float64 `[direction, source, classifier, example]`; inf where the
            label does not change up to `max_distance`, NaN without a direction or where a model misclassifies the
            example.
        correct: whether each model classifies the example correctly, bool `[classifier, example]`.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`; determines its random direction.
        names: name of each model, the same for sources and classifiers.
        directions: names of the directions.
        adversarial: kind of adversarial directions, `"gradient"` or `"fgsm"`.
        max_distance: largest distance searched, in L2 input units.
        scan: number of equally spaced points evaluated first.
        tolerance: the change lies within this distance before `distance`, in L2 input units.
        clip: whether points were clipped to the bounds.
    """

    distance: Tensor = array("direction", "source", "classifier", "example", unit="L2 input units")
    correct: Tensor = array("classifier", "example")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    names: tuple[str, ...]
    directions: tuple[str, ...]
    adversarial: str
    max_distance: float
    scan: int
    tolerance: float
    clip: bool

    @property
    def found(self) -> Tensor:
        """Whether the label changes up to `max_distance`, bool `[direction, source, classifier, example]`."""
        return self.distance.isfinite()

    @property
    def shared(self) -> Tensor:
        """Whether all models classify the example correctly, bool `[example]`."""
        return self.correct.all(0)

    @property
    def valid(self) -> Tensor:
        """Whether all models are correct and the direction exists, bool `[direction, source, example]`."""
        return ~self.distance[:, :, 0].isnan()

    @property
    def censored(self) -> Tensor:
        """Share of the examples with a direction on which a model keeps its label up to `max_distance`.

        Float64 `[direction, source, classifier]`; NaN where no example has a direction.
        """
        return self.distance.isinf().sum(3).double() / self.valid.sum(2)[:, :, None].double()

    def model_distance(self, direction: str, source: str | int, model: str | int) -> Tensor:
        """Distance MD_d(f, x) to one model's boundary along a source's directions (models by name or number).

        In L2 input units, float64 `[example]`; inf where censored, NaN where not valid.
        """
        if direction not in self.directions:
            raise ValueError(f"direction must be one of {list(self.directions)}, got {direction!r}")
        i, j = position(self.names, source, "source"), position(self.names, model, "model")
        return self.distance[self.directions.index(direction), i, j]

    def inter_distance(self, direction: str, source: str | int, target: str | int) -> Tensor:
        """ID_d(source, target, x) = |MD_d(source, x) - MD_d(target, x)| along the source's directions.

        In L2 input units, float64 `[example]`; NaN where one of the two is censored.
        """
        first, second = (self.model_distance(direction, source, model) for model in (source, target))
        gap = (first - second).abs()
        return torch.where(gap.isfinite(), gap, torch.nan)

    def compare(self, direction: str, source: str | int, target: str | int) -> BoundaryComparison:
        """Compare ID with MD, example by example: is ID_d(source, target, x) < MD_d(source, x)?"""
        first, second = (self.model_distance(direction, source, model) for model in (source, target))
        known = (first.isfinite() & second.isfinite()).numpy()
        distance, inter = first.numpy()[known], (first - second).abs().numpy()[known]
        nearer, n = int((inter < distance).sum()), int((~first.isnan()).sum())
        return BoundaryComparison(
            n=n,
            source_censored=int((first.isinf() & second.isfinite()).sum()),
            target_censored=int((first.isfinite() & second.isinf()).sum()),
            both_censored=int((first.isinf() & second.isinf()).sum()),
            distance=mean(distance, within=(0, np.inf)),
            inter=mean(inter, within=(0, np.inf)),
            difference=mean(distance - inter),
            nearer=share(nearer, len(distance)),
            conservative=share(nearer, n),
        )


@analysis
def inter_boundary_distance(
    classifiers: Classifiers,
    x: Tensor,
    y: Tensor,
    *,
    directions: Sequence[str] = DIRECTIONS,
    max_distance: float,
    adversarial: str = "gradient",
    pool: Pool | None = None,
    scan: int = 64,
    tolerance: float | None = None,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
) -> InterBoundaryDistance:
    """Distances to and between the boundaries of several models, along unit L2 directions.

    The examples are those that all models classify correctly; along each direction `boundary_distance` finds the
    boundary of every model. The directions are

    - `"legitimate"`: towards the nearest (L2) point of the pool with another true class; the same for every source;
    - `"adversarial"`: each source's loss gradient, or its sign (FGSM), scaled to L2 length 1;
    - `"random"`: towards a random point of the pool that the source classifies differently from the example. The
      eligible points depend on the source; the draw depends only on the seed and the example's number.

    Distances are steps along the direction. With `clip`, points on the way are clipped to the bounds, so a point at
    distance ε may be nearer than ε to the example.

    Args:
        classifiers: at least two with the same classes and bounds, in a list or by name.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        directions: any of the three kinds.
        max_distance: largest distance to search, in L2 input units.
        adversarial: `"gradient"` or `"fgsm"`.
        pool: points `[candidate, *input]` and their true classes, int64 `[candidate]`, as ends of the legitimate and
            random directions; optionally with the label that each model gives them, int64 `[classifier, candidate]`
            (see `labelled_pool`). By default the examples themselves; results then depend on which examples are given.
        scan: number of equally spaced points evaluated first; a region thinner than their spacing can be missed.
        tolerance: how far a reported distance may lie beyond the change; by default a millionth of `max_distance`.
        clip: whether points are clipped to the bounds.
        seed: seed of the random directions.
        index: number of each example, which determines its random direction; by default 0, 1, 2, ….

    Returns:
        The distances; inf where no change is found.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of its range, the pool has no point of another class (or label) for some
            example, or the classifiers cannot be compared.
    """
    kinds = _check(directions, adversarial)
    tolerance = check_reach(max_distance, scan, tolerance)
    models = check_classifiers(classifiers, x, y)
    numbers = numbers_of(index, len(x))
    candidates, classes, predicted = _pool(models, pool)
    keep = models.shared
    here, truth, drawn = models.x[keep], models.y[keep], numbers[keep]
    count = len(models.names)
    distance = torch.full((len(kinds), count, count, len(x)), torch.nan, dtype=torch.float64)
    settings = {"max_distance": max_distance, "scan": scan, "tolerance": tolerance, "clip": clip}

    def along(clf: Classifier, way: Directions) -> Tensor:
        return boundary_distance(clf, here, truth, direction=way, **settings).distance

    for number, kind in enumerate(kinds if len(here) else ()):
        if kind == "legitimate":
            way = towards(here, nearest_of_other_class(here, truth, candidates, classes), name=kind)
            ways: Iterator[Directions] = iter([way])
        elif kind == "adversarial":
            ways = (_adversarial(clf, here, truth, adversarial) for clf in models.classifiers)
        else:
            ways = (
                towards(here, random_of_other_label(truth, candidates, seen, seed=seed, index=drawn), name=kind)
                for seen in predicted  # on the examples themselves, all models predict the true class
            )
        for source, way in enumerate(ways):
            distance[number, source][:, keep] = torch.stack([along(clf, way) for clf in models.classifiers])
        if kind == "legitimate":
            distance[number] = distance[number, :1].clone()
    return InterBoundaryDistance(
        provenance=models.provenance(
            seed=seed, directions=kinds, pool="given" if pool else "examples", tolerance=tolerance
        ),
        distance=distance,
        correct=models.correct,
        true_labels=models.y,
        index=numbers,
        names=models.names,
        directions=kinds,
        adversarial=adversarial,
        max_distance=float(max_distance),
        scan=scan,
        tolerance=float(tolerance),
        clip=bool(clip),
    )


def _check(directions: Sequence[str], adversarial: str) -> tuple[str, ...]:
    kinds = (directions,) if isinstance(directions, str) else tuple(directions)
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(DIRECTIONS):
        raise ValueError(f"directions must be distinct names from {list(DIRECTIONS)}, got {list(kinds)}")
    check_choice(adversarial, "adversarial", ADVERSARIAL)
    return kinds


def labelled_pool(classifiers: Classifiers, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A pool with every model's labels, int64 `[classifier, candidate]`, so that repeated calls do not compute them."""
    return points, classes, check_classifiers(classifiers, points, classes).predicted


def _pool(models: MatchedClassifiers, pool: Pool | None) -> tuple[Tensor, Tensor, Tensor]:
    """Points, their true classes, and each model's labels."""
    if pool is None:
        return models.x, models.y, models.predicted
    points, classes, *known = pool
    first = models.classifiers[0]
    first.check_inputs(points, "pool")
    first.check_labels(classes, len(points), "classes of the pool")
    if points.shape[1:] != models.x.shape[1:]:
        expected, got = list(models.x.shape[1:]), list(points.shape[1:])
        raise ValueError(f"pool must have inputs of the shape {expected} of x, got {got}")
    points = points.detach().float().cpu().clamp(*first.bounds)
    if known:
        labels = _known_labels(models, known[0], len(points))
    else:
        labels = torch.stack([clf.predict(points) for clf in models.classifiers])
    return points, classes.detach().cpu().long(), labels


def _known_labels(models: MatchedClassifiers, labels: Tensor, count: int) -> Tensor:
    """Given labels of the pool, checked, on the CPU."""
    expected = [len(models.classifiers), count]
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels of the pool must be a tensor of shape {expected}, got {type(labels).__name__}")
    if list(labels.shape) != expected or labels.dtype != torch.int64:
        raise ValueError(
            f"labels of the pool must be int64 of shape {expected}, got {labels.dtype} of {list(labels.shape)}"
        )
    for clf, row in zip(models.classifiers, labels, strict=True):
        clf.check_labels(row, count, "labels of the pool")
    return labels.cpu()


def _adversarial(clf: Classifier, x: Tensor, y: Tensor, kind: str) -> Directions:
    vectors = named_directions(clf, x, y, kind).vectors
    return Directions(scaled_to(vectors, torch.ones(len(x))).float(), "L2", "adversarial")
