"""The nearest adversarial example: linearise the boundary, go to its point that is nearest to the input, repeat."""

import math

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples, check_count, check_eps, labels_of
from boundarygeo.attacks.norms import length, to_half_space
from boundarygeo.classifier import Classifier
from boundarygeo.losses import true_margin

_FIRST_SEARCH = 2 / 3  # share of the steps that start at the nearest linearised boundary; the others at the second
_CANDIDATES = 10  # classes whose boundaries are linearised at the input, as in DeepFool
# Settings below from 200 digits and the CNN of the demo, see benchmarks/attacks_minimal_norm.py.
_BOLDNESS = (1.0, 0.05)  # first and last share of the way to the point nearest the input
_OVERSHOOT = (2e-2, 1e-3)  # first and last share of the distance by which a linearised boundary is crossed
_LOST_OVERSHOOT = 0.05  # as long as nothing has been found


def minimal_norm(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    norm: str = "l2",
    steps: int = 30,
    max_norm: float | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """The smallest perturbation found that changes the label: an upper bound of the distance to the boundary.

    The boundaries to the most likely other classes are linearised at the input, and the nearest of them gives the
    first guess, as in DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599), but exactly inside the bounds. Each
    further step linearises the boundary at the current point z and moves to a mixture of two points of that
    hyperplane: the one nearest to z (back to the boundary) and the one nearest to the input (along the boundary
    towards it), as in FAB (Croce & Hein 2020, arXiv 1907.02044). The weight of the second falls from 1 to 0.05, and
    the hyperplane is crossed by 2 % of the distance at first and 0.1 % at last. The last third of the steps starts
    again, at the second nearest of the boundaries linearised at the input.

    Each step is one forward and one backward pass per example, the first one backward pass for each of ten classes.
    An example that is misclassified to begin with is left as it is after the first: found, distance 0. Nothing is
    drawn at random.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        norm: `"l2"` or `"linf"`.
        steps: number of forward passes per example, at least 4.
        max_norm: longest perturbation to accept, in input units: where none that is as short is found, `found` is
            False.
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
        labels, guesses, live = _first_guesses(clf, inputs, classes, norm)
        found = labels != classes
        if len(live):
            ends, seen, distance = _refine(clf, inputs[live], classes[live], guesses, norm, steps - 1)
            kept = distance <= limit
            points[live[kept]], labels[live[kept]], found[live[kept]] = ends[kept], seen[kept], True
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
        progress=progress,
    )


def _first_guesses(
    clf: Classifier, inputs: Tensor, classes: Tensor, norm: str
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Predicted labels; perturbations to the nearest and second nearest linearised boundary; which are attacked."""
    count = min(_CANDIDATES, clf.num_classes or _CANDIDATES)
    logits, top, gradients = clf.differentiate_top(inputs, count)
    labels = labels_of(logits)
    live = (labels == classes).nonzero()[:, 0]
    logits, top, gradients, inputs = logits[live], top[live], gradients[live], inputs[live]
    nearest, second = torch.zeros_like(inputs), torch.zeros_like(inputs)
    shortest = torch.full((len(live),), torch.inf, device=inputs.device)
    runner_up = shortest.clone()
    heights = logits.gather(1, top)
    for rank in range(1, count):  # rank 0 is the true class
        normal = gradients[:, rank] - gradients[:, 0]
        delta, reached = to_half_space(inputs, normal, heights[:, 0] - heights[:, rank], norm, clf.bounds)
        size = torch.where(reached, length(delta, norm), torch.inf)
        first = size < shortest
        second = _where(first, nearest, _where(size < runner_up, delta, second))
        runner_up = torch.where(first, shortest, torch.minimum(size, runner_up))
        nearest, shortest = _where(first, delta, nearest), torch.where(first, size, shortest)
    return labels, (nearest, _where(runner_up.isfinite(), second, nearest)), live


def _refine(
    clf: Classifier, inputs: Tensor, classes: Tensor, guesses: tuple[Tensor, Tensor], norm: str, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Two searches, from either guess; the nearest misclassified points, their labels and distances (inf: none)."""
    best, labels = inputs.clone(), classes.clone()
    distance = torch.full((len(inputs),), torch.inf, device=inputs.device)
    first = math.ceil(_FIRST_SEARCH * steps)
    for guess, count in zip(guesses, (first, steps - first), strict=True):
        points = (inputs + (1 + _OVERSHOOT[0]) * guess).clamp(*clf.bounds)
        for step in range(count):
            logits, normal = clf.differentiate(points, classes, "margin")
            seen, margin = labels_of(logits), true_margin(logits, classes)
            size = length(points - inputs, norm)
            nearer = (seen != classes) & (size < distance)
            best = _where(nearer, points, best)
            labels, distance = torch.where(nearer, seen, labels), torch.where(nearer, size, distance)
            points = _next(clf, inputs, points, margin, normal, distance.isfinite(), norm, step / max(1, count - 1))
    return best, labels, distance


def _next(
    clf: Classifier,
    inputs: Tensor,
    points: Tensor,
    margin: Tensor,
    normal: Tensor,
    found: Tensor,
    norm: str,
    progress: float,
) -> Tensor:
    """Move to the boundary as linearised at the points, and along it towards the inputs."""
    delta = points - inputs
    side = _where(margin > 0, torch.ones_like(normal), -torch.ones_like(normal))
    back = delta + to_half_space(points, side * normal, margin.abs(), norm, clf.bounds)[0]
    gain = margin + (normal * delta).flatten(1).sum(1)  # of the linearised logits, from the input to the boundary
    nearest = to_half_space(inputs, normal, gain, norm, clf.bounds)[0]
    bold, timid = _BOLDNESS
    boldness = timid + (bold - timid) * (1 + math.cos(math.pi * progress)) / 2
    overshoot = _OVERSHOOT[0] * (_OVERSHOOT[1] / _OVERSHOOT[0]) ** progress
    factor = 1 + torch.where(found, overshoot, _LOST_OVERSHOOT).view(-1, *(1,) * (delta.ndim - 1))
    return (inputs + factor * ((1 - boldness) * back + boldness * nearest)).clamp(*clf.bounds)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *(1,) * (a.ndim - 1)), a, b)
