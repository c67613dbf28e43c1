"""The nearest adversarial example: many short searches from different starts, in balls that follow the boundary."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples
from boundarygeo.attacks.norms import dual_length, length, project, steepest, to_half_space
from boundarygeo.checks import check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import random_directions
from boundarygeo.evaluation import Session, analysis
from boundarygeo.linalg import like
from boundarygeo.losses import true_margin

_CANDIDATES = 10  # classes whose boundaries are linearised at the input, as in DeepFool
_OVERSHOOT = 0.02  # share of the distance by which a linearised boundary is crossed
_LOST = 0.05  # the same until something is found
_ROUNDING = 1e-6  # of the largest logit: a margin this small is no proof of another label
_TINY = 1e-12  # keeps quotients finite where a gradient is zero


@dataclass(frozen=True)
class _Round:
    """One search: where it starts, how long it is, and how its ball and its steps shrink.

    It starts on the linearised boundary of the class with a rank, by distance; or, without rank, at the nearest point
    met so far, moved at random by `noise` of its distances. Steps are the steepest in the norm (in L∞, along the
    gradient's sign), or else along the gradient, where a step of 1 has the length of the ball's diagonal: finer where
    the boundary is smooth.
    """

    rank: int | None
    noise: float
    steps: int  # points looked at
    change: tuple[float, float]  # first and last share by which the radius of the ball changes
    stride: tuple[float, float]  # first and last step, in radii
    steepest: bool


@dataclass(frozen=True)
class _Polish:
    """The nearest point met so far, then onto the boundary as it is linearised there, and crossing it by so much."""

    overshoots: tuple[float, ...] = (1e-3, 1e-4, 1e-5)

    @property
    def steps(self) -> int:
        return 1 + len(self.overshoots)


def _towards(rank: int) -> _Round:
    return _Round(rank, 0.0, 20, (0.3, 1e-3), (0.5, 0.005), steepest=True)


def _near(noise: float) -> _Round:
    return _Round(None, noise, 13, (0.05, 1e-3), (0.5, 0.005), steepest=False)


def _far(noise: float) -> _Round:
    return _Round(None, noise, 18, (0.5, 1e-3), (1.0, 0.01), steepest=True)


# Chosen on five of the eleven networks of benchmarks/minimal_norm.py and on a random one. From far starts other basins
# are found, on which robust networks depend.
_FIRST = (_Round(0, 0.0, 12, (0.2, 3e-3), (0.5, 0.02), steepest=True), _near(0.0), _Polish())
_REPEATED = (*map(_far, (8.0, 32.0, 16.0, 8.0, 32.0, 4.0)), _near(0.25), _Polish())


def _rounds(ranks: int) -> Iterator[_Round | _Polish]:
    """The rounds in their order, without end: how many steps are wanted decides only where they are cut off."""
    yield from _FIRST
    for rank in count(1):
        yield from _REPEATED
        if rank < ranks:
            yield _towards(rank)


@analysis
def minimal_norm(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 600,
    eps: float | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """The smallest perturbation found that changes the label: an upper bound of the distance to the boundary.

    Rounds of 12 to 20 steps follow each other, and the nearest adversarial point that any of them meets is kept. In
    each round, steps against the gradient of the margin stay inside a ball round the input, and inside the bounds. The
    ball shrinks where the point is adversarial and grows where it is not, as in DDN (Rony et al. 2019, arXiv
    1811.09600) and FMN (Pintor et al. 2021, arXiv 2102.12827); its changes and the steps get smaller until the round
    ends. What matters most, above all for robust networks, is where they start:

    1. on the boundary to the nearest class, linearised at the input as in DeepFool (Moosavi-Dezfooli et al. 2016, arXiv
       1511.04599), but exactly inside the bounds; then at the nearest point met;
    2. then, in turn: six times at the nearest point met so far, moved at random by 4 to 32 times its distance and into
       the bounds; close to that point; and on the boundary to the next of ten classes.

    After each search close to it, the nearest point is moved onto the boundary that is linearised there, which makes it
    exact where the boundary is flat.

    The rounds are the same however many steps are wanted, so that more steps never give a longer perturbation (but for
    float32 rounding of the network in batches of other sizes). A hundred are enough where the network is plain, see
    benchmarks/README.md. Each step is one forward and one backward pass per example, the first one backward pass for
    each of ten classes. An example that is misclassified to begin with is left as it is after the first: found,
    distance 0.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        norm: `"l2"` or `"linf"`.
        steps: number of forward passes per example, at least 4.
        eps: longest perturbation to accept, in input units; where only longer ones are met, `found` is False.
        seed: seed of the random starts.
        index: number of each example, which decides its random starts; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    check_count(steps, "steps", least=4)
    limit = math.inf if eps is None else check_eps(eps, "eps")

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = inputs.clone()
        labels, starts, live = _class_starts(session, inputs, classes, norm)
        found = labels != classes
        if len(live):
            nearest = _Nearest(session, inputs[live], classes[live], norm)
            _search(nearest, starts, numbers[live.cpu()], steps - 1, seed)
            kept = nearest.found & (nearest.distance <= limit)
            points[live[kept]], labels[live[kept]] = nearest.points[kept], nearest.labels[kept]
            found[live[kept]] = True
        return points, labels, found

    return attack_examples(
        clf, x, y, search, attack="minimal_norm", norm=norm, eps=eps, seed=seed, index=index, progress=progress
    )


class _Nearest:
    """The nearest misclassified points met so far; where there is none, the last one looked at, at distance inf."""

    def __init__(self, session: Session, inputs: Tensor, classes: Tensor, norm: Norm) -> None:
        self.session, self.inputs, self.classes = session, inputs, classes
        self.norm: Norm = norm
        self.points, self.labels = inputs, classes
        self.distance = torch.full((len(inputs),), torch.inf, device=inputs.device)

    @property
    def found(self) -> Tensor:
        return self.distance.isfinite()

    @property
    def reach(self) -> float:
        """Longest perturbation inside the bounds."""
        width = self.session.bounds[1] - self.session.bounds[0]
        return width if self.norm == "linf" else width * math.sqrt(self.inputs[0].numel())

    def look(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep what is nearer; returns margins (negative: misclassified), downhill gradients and distances."""
        logits, downhill = self.session.differentiate(points, self.classes, "margin")
        seen, margin = logits.argmax(1), true_margin(logits, self.classes)
        size = length(points - self.inputs, self.norm)
        nearer = (margin < -_ROUNDING * logits.abs().amax(1)) & (size < self.distance)
        self.points = torch.where(like(nearer | ~self.found, points), points, self.points)
        self.labels = torch.where(nearer, seen, self.labels)
        self.distance = torch.where(nearer, size, self.distance)
        return margin, downhill, size


def _class_starts(session: Session, inputs: Tensor, classes: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """Go to the linearised boundaries of the most likely classes.

    Returns predicted labels `[batch]`; perturbations to the boundaries, for the examples classified correctly, nearest
    first and those out of reach last, `[live, rank, *input]`; and which examples these are, int64 `[live]`.
    """
    top = min(_CANDIDATES, session.num_classes)
    logits, order, gradients = session.differentiate_top(inputs, top)
    labels = logits.argmax(1)
    live = (labels == classes).nonzero()[:, 0]
    inputs, gradients, heights = inputs[live], gradients[live], logits.gather(1, order)[live]
    starts = torch.empty_like(gradients[:, 1:])
    distance = torch.empty_like(heights[:, 1:])
    for rank in range(1, top):  # rank 0 is the true class
        normal, gap = gradients[:, rank] - gradients[:, 0], heights[:, 0] - heights[:, rank]
        starts[:, rank - 1], reached = to_half_space(inputs, normal, gap, norm, session.bounds)
        distance[:, rank - 1] = torch.where(reached, length(starts[:, rank - 1], norm), torch.inf)
    order = distance.sort(dim=1, stable=True).indices
    return labels, starts[torch.arange(len(live), device=live.device)[:, None], order], live


def _search(nearest: _Nearest, starts: Tensor, numbers: Tensor, steps: int, seed: int) -> None:
    """Rounds until the steps are used up."""
    inputs, norm = nearest.inputs, nearest.norm
    draws = count()
    for one in _rounds(starts.shape[1]):
        if isinstance(one, _Polish):
            _polish(nearest, one.overshoots, min(steps, one.steps))
        elif one.rank is not None:
            _search_in_ball(nearest, (1 + _OVERSHOOT) * starts[:, one.rank], one, min(steps, one.steps))
        else:
            drawn = random_directions(inputs.shape[1:], numbers, seed=seed, axis=next(draws)).to(inputs)
            size = torch.where(nearest.found, nearest.distance, nearest.reach).clamp_max(nearest.reach)
            delta = nearest.points - inputs + like(one.noise * size, inputs) * steepest(drawn, norm)
            _search_in_ball(nearest, delta, one, min(steps, one.steps))
        steps -= one.steps
        if steps <= 0:
            return


def _search_in_ball(nearest: _Nearest, delta: Tensor, one: _Round, steps: int) -> None:
    """The first steps of one round: its own ball forgets what others have found, or no other basin would be."""
    inputs, norm, bounds = nearest.inputs, nearest.norm, nearest.session.bounds
    points = (inputs + delta).clamp(*bounds)
    radius = length(points - inputs, norm)
    shortest = torch.full_like(radius, torch.inf)
    # Of a ball of radius 1 in L∞, as long as gradient steps are measured in L2.
    diagonal = 1.0 if norm == "l2" or one.steepest else math.sqrt(inputs[0].numel())
    for step in range(steps):
        margin, downhill, size = nearest.look(points)
        inside = margin < 0
        shortest = torch.where(inside, torch.minimum(size, shortest), shortest)
        change, stride = (_cosine(ends, step, one.steps) for ends in (one.change, one.stride))
        larger = torch.minimum(radius * (1 + change), shortest)
        # Until a round has crossed the boundary, its linearisation says how large the ball has to be.
        linearised = (1 + _LOST) * (size + margin / dual_length(downhill, norm).clamp_min(_TINY))
        radius = torch.where(inside, torch.minimum(radius, shortest) * (1 - change), larger)
        radius = torch.where(shortest.isfinite(), radius, linearised.clamp_max(nearest.reach))
        move = like(stride * diagonal * radius, points) * steepest(downhill, norm if one.steepest else "l2")
        points = (inputs + project(points - inputs + move, radius, norm)).clamp(*bounds)


def _polish(nearest: _Nearest, overshoots: tuple[float, ...], steps: int) -> None:
    """Exact where the boundary is flat: steps in a ball only come near the shortest perturbation and its direction."""
    inputs, norm, bounds = nearest.inputs, nearest.norm, nearest.session.bounds
    points = nearest.points
    for overshoot in overshoots[: steps - 1]:
        margin, downhill, _ = nearest.look(points)
        gap = margin + ((points - inputs) * downhill).flatten(1).sum(1)
        delta, _ = to_half_space(inputs, downhill, gap, norm, bounds)
        points = (inputs + (1 + overshoot) * delta).clamp(*bounds)
    nearest.look(points)


def _cosine(ends: tuple[float, float], step: int, steps: int) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
