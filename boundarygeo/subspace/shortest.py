"""The shortest adversarial perturbation that is orthogonal to given ones and inside bounds, for a batch of examples."""

import math

import torch
from torch import Tensor

from boundarygeo.subspace.candidates import Candidates
from boundarygeo.subspace.orthogonal import Bounds, nearest, nearest_beyond, orthogonal_unit

# What follows was chosen on an MLP and a CNN on MNIST and on random networks, with and without bounds.
_IN_BALL = 0.65  # share of the steps of the first search
_STRIDES = (5.0, 5e-3)  # first and last step inside the ball, in radii
_CHANGES = (0.3, 1e-3)  # first and last share by which the radius changes
_ALL_CLASSES = 0.6  # share of the steps along the gradient of the log-odds of all other classes, not of the nearest one
_STRETCH = 10.0  # most by which a step is stretched to make up for what the bounds take away
_BOLDNESS = (0.5, 0.05)  # first and last share of the way along the boundary to the point nearest the input
_OVERSHOOT = (2e-2, 1e-3)  # first and last share of the distance by which a linearised boundary is crossed
_FARTHER = 1.3  # longest perturbation after a linearisation, in distances of the best found
_NEWTON_STEPS = 4  # of each projection: where that is not enough, the next one goes on
_LAST_NEWTON_STEPS = 30
_TINY = 1e-30  # keeps quotients finite


def search_shortest(
    best: Candidates, ahead: Tensor, basis: Tensor, bounds: Bounds | None, radius: Tensor, reach: float, *, steps: int
) -> None:
    """One search, in two parts: see `boundarygeo.subspace.sequential.sequential_directions`.

    Args:
        best: takes what is found, and is concluded.
        ahead: unit vectors along which to go first, orthogonal to the basis, float64 `[batch, d]`.
        basis: of the perturbations before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        radius: first guess of the length, float64 `[batch]`.
        reach: longest perturbation to look at.
        steps: number of points to look at, at least 4.
    """
    in_ball = round(_IN_BALL * steps)
    delta = _search_in_ball(best, ahead, basis, bounds, radius, reach, in_ball)
    _search_linearised(best, delta, basis, bounds, reach, steps - in_ball)
    best.conclude(basis)


def _search_in_ball(
    best: Candidates, ahead: Tensor, basis: Tensor, bounds: Bounds | None, radius: Tensor, reach: float, steps: int
) -> Tensor:
    """Go along the gradient on the surface of a ball that shrinks where the point is adversarial and grows where not.

    Args:
        best: takes what is found.
        ahead: unit vectors along which to go first, orthogonal to the basis, float64 `[batch, d]`.
        basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        radius: of the balls at first, float64 `[batch]`.
        reach: largest radius.
        steps: number of points to look at.

    Returns:
        The last perturbations, float64 `[batch, d]`.
    """
    delta, multipliers, stretch = torch.zeros_like(ahead), None, torch.ones_like(radius)
    for step in range(steps):
        anchor = delta + (_cosine(_STRIDES, step, steps) * radius)[:, None] * ahead
        anchor *= (stretch * radius / anchor.norm(dim=1).clamp_min(_TINY))[:, None]
        delta, multipliers, precise = nearest(anchor, basis, bounds, multipliers, newton_steps=_NEWTON_STEPS)
        size = delta.norm(dim=1).clamp_min(_TINY)
        # The bounds cut the perturbation short: the next one is stretched by what this one lacks.
        stretch = (stretch * (radius / size).clamp(0.5, 2)).clamp(1, _STRETCH)
        delta = delta * (radius / size).clamp_max(1)[:, None]
        margin, uphill = best.look(delta, precise, "log_odds" if step < _ALL_CLASSES * steps else "margin")
        change = _cosine(_CHANGES, step, steps)
        smaller, larger = torch.minimum(radius, best.distance) * (1 - change), radius * (1 + change)
        radius = torch.where(margin < 0, smaller, torch.minimum(larger, best.distance)).clamp_max(reach)
        ahead = orthogonal_unit(uphill, basis)
        # Where there is no gradient, straight on.
        ahead = torch.where(ahead.any(1)[:, None], ahead, delta / size[:, None])
    return delta


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
