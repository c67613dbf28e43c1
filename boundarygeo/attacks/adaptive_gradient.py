"""APGD: projected gradient ascent that chooses its own step sizes (Croce & Hein 2020, arXiv 2003.01690)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples
from boundarygeo.attacks.norms import project, random_in_ball, steepest
from boundarygeo.checks import check_choice, check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session, analysis
from boundarygeo.linalg import like
from boundarygeo.losses import dlr, loss_of, targeted_dlr

_MOMENTUM = 0.75  # α: share of the step in the gradient's direction; the rest goes on as before
_RISES = 0.75  # ρ: where no larger share of the steps since the last checkpoint raised the loss, the step is halved
_FIRST, _SHRINK, _SHORTEST = 22, 3, 6  # periods between checkpoints in % of all steps: first, by how much less, least

Goal = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss `[example]` of logits `[example, class]`, true classes `[example]` and targets `[example]`."""

_GOALS: dict[str, Goal] = {
    # The log-odds grow with the cross-entropy and have the same steps, but do not vanish where softmax rounds to 1.
    "cross_entropy": lambda logits, y, _: loss_of(logits, y, "log_odds"),
    "dlr": lambda logits, y, _: dlr(logits, y),
}


@analysis
def apgd(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    loss: str = "cross_entropy",
    restarts: int = 1,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    draw: Callable[..., Tensor] = random_in_ball,
    progress: bool = True,
) -> AdversarialExamples:
    """APGD with the cross-entropy or the difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690).

    Projected gradient ascent with momentum whose steps begin at 2 ε. At checkpoints that grow denser, the step of an
    example is halved, and its search goes on from the best point so far, if at most three quarters of the steps since
    the last checkpoint raised its loss, or neither its step nor its largest loss has changed since then. No step
    size needs to be chosen. Where the paper and its authors' code differ (both conditions at the first checkpoint, "at
    most"), the code is followed.

    An example stops at its first success, and one that is misclassified to begin with is left as it is: found,
    distance 0. Random starts are decided by (seed, index of the example, restart): results do not depend on the batch
    size, the order or the splitting of the examples, but for the float32 rounding of the network itself.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        steps: number of steps, each one forward and one backward pass; one forward pass more at the end.
        loss: `"cross_entropy"`, computed as its log-odds (`boundarygeo.Classifier.input_gradient`), or `"dlr"`, the
            paper's eq. 6 (its numerator for two classes).
        restarts: how often the search is started, while it has not succeeded.
        seed: seed of the random starts.
        index: number of each example; by default 0, 1, 2, ….
        draw: draws the random starts, called as `random_in_ball`.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The adversarial examples; where none was found, the point with the largest loss.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    check_choice(loss, "loss", _GOALS)

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ascent = _Ascent(session, _GOALS[loss], radius=radius, norm=norm, steps=steps, seed=seed, draw=draw)
        return _search(ascent, inputs, classes, numbers, lambda _: classes[:, None].expand(-1, restarts))

    return attack_examples(
        clf, x, y, search, attack="apgd", norm=norm, eps=radius, seed=seed, index=index, progress=progress
    )


@analysis
def apgd_targeted(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    target_count: int = 9,
    restarts: int = 1,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    draw: Callable[..., Tensor] = random_in_ball,
    progress: bool = True,
) -> AdversarialExamples:
    """APGD towards the most likely other classes, one after another (Croce & Hein 2020, arXiv 2003.01690).

    One search of `apgd` per class, which climbs the targeted difference of logits ratio (eq. 7; for fewer than four
    classes, its numerator). Every misclassification is a success, whatever the class.

    Args:
        clf: as in `apgd`.
        x: as in `apgd`.
        y: true classes, int64 `[example]`.
        eps: as in `apgd`.
        norm: as in `apgd`.
        steps: as in `apgd`, for each class.
        target_count: how many classes, those with the largest logits at the input; all others where there are fewer.
        restarts: how often all classes are tried, while none has succeeded.
        seed: as in `apgd`.
        index: as in `apgd`.
        draw: as in `apgd`.
        progress: as in `apgd`.

    Returns:
        The adversarial examples; where none was found, the point with the largest loss.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    for name, value in (("steps", steps), ("target_count", target_count), ("restarts", restarts)):
        check_count(value, name)

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def others(logits: Tensor) -> Tensor:
            count = min(target_count, logits.shape[1] - 1)
            return logits.scatter(1, classes[:, None], -torch.inf).topk(count, dim=1).indices.repeat(1, restarts)

        ascent = _Ascent(session, targeted_dlr, radius=radius, norm=norm, steps=steps, seed=seed, draw=draw)
        return _search(ascent, inputs, classes, numbers, others)

    return attack_examples(
        clf, x, y, search, attack="apgd_targeted", norm=norm, eps=radius, seed=seed, index=index, progress=progress
    )


