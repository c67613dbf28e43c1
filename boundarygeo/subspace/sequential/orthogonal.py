"""Nearest perturbations that are orthogonal to given ones and stay inside bounds. No model anywhere.

Tensors are float64: one vector per example `[batch, d]`, and bases of orthonormal rows (or zeros) `[batch, k, d]`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PRECISE = 1e-7
"""Largest |cos| to a given perturbation at which `nearest` and `nearest_beyond` count as precise."""

_SEARCH_STEPS = 5
_FLAT_ENOUGH = 0.3  # of the first slope: at which the line search along a Newton step stops
_DAMPING = (1e-10, 1e-6, 1.0)  # least, first and most; the rows that are damped have length 1
_STEEPEST = 1e2  # largest multiplier of a half-space, in widths of the bounds: it may be out of reach
_NOTHING = 1e-6  # share of a vector: what is left after a projection and shorter than this is rounding
_TINY = 1e-300  # keeps quotients finite


@dataclass(frozen=True)
class Bounds:
    """How far each coordinate of each example can move: down to `low` <= 0 and up to `high` >= 0, `[batch, d]`.

    `width` is the distance between the bounds.
    """

    low: Tensor
    high: Tensor
    width: float

    def rows(self, chosen: Tensor) -> "Bounds":
        """The bounds of some of the examples."""
        return Bounds(self.low[chosen], self.high[chosen], self.width)

    def clip(self, delta: Tensor) -> Tensor:
        """The nearest perturbations within the bounds."""
        return torch.clamp(delta, self.low, self.high)


def products(rows: Tensor, v: Tensor) -> Tensor:
    """Scalar products of each example's rows `[batch, k, d]` with its vector `[batch, d]`: `[batch, k]`."""
    return torch.bmm(v[:, None], rows.mT)[:, 0]  # row times matrix: matrix times column is seven times slower


def combinations(weights: Tensor, rows: Tensor) -> Tensor:
    """Sums of each example's rows `[batch, k, d]` with weights `[batch, k]`: `[batch, d]`."""
    return torch.bmm(weights[:, None], rows)[:, 0]


def orthogonal_unit(v: Tensor, basis: Tensor) -> Tensor:
    """Unit vector of each vector's component orthogonal to a basis; zero where only rounding is left."""
    rest = v - combinations(products(basis, v), basis) if basis.shape[1] else v
    size = rest.norm(dim=1, keepdim=True)
    return torch.where(size > _NOTHING * v.norm(dim=1, keepdim=True), rest / size.clamp_min(_TINY), 0.0)


