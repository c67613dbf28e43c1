"""What attacks need to know about L2 and L∞: lengths, steepest steps, balls, and nearest points of half-spaces."""

import math

import torch
from torch import Tensor

from boundarygeo.choices import NORMS as NORMS
from boundarygeo.choices import Norm
from boundarygeo.directions import random_directions
from boundarygeo.linalg import like

_NEWTON_STEPS = 50  # it takes three to ten; each step that is not the last saturates another coordinate
_ROUNDING = 1e-5


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Norm of each perturbation `[batch, *input]`, `[batch]` in its dtype."""
    flat = delta.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)


def dual_length(gradient: Tensor, norm: Norm) -> Tensor:
    """How fast a linear function grows along its steepest direction: L2 norm for L2, L1 for L∞; `[batch]`."""
    flat = gradient.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().sum(1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of norm 1 along which a linear function with this gradient grows fastest; zero for a zero gradient."""
    if norm == "linf":
        return gradient.sign()
    scaled = gradient / like(_largest(gradient), gradient)  # squares of small gradients would underflow
    return scaled / like(length(scaled, "l2").clamp_min(1.0), gradient)  # at least 1, but for a zero gradient


def project(delta: Tensor, eps: float | Tensor, norm: Norm) -> Tensor:
    """The nearest (in L2) perturbations in the ball of radius `eps`: one for all, or one for each, `[batch]`."""
    if norm == "linf" and isinstance(eps, Tensor):
        return torch.minimum(torch.maximum(delta, -like(eps, delta)), like(eps, delta))
    if norm == "linf":
        return delta.clamp(-float(eps), float(eps))
    size = length(delta, "l2")
    return delta * like(torch.where(size > eps, eps / size, 1.0), delta)


def random_in_ball(shape: torch.Size, index: Tensor, norm: Norm, *, seed: int, draw: int) -> Tensor:
    """Points drawn uniformly from the unit ball, float32 `[example, *input]`, by seed, example and draw alone."""
    if norm == "linf":  # the distribution function of a normal variable is uniform
        return torch.erf(random_directions(shape, index, seed=seed, axis=draw) / math.sqrt(2))
    # The first d coordinates of a uniform point of the sphere in d + 2 dimensions are uniform in the ball.
    size = shape.numel()
    normal = random_directions(torch.Size([size + 2]), index, seed=seed, axis=draw)
    return (normal / normal.norm(dim=1, keepdim=True))[:, :size].reshape(-1, *shape)


class DrawnOnce:
    """`random_in_ball` that keeps what it draws, for attacks on several models that start at the same points.

    It takes as much memory as the inputs, per draw.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int, torch.Size], dict[int, Tensor]] = {}

    def __call__(self, shape: torch.Size, index: Tensor, norm: Norm, *, seed: int, draw: int) -> Tensor:
        """Arguments and result as `random_in_ball`."""
        known = self._kept.setdefault((norm, seed, draw, shape), {})
        numbers = index.tolist()
        new = [number for number in dict.fromkeys(numbers) if number not in known]
        known.update(zip(new, random_in_ball(shape, torch.tensor(new), norm, seed=seed, draw=draw), strict=True))
        return torch.stack([known[number] for number in numbers])


def to_half_space(
    x: Tensor, normal: Tensor, gain: Tensor, norm: Norm, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    r"""The smallest perturbation inside the bounds that reaches a half-space, and whether any does, bool `[batch]`.

    Solves :math:`\min \|\delta\|` such that :math:`n^T\delta \ge c`, the `gain` (zero where it is negative), and
    :math:`x + \delta` is within the bounds. The solution is :math:`\delta_i = \mathrm{sign}(n_i)\min(t s_i, r_i)` with
    :math:`s_i = |n_i|` (L2) or 1 (L∞), and the room :math:`r_i` to the bound; Newton's method finds the t at which the
    concave, piecewise linear :math:`n^T\delta(t)` reaches c, exactly and from below. Where none reaches the half-space,
    the perturbation goes as far as the bounds allow.
    """
    scale = _largest(normal)
    flat = normal.flatten(1) / scale[:, None]
    wanted = (gain / scale).clamp_min(0)
    point, slope = x.flatten(1), flat.abs()
    speed = slope if norm == "l2" else (slope > 0).to(slope)
    room = torch.where(flat > 0, bounds[1] - point, point - bounds[0]).clamp_min(0)
    time = torch.zeros_like(wanted)
    for _ in range(_NEWTON_STEPS):
        moved = torch.minimum(time[:, None] * speed, room)
        missing = wanted - (slope * moved).sum(1)
        rate = (slope * speed * (time[:, None] * speed < room)).sum(1)
        going = (missing > _ROUNDING * wanted) & (rate > 0)
        if not bool(going.any()):
            break
        time = torch.where(going, time + missing / rate, time)
    delta = torch.minimum(time[:, None] * speed, room)
    reached = (slope * delta).sum(1) >= (1 - 10 * _ROUNDING) * wanted
    return (delta * flat.sign()).view_as(x), reached


def _largest(v: Tensor) -> Tensor:
    """Largest absolute coordinate of each vector, `[batch]`, 1 for a zero vector."""
    largest = v.flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest, 1.0)
