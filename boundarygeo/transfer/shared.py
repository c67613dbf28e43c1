"""Shared dimension: number of orthogonal directions that fool all of several models, compared with chance."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from boundarygeo.choices import Box, FrameMethod, Norm, Rule
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, mean
from boundarygeo.subspace.frames.gaas import claimed_dimension
from boundarygeo.subspace.frames.search import is_closed
from boundarygeo.subspace.goal import Goal, Opponent, Turn
from boundarygeo.subspace.study import FRAME_STEPS, Best, Study, check_settings
from boundarygeo.subspace.verification import Verified, verify
from boundarygeo.transfer.classifiers import Classifiers, check_classifiers
from boundarygeo.transfer.cone import common_ascent


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SharedDimension(Result):
    """How many orthogonal directions of norm at most ε fool all models, per example, compared with chance.

    Attributes:
        claimed: first-order count for all models together, ignoring the bounds, int64 `[example]`.
        verified: count on the networks, int64 `[example]`; 0 for excluded examples and where none was found.
        found: whether there is at least one, bool `[example]`.
        correct: whether every model classifies the example correctly, bool `[example]`; others are excluded.
        valid: whether some direction increases the losses of all models, bool `[example]`; without one, nothing is
            tried and the count is 0.
        tried: sizes of the frames tried, int64 `[example, attempt]`, padded with 0.
        successes: as in `AdversarialDimension`.
        first_order: count of the frame around the common direction if `method` goes beyond it, int64 `[example]`.
        null_claimed: the claim with all models but the first randomly rotated, int64 `[example]`.
        null_verified: the count with rotated perturbations for all models but the first, int64 `[example]`; None if the
            bounds are respected, because rotated perturbations leave them.
        cosine: smallest cosine between two of the models' margin gradients, float64 `[example]`.
        orthogonality: largest |cosine| between two of the counted perturbations, float64 `[example]`.
        effective_rank: effective rank of those perturbations, float64 `[example]`.
        perturbations: those perturbations, float32 `[direction, *input]`, or None.
        owner: example of each, int64 `[direction]`, or None.
        true_labels: true classes, int64 `[example]`.
        index: number of each example, int64 `[example]`.
        names: names of the models.
        eps: largest norm allowed, in input units.
        method: `"gaas"` or `"frame"`.
        rule: `"all"` or `"count"`.
        box: `"feasible"`, `"clip"` or `"ignore"`.
        max_dimension: largest possible count.
    """

    claimed: Tensor = array("example")
    verified: Tensor = array("example")
    found: Tensor = array("example")
    correct: Tensor = array("example")
    valid: Tensor = array("example")
    tried: Tensor = array("example", "attempt", padding=0)
    successes: Tensor = array("example", "attempt", padding=0)
    first_order: Tensor | None = array("example")
    null_claimed: Tensor = array("example")
    null_verified: Tensor | None = array("example")
    cosine: Tensor = array("example")
    orthogonality: Tensor = array("example")
    effective_rank: Tensor = array("example")
    perturbations: Tensor | None = array("direction", "*input", unit="input units")
    owner: Tensor | None = array("direction")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    names: tuple[str, ...]
    eps: float
    method: FrameMethod
    rule: Rule
    box: Box
    max_dimension: int

    @property
    def smallest_cosine(self) -> Estimate:
        """Mean over the examples of the smallest cosine between two models' gradients, with its 95 % interval."""
        return mean(self.cosine[self.correct].numpy(), within=(-1, 1))

    @property
    def attempts(self) -> Tensor:
        """How many frames were tried, int64 `[example]`."""
        return (self.tried > 0).sum(1)

    @property
    def closed(self) -> Tensor:
        """Whether the count is proven to be the best over all sizes, bool `[example]`; see `AdversarialDimension`."""
        if self.method != "gaas":
            return torch.zeros_like(self.found)
        sizes = torch.arange(1, self.max_dimension + 1)
        return is_closed(self.tried, self.successes, self.verified, sizes, rule=self.rule)


