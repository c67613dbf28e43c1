"""The dimension of adversarial subspaces: how many orthogonal directions fool the network, claimed and verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from boundarygeo.attacks.norms import dual_length
from boundarygeo.checks import check_choice, check_positive, plain
from boundarygeo.choices import Box, FrameMethod, Norm, Rule
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.subspace.frames.gaas import claimed_dimension
from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS
from boundarygeo.subspace.frames.search import is_closed
from boundarygeo.subspace.goal import LOSSES, Goal, Opponent
from boundarygeo.subspace.study import FRAME_STEPS, Study, check_settings
from boundarygeo.subspace.verification import verify


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AdversarialDimension(Result):
    """How many orthogonal directions of norm at most ε fool the network, per example.

    `claimed` is what first-order theory says about one gradient. Everything else was measured on the network.

    Attributes:
        claimed: first-order count for γ, ignoring the bounds, int64 `[example]`.
        verified: count on the network, by `rule`, int64 `[example]`; 0 for excluded examples and where none was found.
        found: whether there is at least one, bool `[example]`.
        correct: whether the example is classified correctly (targeted: not yet as its target), bool `[example]`; all
            others are excluded.
        valid: whether there is a gradient, bool `[example]`; without one, nothing is tried and the count is 0.
        tried: sizes of all frames tried, ascending, int64 `[example, attempt]`, padded with 0. With several `restarts`,
            those of the best draw; with `method="frame"`, those that were optimised.
        successes: how many of their directions fooled the network, same shape. With `rule="all"` a frame is abandoned
            soon after its first failure, so a number below the size covers only the directions checked by then.
        first_order: count from the first-order frames alone if `method` goes beyond them, int64 `[example]`, else None.
        gamma: increase of the loss that the claim assumes, float64 `[example]`.
        gradient_norm: dual norm of the loss gradient (L2 for L2, L1 for L∞), float64 `[example]`.
        orthogonality: largest |cosine| between two of the counted perturbations as applied, float64 `[example]`.
        effective_rank: of those perturbations (Roy & Vetterli 2007), float64 `[example]`; their number if they are
            orthogonal, less if clipping made them similar.
        largest_norm: largest norm of those perturbations, float64 `[example]`.
        perturbations: those perturbations, float32 `[direction, *input]`, or None.
        owner: example of each, int64 `[direction]`, or None.
        adversarial_label: class predicted there, int64 `[direction]`, or None.
        true_labels: true classes, int64 `[example]`.
        targets: classes to reach, int64 `[example]`, or None if any other class is a success.
        index: number of each example, int64 `[example]`.
        eps: largest norm allowed, in input units.
        norm: `"l2"` or `"linf"`.
        method: `"gaas"` or `"frame"`.
        rule: `"all"` or `"count"`.
        box: `"feasible"`, `"clip"` or `"ignore"`.
        loss: loss whose gradient was used.
        max_dimension: largest count that could be found.
        restarts: number of rotated frames tried.
    """

    claimed: Tensor = array("example")
    verified: Tensor = array("example")
    found: Tensor = array("example")
    correct: Tensor = array("example")
    valid: Tensor = array("example")
    tried: Tensor = array("example", "attempt", padding=0)
    successes: Tensor = array("example", "attempt", padding=0)
    first_order: Tensor | None = array("example")
    gamma: Tensor = array("example", unit="loss")
    gradient_norm: Tensor = array("example", unit="loss per input unit")
    orthogonality: Tensor = array("example")
    effective_rank: Tensor = array("example")
    largest_norm: Tensor = array("example", unit="input units")
    perturbations: Tensor | None = array("direction", "*input", unit="input units")
    owner: Tensor | None = array("direction")
    adversarial_label: Tensor | None = array("direction")
    true_labels: Tensor = array("example")
    targets: Tensor | None = array("example")
    index: Tensor = array("example", coordinate=True)
    eps: float
    norm: Norm
    method: FrameMethod
    rule: Rule
    box: Box
    loss: str
    max_dimension: int
    restarts: int

    @property
    def at_cap(self) -> Tensor:
        """Whether the count reached the limit set by `max_dimension`, bool `[example]`."""
        return self.verified >= self.max_dimension

    @property
    def attempts(self) -> Tensor:
        """How many frames were tried, int64 `[example]`."""
        return (self.tried > 0).sum(1)

    @property
    def closed(self) -> Tensor:
        """Whether the count is proven to be the best over all sizes up to `max_dimension`, bool `[example]`.

        True if every size that could be better was tried and none is. Success is not monotone in the size, so an
        untried size may do better; `grid="full"` leaves none out. False for optimised frames, which may miss directions
        that exist, and where nothing was tried.
        """
        if self.method != "gaas":
            return torch.zeros_like(self.found)
        sizes = REGULAR_ORDERS if self.norm == "linf" else range(1, self.max_dimension + 1)
        within = torch.tensor([size for size in sizes if size <= self.max_dimension])
        return is_closed(self.tried, self.successes, self.verified, within, rule=self.rule)


@analysis
def adversarial_dimension(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "l2",
    method: FrameMethod = "gaas",
    rule: Rule = "all",
    box: Box = "feasible",
    max_dimension: int | None = None,
    grid: Sequence[int] | Literal["full"] | None = None,
    restarts: int = 1,
    loss: str = "margin",
    targets: Tensor | None = None,
    gamma: float | None = None,
    steps: int = FRAME_STEPS,
    keep_directions: bool = False,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialDimension:
    r"""Count orthogonal adversarial directions of norm at most ε around each example.

    `method="gaas"` builds the gradient-aligned frames of Tramèr et al. 2017 (L2; for L∞ those of Tramèr et al. 2018,
    from regular Hadamard matrices) for a grid of sizes k, and evaluates all k inputs on the network. It then bisects
    the gaps on either side of the best size. As success need not be monotone in k, it also tries all sizes within 10 of
    the best and, with `rule="all"`, where a frame is abandoned at its first failure, all sizes up to four times the
    best plus 10: no frame of these sizes is better. All remaining sizes are tried if they cost no more than the work
    so far (`"count"`: than a quarter of it), or with `grid="full"`: see `closed`.
    `method="frame"` (L2 only) continues from there: whole frames of growing size are optimised on the network, all
    margins at once. The count is the largest number of successes in one frame, and never below that of `"gaas"`.
    `sequential_directions` counts without frames: one direction after another, the shortest first.

    The inputs' bounds can be handled in three ways, because clipping destroys orthogonality:

    - `"ignore"`: the theory's setting. Points may leave the bounds.
    - `"clip"`: points are clipped, and the perturbations are no longer orthogonal: see `effective_rank`.
    - `"feasible"`: the perturbations as applied lie inside the bounds, have norm at most ε, and are orthogonal
      to float32 rounding.

    Args:
        clf: the classifier.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: norm of the perturbations, in input units.
        norm: `"l2"` or `"linf"`.
        method: `"gaas"` or `"frame"`.
        rule: `"all"`: the largest k such that all k directions of a frame succeed; `"count"`: the most successes in any
            one frame.
        box: `"feasible"`, `"clip"` or `"ignore"`.
        max_dimension: largest k; by default 200, or the number of input dimensions if that is smaller.
        grid: sizes k to try first, ascending; no larger size is tried (by `method="frame"`: up to `max_dimension`). For
            L∞ they must be orders of regular Hadamard matrices, and all orders up to the last are tried. `"full"` tries
            every size up to `max_dimension` (K) that could be better, so the count is exact; with `rule="all"` this
            costs about K more forward passes per example, with `"count"` about K²/2.
        restarts: number of rotated frames to try; the best one counts, for each example.
        loss: loss whose gradient is used: `"margin"` (largest other logit minus the true one), `"log_odds"`, or
            `"cross_entropy"`, with the same direction but a different norm.
        targets: classes to reach, int64 `[example]`; by default any other class is a success. With targets, the
            gradient is that of the target's log-odds.
        gamma: increase of the loss that the first-order claim assumes; by default what each example needs to reach the
            boundary: its margin, or (log-odds, cross-entropy) the distance to even odds.
        steps: steps of each search of `method="frame"`, each one forward and one backward pass per direction.
        keep_directions: whether to return the perturbations.
        seed: seed of the frames.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The counts. Misclassified examples are excluded and marked; those without a gradient have dimension 0.

    Raises:
        TypeError: if `x`, `y` or `targets` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.

    Examples:
        >>> linear = torch.nn.Linear(4, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = linear.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
        >>> x, y = torch.full((1, 4), 0.25), torch.tensor([0])  # at a distance of 1/2 from the boundary
        >>> adversarial_dimension(Classifier(linear), x, y, eps=0.9, box="ignore").verified  # floor(0.81 / 0.25)
        tensor([3])
    """
    check_choice(loss, "loss", LOSSES)
    if method == "sequential":
        raise ValueError("use sequential_directions(clf, x, y, eps=...) in place of method='sequential'")
    (gamma,) = plain(gamma)
    if gamma is not None:
        check_positive(gamma, "gamma")
    clf.check_inputs(x)
    x = x.detach().float()
    clf.check_labels(y, len(x))
    if targets is not None:
        clf.check_labels(targets, len(x), name="targets")
    settings = check_settings(
        x[0].numel(), eps=eps, norm=norm, method=method, rule=rule, box=box, max_dimension=max_dimension, grid=grid,
        restarts=restarts, steps=steps, seed=seed,
    )  # fmt: skip
    numbers = numbers_of(index, len(x))
    goal = Goal((y if targets is None else targets).detach().cpu().long(), targets is not None)
    provenance = clf.record()
    with clf.session(x, y) as session:
        clf.check_labels(goal.classes, len(x), name="targets" if goal.targeted else "y")
        logits = clf.logits(x).double()
        correct = ~goal.reached(logits.argmax(1), torch.arange(len(x)))
        gradient = goal.gradient(clf, x, loss)
        missing = goal.missing(logits, loss) if gamma is None else torch.full((len(x),), float(gamma)).double()
        dual = dual_length(gradient.double(), norm)
        valid = (dual > 0) & dual.isfinite()
        who = (correct & valid).nonzero()[:, 0]
        margin = -goal.gain(logits, torch.arange(len(x)))[who]
        opponent = Opponent(clf, session, Goal(goal.classes[who], goal.targeted), margin)
        study = Study([opponent], x[who], gradient[who], settings, numbers[who])
        first, best = None, study.first_order(progress)
        if method == "frame":
            first, best = best, study.beyond(best, progress)
        seen = verify([opponent], x[who], best.parts(), norm=norm, keep=keep_directions)

    def whole(values: Tensor) -> Tensor:
        full = torch.zeros(len(x), *values.shape[1:], dtype=values.dtype)
        full[who] = values
        return full

    claimed = claimed_dimension(dual, settings.eps, missing, x[0].numel())
    return AdversarialDimension(
        provenance=provenance(seed=settings.seed, **settings.resolved),
        claimed=torch.where(correct, claimed, 0),
        verified=whole(seen.count),
        found=whole(seen.count) > 0,
        correct=correct,
        valid=valid,
        tried=whole(best.tried),
        successes=whole(best.hits),
        first_order=None if first is None else whole(first.dimension(rule)),
        gamma=missing,
        gradient_norm=dual,
        orthogonality=whole(seen.orthogonality),
        effective_rank=whole(seen.effective_rank),
        largest_norm=whole(seen.largest_norm),
        perturbations=seen.perturbations,
        owner=None if seen.owner is None else who[seen.owner],
        adversarial_label=seen.adversarial_label,
        true_labels=y.detach().cpu().long(),
        targets=goal.classes if goal.targeted else None,
        index=numbers,
        eps=settings.eps,
        norm=norm,
        method=method,
        rule=rule,
        box=box,
        loss=goal.loss(loss),
        max_dimension=settings.cap,
        restarts=settings.restarts,
    )