@dataclass(frozen=True)
class _Ascent:
    """What all searches of an attack have in common."""

    session: Session
    goal: Goal
    radius: float
    norm: Norm
    steps: int
    seed: int
    draw: Callable[..., Tensor]


@dataclass
class _Climbers:
    """The examples that a search has not finished with, one row each."""

    row: Tensor  # which row of the batch it is
    origin: Tensor  # the input
    classes: Tensor  # true classes
    targets: Tensor  # classes to reach, for goals that have them
    points: Tensor  # where the search is
    former: Tensor  # where it was one step before
    uphill: Tensor  # gradients at the points
    loss: Tensor  # losses at the points
    best: Tensor  # points with the largest loss so far
    best_uphill: Tensor  # gradients there
    best_loss: Tensor  # losses there
    checked: Tensor  # losses there at the last checkpoint
    stride: Tensor  # lengths of the next step, in the norm
    rises: Tensor  # how many steps since the last checkpoint raised the loss
    halved: Tensor  # whether the last checkpoint halved the step

    @classmethod
    def at(cls, starts: Tensor, origin: Tensor, classes: Tensor, targets: Tensor, stride: float) -> "_Climbers":
        """All examples of a batch before their first step."""
        none, lowest = torch.zeros_like(starts), torch.full((len(starts),), -torch.inf, device=starts.device)
        return cls(
            row=torch.arange(len(starts), device=starts.device),
            origin=origin,
            classes=classes,
            targets=targets,
            points=starts,
            former=starts,
            uphill=none,
            loss=lowest,
            best=starts,
            best_uphill=none,
            best_loss=lowest,
            checked=lowest,
            stride=torch.full_like(lowest, stride),
            rises=torch.zeros_like(classes),
            # So the first checkpoint looks at the share of rises alone, as the authors' code does.
            halved=torch.ones_like(classes, dtype=torch.bool),
        )

    def keep(self, rows: Tensor) -> None:
        """Go on with some of them only."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])


def _search(
    ascent: _Ascent, inputs: Tensor, classes: Tensor, numbers: Tensor, targets_of: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """One search after another, for the examples that none has succeeded for: points, labels there, and successes.

    From the logits of the inputs, `targets_of` gives the targets of each search, `[example, search]`.
    """
    points, logits = inputs.clone(), ascent.session.evaluate(inputs)
    labels = logits.argmax(1)
    found = labels != classes
    losses = torch.full_like(logits[:, 0], -torch.inf)
    for number, targets in enumerate(targets_of(logits).T):
        live = (~found).nonzero()[:, 0]
        if not len(live):
            break
        origin, wanted = inputs[live], classes[live]
        drawn = ascent.draw(inputs.shape[1:], numbers[live.cpu()], ascent.norm, seed=ascent.seed, draw=number)
        starts = (origin + ascent.radius * drawn.to(origin)).clamp(*ascent.session.bounds)
        ends, seen, loss = _climb(ascent, origin, wanted, targets[live], starts)
        hit = seen != wanted
        better = hit | (loss > losses[live])
        rows = better.nonzero()[:, 0]
        kept = live[rows]
        points[kept], labels[kept], losses[kept], found[kept] = (v[rows] for v in (ends, seen, loss, hit))
    return points, labels, found


def _climb(
    ascent: _Ascent, origin: Tensor, classes: Tensor, targets: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One search: the first misclassified point, or that with the largest loss; the labels and the losses there."""
    steps = ascent.steps
    ends, labels, losses = starts.clone(), classes.clone(), torch.empty_like(starts.flatten(1)[:, 0])
    climbers = _Climbers.at(starts, origin, classes, targets, 2 * ascent.radius)
    periods = _periods(steps)
    for step in range(steps + 1):
        logits = _look(climbers, ascent, last=step == steps)
        done = logits.argmax(1) != climbers.classes
        rows = done.nonzero()[:, 0]
        if len(rows):
            at = climbers.row[rows]
            ends[at], labels[at], losses[at] = climbers.points[rows], logits[rows].argmax(1), climbers.loss[rows]
            climbers.keep((~done).nonzero()[:, 0])
            if not len(climbers.row):
                return ends, labels, losses
        if step in periods:
            _check(climbers, periods[step])
        if step < steps:
            _move(climbers, ascent, momentum=step > 0)
    ends[climbers.row], losses[climbers.row] = climbers.best, climbers.best_loss
    return ends, labels, losses