@analysis
def shared_dimension(
    classifiers: Classifiers,
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
    steps: int = FRAME_STEPS,
    keep_directions: bool = False,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> SharedDimension:
    r"""Count orthogonal directions of norm at most ε that fool all models at once.

    To first order, the number of directions with :math:`r_i^Tg_m\ge\gamma_m` for all models m is
    :math:`\lfloor\varepsilon^2\min_m(h^Tg_m/\gamma_m)^2\rfloor`, with h the direction of
    `boundarygeo.transfer.cone.common_ascent` for the vectors :math:`g_m/\gamma_m` (gradients and values of margins):
    the frame of Tramèr et al. 2017 around h has :math:`r_i^Tg_m=\varepsilon h^Tg_m/\sqrt k` on average over its
    directions, and exactly where :math:`g_m` is parallel to h. (This is one construction, not an upper bound: a frame
    need not be aligned with one direction.) `method="gaas"` verifies that frame on all networks; `method="frame"`
    optimises whole frames, always on the network that is farthest behind.

    The null repeats the search with all models but the first rotated at random about the example (see
    `boundarygeo.subspace.goal.Turn`). This preserves how strongly each model reacts, and destroys the alignment of
    their directions.

    Args:
        classifiers: at least two, in a list or by name.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: L2 norm of the perturbations, in input units.
        norm: `"l2"`.
        method: `"gaas"` or `"frame"`.
        rule: as in `adversarial_dimension`.
        box: as in `adversarial_dimension`; the null is verified with `"ignore"` only.
        max_dimension: largest k; by default 200, or the number of input dimensions if that is smaller.
        grid: sizes k to try first, ascending, or `"full"`: as in `adversarial_dimension`.
        steps: steps of each search of `method="frame"`.
        keep_directions: whether to return the perturbations.
        seed: seed of the frames and of the null's rotations.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The counts, over the examples that all models classify correctly.

    Raises:
        TypeError: if the classifiers, `x` or `y` are not of the right kind.
        ValueError: if the classifiers cannot be compared, or a setting is invalid.
    """
    if norm != "l2":
        raise ValueError(f"shared_dimension works in L2 only: pass norm='l2', got {norm!r}")
    settings = check_settings(
        x[0].numel(), eps=eps, norm=norm, method=method, rule=rule, box=box, max_dimension=max_dimension, grid=grid,
        restarts=1, steps=steps, seed=seed,
    )  # fmt: skip
    numbers = numbers_of(index, len(x))
    models = check_classifiers(classifiers, x, y)
    right = models.shared.nonzero()[:, 0]
    inputs, goal = models.x[right], Goal(models.y[right], targeted=False)
    count, d = len(models.classifiers), x[0].numel()
    with contextlib.ExitStack() as stack:
        sessions = {
            clf: stack.enter_context(clf.session(models.x, models.y)) for clf in dict.fromkeys(models.classifiers)
        }
        margins = torch.zeros(len(right), count, dtype=torch.float64)
        gradients = torch.zeros(len(right), count, d, dtype=torch.float64)
        for m, clf in enumerate(models.classifiers if len(right) else ()):
            margins[:, m] = clf.margin(inputs, goal.classes)
            gradients[:, m] = goal.gradient(clf, inputs, "margin").flatten(1)
        slopes = gradients / margins[:, :, None]
        h, strength = common_ascent(slopes)
        turns = [None, *(Turn(x.shape[1:], seed=seed, draw=draw) for draw in range(1, count))]
        turned = torch.stack([_back(slopes[:, m], turn, x.shape[1:]) for m, turn in enumerate(turns)], 1)
        null_h, null_strength = common_ascent(turned)

        def search(
            rows: Tensor, ascent: Tensor, turns: Sequence[Turn | None], *, keep: bool
        ) -> tuple[Best, Best, Verified]:
            """First-order frames, the better of them and optimised ones, and the verified directions, of some rows."""
            here = Goal(goal.classes[rows], targeted=False)
            opponents = [
                Opponent(clf, sessions[clf], here, margins[rows, m], turn)
                for m, (clf, turn) in enumerate(zip(models.classifiers, turns, strict=True))
            ]
            along = ascent[rows].view(len(rows), *x.shape[1:])
            study = Study(opponents, inputs[rows], along, settings, numbers[right][rows])
            first = study.first_order(progress)
            best = first if settings.method == "gaas" else study.beyond(first, progress)
            return first, best, verify(opponents, inputs[rows], best.parts(), norm="l2", keep=keep)

        usable = (strength > 0).nonzero()[:, 0]
        first, best, seen = search(usable, h, [None] * count, keep=keep_directions)
        null_verified = None
        if box == "ignore":
            reachable = (null_strength > 0).nonzero()[:, 0]
            _, _, chance = search(reachable, null_h, turns, keep=False)
            null_verified = _whole(chance.count, right[reachable], len(x))
    who = right[usable]
    one = torch.ones(len(right))
    return SharedDimension(
        provenance=models.provenance(seed=settings.seed, **settings.resolved),
        claimed=_whole(claimed_dimension(strength, settings.eps, one, d), right, len(x)),
        verified=_whole(seen.count, who, len(x)),
        found=_whole(seen.count, who, len(x)) > 0,
        correct=models.shared,
        valid=_whole(strength > 0, right, len(x)),
        tried=_whole(best.tried, who, len(x)),
        successes=_whole(best.hits, who, len(x)),
        first_order=_whole(first.dimension(rule), who, len(x)) if method == "frame" else None,
        null_claimed=_whole(claimed_dimension(null_strength, settings.eps, one, d), right, len(x)),
        null_verified=null_verified,
        cosine=_whole(_smallest_cosine(gradients), right, len(x)),
        orthogonality=_whole(seen.orthogonality, who, len(x)),
        effective_rank=_whole(seen.effective_rank, who, len(x)),
        perturbations=seen.perturbations,
        owner=None if seen.owner is None else who[seen.owner],
        true_labels=models.y,
        index=numbers,
        names=models.names,
        eps=settings.eps,
        method=method,
        rule=rule,
        box=box,
        max_dimension=settings.cap,
    )


def _back(slope: Tensor, turn: Turn | None, shape: torch.Size) -> Tensor:
    return slope if turn is None else turn.back(slope.view(len(slope), *shape)).flatten(1)


def _whole(values: Tensor, who: Tensor, examples: int) -> Tensor:
    """Values of some examples, 0 for the others."""
    full = torch.zeros(examples, *values.shape[1:], dtype=values.dtype)
    full[who] = values
    return full


def _smallest_cosine(gradients: Tensor) -> Tensor:
    length = gradients.norm(dim=2, keepdim=True)
    unit = gradients / length.clamp_min(torch.finfo(gradients.dtype).tiny)
    return (unit @ unit.mT).amin((1, 2))