def nearest(
    anchor: Tensor, basis: Tensor, bounds: Bounds | None, multipliers: Tensor | None = None, *, newton_steps: int = 30
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest perturbation to an anchor that is orthogonal to a basis and inside the bounds.

    `multipliers` `[batch, k]` of a similar problem are a good start: then two to six steps suffice. Without bounds the
    anchor must be orthogonal to the basis. Returns perturbations, their multipliers, and whether they are orthogonal to
    the basis to `PRECISE`, bool `[batch]`.
    """
    if multipliers is None:
        multipliers = anchor.new_zeros(basis.shape[:2])
    if bounds is None:
        return anchor, multipliers, torch.ones_like(anchor[:, 0], dtype=torch.bool)
    return _solve(basis, torch.zeros_like(multipliers), anchor, bounds, multipliers, newton_steps, steepest=None)


def nearest_beyond(
    anchor: Tensor,
    normal: Tensor,
    gain: Tensor,
    basis: Tensor,
    bounds: Bounds | None,
    multipliers: Tensor | None = None,
    *,
    newton_steps: int = 30,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The nearest perturbation to an anchor in a half-space, orthogonal to a basis and inside the bounds.

    Solves :math:`\min \|\delta - a\|^2` such that :math:`n^T\delta \ge c`, :math:`D\delta = 0` and
    :math:`l \le \delta \le h`. The solution is :math:`\delta = \mathrm{clip}(a + \lambda n + D^T\mu, l, h)` with the
    multipliers λ >= 0 and μ that minimise the dual, a convex, piecewise quadratic function whose gradient is
    :math:`[n^T\delta - c, D\delta]`: a semismooth Newton method finds them for the whole batch. λ is bounded, so
    that a half-space out of reach gives the perturbation that goes almost as far as possible.

    As `nearest`, with normals n `[batch, d]`, offsets c in units of n, `[batch]`, and multipliers `[batch, 1 + k]`, the
    first of which, λ, is that of a normal of length 1.
    """
    if multipliers is None:
        multipliers = anchor.new_zeros(len(anchor), 1 + basis.shape[1])
    size = normal.norm(dim=1).clamp_min(_TINY)
    if bounds is None:
        unit = orthogonal_unit(normal, basis)
        speed = (unit * normal).sum(1)
        missing = (gain - (normal * anchor).sum(1)).clamp_min(0)
        step = torch.where(speed > 0, missing / speed.clamp_min(_TINY), 0.0)
        return anchor + step[:, None] * unit, multipliers, torch.ones_like(size, dtype=torch.bool)
    rows = torch.cat([(normal / size[:, None])[:, None], basis], 1)
    target = torch.zeros_like(multipliers)
    target[:, 0] = gain / size
    return _solve(rows, target, anchor, bounds, multipliers, newton_steps, steepest=_STEEPEST * bounds.width)


def _solve(
    rows: Tensor,
    target: Tensor,
    anchor: Tensor,
    bounds: Bounds,
    multipliers: Tensor,
    newton_steps: int,
    *,
    steepest: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Semismooth Newton method on the dual; with `steepest`, the first multiplier stays in [0, steepest]."""
    if not rows.shape[1]:
        return bounds.clip(anchor), multipliers, torch.ones_like(anchor[:, 0], dtype=torch.bool)
    if steepest is not None:
        multipliers = torch.cat([multipliers[:, :1].clamp(0, steepest), multipliers[:, 1:]], 1)
    solution, solved = torch.empty_like(anchor), torch.empty_like(multipliers)
    precise = torch.empty(len(anchor), dtype=torch.bool, device=anchor.device)
    who = torch.arange(len(anchor), device=anchor.device)
    unclipped = anchor + combinations(multipliers, rows)
    damping = torch.full_like(anchor[:, 0], _DAMPING[1])
    for step in range(newton_steps + 1):
        delta = bounds.clip(unclipped)
        slope = products(rows, delta) - target
        size = delta.norm(dim=1).clamp_min(_TINY)
        free = torch.ones_like(size)
        if steepest is not None:  # a multiplier at its limit counts as solved even if the dual falls beyond
            first, fall = multipliers[:, 0], slope[:, 0]
            free = (~((first <= 0) & (fall > 0) | (first >= steepest) & (fall < 0))).to(slope)
            slope[:, 0] *= free
        done = slope.abs().amax(1) <= PRECISE * size
        if step == newton_steps:
            done |= True
        stops = done.nonzero()[:, 0]
        if len(stops):
            over = who[stops]
            solution[over], solved[over] = delta[stops], multipliers[stops]
            aligned = slope if steepest is None else slope[:, 1:]
            precise[over] = (aligned.abs() <= PRECISE * size[:, None]).all(1)[stops]
            if len(stops) == len(done):
                break
            going = (~done).nonzero()[:, 0]
            who, rows, target, multipliers, unclipped = (
                values[going] for values in (who, rows, target, multipliers, unclipped)
            )
            damping, delta, slope, free = (values[going] for values in (damping, delta, slope, free))
            bounds = bounds.rows(going)
        inside = (delta == unclipped).to(rows)
        curvature = torch.bmm(rows * inside[:, None], rows.mT)
        curvature.diagonal(dim1=1, dim2=2).add_(damping[:, None])
        most = torch.full_like(damping, torch.inf)
        if steepest is None:
            change = -torch.linalg.solve(curvature, slope)
        else:
            change, most = _limited_step(curvature, slope, multipliers[:, 0], free, steepest)
        moved = combinations(change, rows)
        length = _along(unclipped, moved, bounds, (target * change).sum(1), (slope * change).sum(1), most)
        # Steps far shorter than Newton's mean that coordinates reach the bounds at once: then move towards the
        # gradient, which cannot stall.
        full, short = (length >= 0.5) | (length >= most), length < 0.1
        damping = torch.where(full, 0.1 * damping, torch.where(short, 10 * damping, damping))
        damping = damping.clamp(_DAMPING[0], _DAMPING[2])
        multipliers = multipliers + length[:, None] * change
        if steepest is not None:
            multipliers[:, 0].clamp_(0, steepest)
        unclipped = torch.addcmul(unclipped, length[:, None], moved)
    return solution, solved, precise


def _limited_step(
    curvature: Tensor, slope: Tensor, first: Tensor, free: Tensor, steepest: float
) -> tuple[Tensor, Tensor]:
    """Newton step that holds the first multiplier at its limit, and the largest multiple of it that may be taken."""
    change = -torch.linalg.solve(_without_first(curvature, free), slope)
    outward = ((first >= steepest) & (change[:, 0] > 0)) | ((first <= 0) & (change[:, 0] < 0))
    if bool(outward.any()):
        free = free * ~outward
        slope = torch.cat([(slope[:, 0] * free)[:, None], slope[:, 1:]], 1)
        change = -torch.linalg.solve(_without_first(curvature, free), slope)
    ahead = change[:, 0]
    room = torch.where(ahead > 0, steepest - first, -first)
    return change, torch.where(ahead != 0, room / ahead, torch.inf)


def _without_first(curvature: Tensor, free: Tensor) -> Tensor:
    """The matrix with its first row and column replaced by the identity's where the first unknown is not free."""
    curvature = curvature.clone()
    curvature[:, 0] *= free[:, None]
    curvature[:, :, 0] *= free[:, None]
    curvature[:, 0, 0] += 1 - free
    return curvature


def _along(unclipped: Tensor, moved: Tensor, bounds: Bounds, offset: Tensor, fall: Tensor, most: Tensor) -> Tensor:
    """Step length at which the dual's slope along the step, which grows from `fall` < 0, is nearly zero."""
    length = most.clamp_max(1.0)
    slope = torch.linalg.vecdot(moved, bounds.clip(torch.addcmul(unclipped, length[:, None], moved))) - offset
    rest = ((slope.abs() > -_FLAT_ENOUGH * fall) & ((length < most) | (slope > 0))).nonzero()[:, 0]
    if len(rest):  # most full steps suffice
        unclipped, moved, offset, fall, most = (values[rest] for values in (unclipped, moved, offset, fall, most))
        length[rest] = _bracketed(length[rest], unclipped, moved, bounds.rows(rest), offset, fall, most)
    return length


def _bracketed(
    length: Tensor, unclipped: Tensor, moved: Tensor, bounds: Bounds, offset: Tensor, fall: Tensor, most: Tensor
) -> Tensor:
    """As `_along`, by Newton's method in a bracket from an initial length."""
    near, far = torch.zeros_like(length), torch.full_like(length, torch.inf)
    square = moved.square()
    for _ in range(_SEARCH_STEPS):
        there = torch.addcmul(unclipped, length[:, None], moved)
        delta = bounds.clip(there)
        slope = torch.linalg.vecdot(moved, delta) - offset
        done = (slope.abs() <= -_FLAT_ENOUGH * fall) | ((length >= most) & (slope <= 0))
        if bool(done.all()):
            break
        near, far = torch.where(slope < 0, length, near), torch.where(slope < 0, far, length)
        guess = length - slope / torch.linalg.vecdot(square, (delta == there).to(square)).clamp_min(_TINY)
        middle = torch.where(near > 0, (near * far).sqrt(), 0.03 * far)
        middle = torch.where(far.isinf(), 10 * length, middle)
        guess = torch.where((guess > near) & (guess < far) & (guess < 10 * length), guess, middle)
        length = torch.where(done, length, torch.minimum(guess, most))
    return length