def _look(climbers: _Climbers, ascent: _Ascent, *, last: bool) -> Tensor:
    """Logits at the points; their losses and, but for the last points, gradients are noted."""

    def goal(logits: Tensor, classes: Tensor) -> Tensor:
        return ascent.goal(logits, classes, climbers.targets)

    c = climbers
    if last:
        logits = ascent.session.evaluate(c.points)
    else:
        logits, c.uphill = ascent.session.differentiate(c.points, c.classes, goal)
    before, c.loss = c.loss, goal(logits, c.classes)
    c.rises = c.rises + (before.isfinite() & (c.loss > before))
    better = c.loss > c.best_loss
    c.best = torch.where(like(better, c.points), c.points, c.best)
    c.best_uphill = torch.where(like(better, c.points), c.uphill, c.best_uphill)
    c.best_loss = torch.where(better, c.loss, c.best_loss)
    return logits


def _check(climbers: _Climbers, period: int) -> None:
    """Halve the steps of searches that get no further, and send them back to their best points (Algorithm 1)."""
    c = climbers
    c.halved = (c.rises <= _RISES * period) | (~c.halved & (c.best_loss <= c.checked))
    back = like(c.halved, c.points)
    c.points, c.uphill = torch.where(back, c.best, c.points), torch.where(back, c.best_uphill, c.uphill)
    c.stride = torch.where(c.halved, c.stride / 2, c.stride)
    c.checked, c.rises = c.best_loss, torch.zeros_like(c.rises)


def _move(climbers: _Climbers, ascent: _Ascent, *, momentum: bool) -> None:
    """One step uphill, mixed with the step before."""

    def allowed(points: Tensor) -> Tensor:
        return (c.origin + project(points - c.origin, ascent.radius, ascent.norm)).clamp(*ascent.session.bounds)

    c = climbers
    points = allowed(c.points + like(c.stride, c.points) * steepest(c.uphill, ascent.norm))
    if momentum:
        points = allowed(c.points + _MOMENTUM * (points - c.points) + (1 - _MOMENTUM) * (c.points - c.former))
    c.former, c.points = c.points, points


def _periods(steps: int) -> dict[int, int]:
    """Steps since the last checkpoint, by the number of steps before each checkpoint."""
    period, shrink, shortest = (max(1, steps * share // 100) for share in (_FIRST, _SHRINK, _SHORTEST))
    found, step = {}, period
    while step <= steps:
        found[step] = period
        period = max(period - shrink, shortest)
        step += period
    return found
