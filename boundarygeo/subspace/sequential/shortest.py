"""The shortest adversarial perturbation that is orthogonal to given ones and inside bounds, for a batch of examples."""

import math

import torch
from torch import Tensor

from boundarygeo.subspace.sequential.candidates import Candidates
from boundarygeo.subspace.sequential.orthogonal import Bounds, nearest, nearest_beyond, orthogonal_unit

# What follows was chosen on networks on MNIST and CIFAR-10, plain and robust ones, with and without bounds.
_FROM_STARTS = 0.3  # share of the steps that each start takes
_IN_BALL = 0.4  # share of those that the best of them goes on in the ball
_STRIDES = (1.5, 0.1), (0.3, 0.01)  # first and last step inside the ball, in radii: of the starts, of the best
_CHANGES = (0.3, 0.01), (0.1, 1e-3)  # first and last share by which the radius changes: likewise
_SHORTCUT = 0.9, 0.5  # share of the way to the boundary, to first order, by which it shrinks at once; and most
_ALL_CLASSES = 0.6  # share of the steps along the gradient of the log-odds of all other classes, not of the nearest one
_STRETCH = 10.0  # most by which a step is stretched to make up for what the bounds take away
_BOLDNESS = (0.5, 0.05)  # first and last share of the way along the boundary to the point nearest the input
_OVERSHOOT = (2e-2, 1e-4)  # first and last share of the distance by which a linearised boundary is crossed
_FARTHER = 1.3  # longest perturbation after a linearisation, in distances of the best found
_NEWTON_STEPS = 4  # of each projection: where that is not enough, the next one goes on
_LAST_NEWTON_STEPS = 30
_SAME = 1e-5  # share of a distance by which two may differ and be called equal
_APART = 0.7  # cosine of the angle beyond which what another start found is another perturbation
_TINY = 1e-30  # keeps quotients finite


def search_shortest(
    best: Candidates,
    ahead: Tensor,
    targets: Tensor,
    basis: Tensor,
    bounds: Bounds | None,
    radius: Tensor,
    reach: float,
    *,
    steps: int,
) -> tuple[Candidates, Tensor]:
    """Short searches from several starts, and a longer one from the best: see `sequential_directions`.

    Args:
        best: what is known before, if anything.
        ahead: unit vectors along which to go first, orthogonal to the basis, float64 `[batch, start, d]`.
        targets: class that each start heads for, int64 `[batch, start]`; -1 for any.
        basis: of the perturbations before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        radius: first guess of the length, float64 `[batch]`.
        reach: longest perturbation to look at.
        steps: number of points to look at from a start to the end, at least 4.

    Returns:
        What was found, and the nearest that another start found elsewhere, float64 `[batch, d]`, zero if none did.
    """
    batch, starts = targets.shape
    short, on = round(_FROM_STARTS * steps), round(_IN_BALL * steps)
    rows = torch.arange(batch, device=radius.device).repeat_interleave(starts)
    several = best.rows(rows)
    delta, ahead = _search_in_ball(
        several,
        torch.zeros_like(ahead.flatten(0, 1)),
        ahead.flatten(0, 1),
        basis[rows],
        None if bounds is None else bounds.rows(rows),
        radius[rows],
        reach,
        short,
        strides=_STRIDES[0],
        changes=_CHANGES[0],
        targets=targets.flatten(),
    )
    distance = several.distance.view(batch, starts)
    # Starts often meet in one point: which of them goes on must not depend on rounding.
    shortest = distance <= (1 + _SAME) * distance.amin(1, keepdim=True)
    chosen = rows[::starts] * starts + shortest.byte().argsort(dim=1, descending=True, stable=True)[:, 0]
    found = several.delta.double()
    cosine = (found * found[chosen][rows]).sum(1) / (several.distance * several.distance[chosen][rows])
    apart = cosine < _APART  # also False where nothing was found
    other = torch.where(apart, several.distance, torch.inf).view(batch, starts).min(1)
    spare = found[rows[::starts] * starts + other.indices] * other.values.isfinite()[:, None]
    best, sloped = several.rows(chosen), several.sloped.view(batch, starts).any(1)
    best.sloped |= sloped
    delta = torch.where(best.found[:, None], best.delta.double(), delta[chosen])
    size = delta.norm(dim=1)
    delta, _ = _search_in_ball(
        best, delta, ahead[chosen], basis, bounds, size, reach, on, strides=_STRIDES[1], changes=_CHANGES[1]
    )
    _search_linearised(best, delta, basis, bounds, reach, steps - short - on)
    best.conclude(basis)
    return best, spare


