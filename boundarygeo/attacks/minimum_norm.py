"""The nearest adversarial example: linearise the boundary and go to its nearest point, then shrink a ball."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples, check_count, check_eps, labels_of
from boundarygeo.attacks.norms import dual_length, length, like, steepest, to_half_space
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.losses import true_margin

_CANDIDATES = 10  # classes whose boundaries are linearised at the input, as in DeepFool
# What follows was chosen on the network of the demo and on random ones, see benchmarks/attacks_minimal_norm.py.
_LINEARISED = 0.4  # share of the steps of the first search
_BOLDNESS = (1.0, 0.05)  # first and last share of the way along the boundary to the point nearest the input
_OVERSHOOT = (2e-2, 1e-3)  # first and last share of the distance by which a linearised boundary is crossed
_LOST_OVERSHOOT = 0.05  # the same as long as nothing has been found
_SHRINKING = (5e-2, 1e-3)  # first and last share by which the ball changes
_STRIDE = (0.5, 0.005)  # first and last step inside the ball, in L2 lengths of a step to its surface
_TINY = 1e-12  # keeps quotients finite where a gradient is zero


@analysis
def minimal_norm(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    norm: str = "l2",
    steps: int = 30,
    max_norm: float | None = None,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """The smallest perturbation found that changes the label: an upper bound of the distance to the boundary.

    The boundaries to the most likely other classes are linearised at the input, and the nearest of them gives the
    first guess, as in DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599), but exactly inside the bounds. Then
    two searches follow, both keep the nearest adversarial point they meet:

    1. Two fifths of the steps linearise the boundary at the current point and move to a mixture of two points of that
       hyperplane: the one nearest to the current point and the one nearest to the input, as in FAB (Croce & Hein 2020,
       arXiv 1907.02044). It converges fast where the boundary is nearly flat.
    2. The others climb the margin inside a ball round the input that shrinks where the point is adversarial and grows
       where it is not, as in DDN (Rony et al. 2019, arXiv 1811.09600) and FMN (Pintor et al. 2021, arXiv 2102.12827).
       It goes on where the boundary is bent.

    Each step is one forward and one backward pass per example, the first one backward pass for each of ten classes.
    An example that is misclassified to begin with is left as it is after the first: found, distance 0. Nothing is
    drawn at random. The last steps resolve about 0.1 % of the distance.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        norm: `"l2"` or `"linf"`.
        steps: number of forward passes per example, at least 4.
        max_norm: longest perturbation to accept, in input units: where none that is as short is found, `found` is
            False.
        index: number of each example, by which the result names them; by default 0, 1, 2, ….
        progress: whether to show a bar when it takes more than two seconds.

    Returns:
        The adversarial examples.

    Raises:
        TypeError: as `attack_examples`.
        ValueError: as `attack_examples`, or if `steps` or `max_norm` is out of its range.
    """
    check_count(steps, "steps", least=4)
    limit = math.inf if max_norm is None else check_eps(max_norm, "max_norm")

    def search(inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = inputs.clone()
        labels, guess, live = _first_guess(clf, inputs, classes, norm)
        found = labels != classes
        if len(live):
            nearest = _Nearest(clf, inputs[live], classes[live], norm)
            linearised = math.ceil(_LINEARISED * (steps - 1))
            _search_linearised(nearest, guess, linearised)
            _search_in_ball(nearest, steps - 1 - linearised)
            kept = nearest.found & (nearest.distance <= limit)
            points[live[kept]], labels[live[kept]] = nearest.points[kept], nearest.labels[kept]
            found[live[kept]] = True
        return points, labels, found

    return attack_examples(
        clf,
        x,
        y,
        search,
        attack="minimal_norm",
        norm=norm,
        eps=max_norm,
        targeted=False,
        settings=f"steps={steps}",
        index=index,
        progress=progress,
    )


class _Nearest:
    """The nearest misclassified points met so far.

    Attributes:
        points: those points; where there is none, the last one looked at.
        labels: classes predicted there.
        distance: their distance from the inputs; inf where there is none.
    """

    def __init__(self, clf: Classifier, inputs: Tensor, classes: Tensor, norm: str) -> None:
        self.clf, self.inputs, self.classes, self.norm = clf, inputs, classes, norm
        self.points, self.labels = inputs, classes
        self.distance = torch.full((len(inputs),), torch.inf, device=inputs.device)

    @property
    def found(self) -> Tensor:
        return self.distance.isfinite()

    def look(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what is nearer; returns the margins at the points (negative: misclassified) and their way down."""
        logits, downhill = self.clf.differentiate(points, self.classes, "margin")
        seen, margin = labels_of(logits), true_margin(logits, self.classes)
        size = length(points - self.inputs, self.norm)
        nearer = (seen != self.classes) & (size < self.distance)
        self.points = torch.where(like(nearer | ~self.found, points), points, self.points)
        self.labels = torch.where(nearer, seen, self.labels)
        self.distance = torch.where(nearer, size, self.distance)
        return margin, downhill


