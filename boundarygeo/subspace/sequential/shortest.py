"""The shortest adversarial perturbation orthogonal to given ones and inside bounds, for a batch of examples."""

import math

import torch
from torch import Tensor

from boundarygeo.subspace.sequential.candidates import Candidates
from boundarygeo.subspace.sequential.orthogonal import Bounds, nearest, nearest_beyond, orthogonal_unit

# The following values were tuned on MNIST and CIFAR-10 networks, plain and robust, with and without bounds.
_FROM_STARTS = 0.3  # share of the steps that each start takes
_IN_BALL = 0.4  # share of the steps that the best start continues in the ball
_STRIDES = (1.5, 0.1), (0.3, 0.01)  # first and last step inside the ball, in radii: of the starts, of the best
_CHANGES = (0.3, 0.01), (0.1, 1e-3)  # first and last share by which the radius changes: likewise
_SHORTCUT = 0.9, 0.5  # share of the first-order way to the boundary to shrink by; and the most
_ALL_CLASSES = 0.6  # share of the steps along the gradient of the log-odds of all other classes, not of the nearest one
_STRETCH = 10.0  # largest factor by which a step is stretched to compensate for the bounds
_BOLDNESS = (0.5, 0.05)  # first and last share of the way along the boundary to the point nearest the input
_OVERSHOOT = (2e-2, 1e-4)  # first and last share of the distance by which a linearised boundary is crossed
_FARTHER = 1.3  # longest perturbation after a linearisation, in lengths of the best found
_NEWTON_STEPS = 4  # per projection; the next projection continues where that is too few
_LAST_NEWTON_STEPS = 30
_SAME = 1e-5  # share of a distance within which two distances count as equal
_APART = 0.7  # cosine below which another start's result counts as a different perturbation
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

    Starts have unit vectors `ahead` `[batch, start, d]`, orthogonal to the basis, and classes to head for, `targets`
    `[batch, start]`, -1 for any; `radius` guesses the length, up to `reach`. Returns the results, and the nearest
    different perturbation of another start, `[batch, d]`, zero if there is none.
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
    # Starts often converge to one point: the choice among them must not depend on rounding.
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
    """Follow the gradient on a ball that shrinks where the point is adversarial and grows where it is not.

    `strides` are the first and the last step, in radii, and `changes` the shares by which the radius changes. Returns
    the last perturbations and the next unit directions, float64 `[batch, d]`.
    """
    multipliers, stretch = None, torch.ones_like(radius)
    for step in range(steps):
        anchor = delta + (_cosine(strides, step, steps) * radius)[:, None] * ahead
        anchor *= (stretch * radius / anchor.norm(dim=1).clamp_min(_TINY))[:, None]
        delta, multipliers, precise = nearest(anchor, basis, bounds, multipliers, newton_steps=_NEWTON_STEPS)
        size = delta.norm(dim=1).clamp_min(_TINY)
        # The bounds shorten the perturbation: the next one is stretched to compensate.
        stretch = (stretch * (radius / size).clamp(0.5, 2)).clamp(1, _STRETCH)
        delta = delta * (radius / size).clamp_max(1)[:, None]
        margin, uphill = best.look(delta, precise, "log_odds" if step < _ALL_CLASSES * steps else "margin", targets)
        ahead = orthogonal_unit(uphill, basis)
        change = _cosine(changes, step, steps)
        # Deep in the other class it shrinks by more: almost to the boundary, to first order.
        depth = -margin / ((uphill * ahead).sum(1) * size).clamp_min(_TINY)
        smaller = torch.minimum(radius, best.distance) * (1 - (_SHORTCUT[0] * depth).clamp(change, _SHORTCUT[1]))
        larger = torch.minimum(radius * (1 + change), best.distance)
        radius = torch.where(margin < 0, smaller, larger).clamp_max(reach)
        # Without a gradient, go straight on.
        ahead = torch.where(ahead.any(1)[:, None], ahead, delta / size[:, None])
    return delta, ahead


def _search_linearised(
    best: Candidates, delta: Tensor, basis: Tensor, bounds: Bounds | None, reach: float, steps: int
) -> None:
    """Linearise the boundary and move to a point of it between the nearest point and the one nearest to the input."""
    delta = torch.where(best.found[:, None], best.delta.double(), delta)
    multipliers, precise = None, torch.zeros_like(best.found)
    for step in range(steps - 1):
        margin, uphill = best.look(delta, precise, "margin")
        # The last step goes all the way: a trace of earlier steps in a coordinate that lies on a bound would take that
        # coordinate from all further directions.
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