def _search_in_ball(
    best: Candidates,
    delta: Tensor,
    ahead: Tensor,
    basis: Tensor,
    bounds: Bounds | None,
    radius: Tensor,
    reach: float,
    steps: int,
    *,
    strides: tuple[float, float],
    changes: tuple[float, float],
    targets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Go along the gradient on the surface of a ball that shrinks where the point is adversarial and grows where not.

    Args:
        best: takes what is found.
        delta: where to start, float64 `[batch, d]`.
        ahead: unit vectors along which to go first, orthogonal to the basis, float64 `[batch, d]`.
        basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        radius: of the balls at first, float64 `[batch]`.
        reach: largest radius.
        steps: number of points to look at.
        strides: first and last step, in radii.
        changes: first and last share by which the radius changes.
        targets: classes to head for, int64 `[batch]`, as in `Candidates.look`.

    Returns:
        The last perturbations and the unit vectors along which to go on, float64 `[batch, d]`.
    """
    multipliers, stretch = None, torch.ones_like(radius)
    for step in range(steps):
        anchor = delta + (_cosine(strides, step, steps) * radius)[:, None] * ahead
        anchor *= (stretch * radius / anchor.norm(dim=1).clamp_min(_TINY))[:, None]
        delta, multipliers, precise = nearest(anchor, basis, bounds, multipliers, newton_steps=_NEWTON_STEPS)
        size = delta.norm(dim=1).clamp_min(_TINY)
        # The bounds cut the perturbation short: the next one is stretched by what this one lacks.
        stretch = (stretch * (radius / size).clamp(0.5, 2)).clamp(1, _STRETCH)
        delta = delta * (radius / size).clamp_max(1)[:, None]
        margin, uphill = best.look(delta, precise, "log_odds" if step < _ALL_CLASSES * steps else "margin", targets)
        ahead = orthogonal_unit(uphill, basis)
        change = _cosine(changes, step, steps)
        # Deep in the other class it shrinks by more: nearly to where the boundary is to first order.
        depth = -margin / ((uphill * ahead).sum(1) * size).clamp_min(_TINY)
        smaller = torch.minimum(radius, best.distance) * (1 - (_SHORTCUT[0] * depth).clamp(change, _SHORTCUT[1]))
        larger = torch.minimum(radius * (1 + change), best.distance)
        radius = torch.where(margin < 0, smaller, larger).clamp_max(reach)
        # Where there is no gradient, straight on.
        ahead = torch.where(ahead.any(1)[:, None], ahead, delta / size[:, None])
    return delta, ahead


def _search_linearised(
    best: Candidates, delta: Tensor, basis: Tensor, bounds: Bounds | None, reach: float, steps: int
) -> None:
    """Linearise the boundary and go to a point of it between the nearest and the one nearest to the input.

    Args:
        best: takes what is found, and says where to start.
        delta: where to start where nothing was found, float64 `[batch, d]`.
        basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        reach: longest perturbation.
        steps: number of points to look at.
    """
    delta = torch.where(best.found[:, None], best.delta.double(), delta)
    multipliers, precise = None, torch.zeros_like(best.found)
    for step in range(steps - 1):
        margin, uphill = best.look(delta, precise, "margin")
        # The last one all the way: inside bounds, a trace of earlier steps in a coordinate that lies on a bound would
        # take that coordinate from all further directions.
        last = step == steps - 2
        boldness = 1.0 if last else _cosine(_BOLDNESS, step, steps - 2)
        overshoot = _OVERSHOOT[0] * (_OVERSHOOT[1] / _OVERSHOOT[0]) ** (step / max(1, steps - 2))
        gain = (margin + (uphill * delta).sum(1)).clamp_min(0) * (1 + overshoot)
        # The nearest to a share of the way is nearest in the weighted mean of both squared distances.
        share = (1 - boldness) * delta
        newton_steps = _LAST_NEWTON_STEPS if last else _NEWTON_STEPS
        delta, multipliers, precise = nearest_beyond(
            share, uphill, gain, basis, bounds, multipliers, newton_steps=newton_steps
        )
        most = torch.where(best.found, _FARTHER * best.distance, reach)
        delta = delta * (most / delta.norm(dim=1).clamp_min(_TINY)).clamp_max(1)[:, None]
    best.look(delta, precise, "margin")


def _cosine(ends: tuple[float, float], step: int, steps: int) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