def _first_guess(clf: Classifier, inputs: Tensor, classes: Tensor, norm: str) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted labels; perturbations to the nearest linearised boundary of those attacked; which these are."""
    count = min(_CANDIDATES, clf.num_classes or _CANDIDATES)
    logits, top, gradients = clf.differentiate_top(inputs, count)
    labels = labels_of(logits)
    live = (labels == classes).nonzero()[:, 0]
    inputs, gradients, heights = inputs[live], gradients[live], logits.gather(1, top)[live]
    guess = torch.zeros_like(inputs)
    shortest = torch.full((len(live),), torch.inf, device=inputs.device)
    for rank in range(1, count):  # rank 0 is the true class
        normal, gap = gradients[:, rank] - gradients[:, 0], heights[:, 0] - heights[:, rank]
        delta, reached = to_half_space(inputs, normal, gap, norm, clf.bounds)
        size = torch.where(reached, length(delta, norm), torch.inf)
        guess = torch.where(like(size < shortest, delta), delta, guess)
        shortest = torch.minimum(size, shortest)
    return labels, guess, live


def _search_linearised(nearest: _Nearest, guess: Tensor, steps: int) -> None:
    """Move to the boundary as linearised at the current point, and along it towards the input."""
    inputs, norm, bounds = nearest.inputs, nearest.norm, nearest.clf.bounds
    points = (inputs + (1 + _OVERSHOOT[0]) * guess).clamp(*bounds)
    for step in range(steps):
        margin, downhill = nearest.look(points)
        delta, side = points - inputs, like(margin.sign(), points)
        back = delta + to_half_space(points, side * downhill, margin.abs(), norm, bounds)[0]
        gain = margin + (downhill * delta).flatten(1).sum(1)  # of the linearised margin, from the input to the boundary
        along = to_half_space(inputs, downhill, gain, norm, bounds)[0]
        boldness = _cosine(_BOLDNESS, step, steps)
        overshoot = _OVERSHOOT[0] * (_OVERSHOOT[1] / _OVERSHOOT[0]) ** (step / max(1, steps - 1))
        factor = 1 + like(torch.where(nearest.found, overshoot, _LOST_OVERSHOOT), points)
        points = (inputs + factor * ((1 - boldness) * back + boldness * along)).clamp(*bounds)


def _search_in_ball(nearest: _Nearest, steps: int) -> None:
    """Climb inside a ball whose radius follows success and failure."""
    inputs, norm, bounds = nearest.inputs, nearest.norm, nearest.clf.bounds
    points = nearest.points
    radius = length(points - inputs, norm)
    # A step of 1 reaches the surface of the ball: in L∞, its corners.
    reach = math.sqrt(inputs[0].numel()) if norm == "linf" else 1.0
    for step in range(steps):
        margin, downhill = nearest.look(points)
        delta = points - inputs
        change = _cosine(_SHRINKING, step, steps)
        smaller = torch.minimum(radius, nearest.distance) * (1 - change)
        larger = torch.minimum(radius * (1 + change), nearest.distance)
        linearised = length(delta, norm) + margin / dual_length(downhill, norm).clamp_min(_TINY)
        radius = torch.where(margin < 0, smaller, torch.where(nearest.found, larger, linearised))
        stride = _cosine(_STRIDE, step, steps) * reach * radius
        delta = delta + like(stride, delta) * steepest(downhill, "l2")
        surface = like(radius, delta)
        if norm == "linf":
            delta = torch.minimum(torch.maximum(delta, -surface), surface)
        else:
            delta = delta * (surface / like(length(delta, "l2").clamp_min(_TINY), delta))
        points = (inputs + delta).clamp(*bounds)


def _cosine(ends: tuple[float, float], step: int, steps: int) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
