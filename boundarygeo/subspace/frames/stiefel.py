"""Sets of frames for an optimiser: orthonormal frames, and orthogonal frames inside the bounds.

A frame is represented by the perturbations `[example, direction, dimension]` themselves. A walk takes steps along
gradients; every frame it visits is a member of its set.
"""

from typing import Protocol

import torch
from torch import Tensor

from boundarygeo.linalg import scaled_to
from boundarygeo.subspace.frames.gaas import aligned, gaas_frame, random_orthonormal
from boundarygeo.subspace.frames.partition import Worth, deal, fill, places

_SPREAD = 2.5  # a dimension is free if its room is at least this many times the rms value of a dense perturbation
_FEWEST_FREE = 4  # free dimensions per direction, below which none is treated as free
_MOMENTUM = 0.7
_RATE = 0.75  # first weight of the newest gradient when dealing dimensions that are not free
_LOYALTY = 0.9  # weight of older gradients on others' dimensions; without it, reassigned dimensions come straight back
_PRICE = 0.2  # first step of the logarithm of a perturbation's bid for them


class Walk(Protocol):
    """Frames around some examples."""

    @property
    def frame(self) -> Tensor:
        """Perturbations `[example, direction, dimension]`."""
        ...

    def step(self, gradient: Tensor, need: Tensor, size: float) -> None:
        """Move the frame.

        Args:
            gradient: ascent direction of each perturbation, of L2 length 1, `[example, direction, dimension]`.
            need: 1 if a perturbation still has to succeed, else 0, `[example, direction]`.
            size: length of the step, from 1 at the start of a search, decreasing.
        """
        ...


def _orthonormal(frame: Tensor) -> Tensor:
    """Orthonormalise rows that are nearly orthonormal: Cholesky QR."""
    factor = torch.linalg.cholesky(frame @ frame.mT)
    return torch.linalg.solve_triangular(factor, frame, upper=False)


def _tangent(v: Tensor, frame: Tensor) -> Tensor:
    """The part of v that is tangent to the Stiefel manifold at an orthonormal frame (Edelman et al. 1998, §2.2.1)."""
    inner = v @ frame.mT
    return v - (inner + inner.mT) @ frame / 2


class SphereWalk:
    """Orthogonal perturbations of L2 norm ε on the Stiefel manifold: gradient ascent with momentum, QR retraction."""

    def __init__(self, gradient: Tensor, count: int, *, eps: float, seed: int) -> None:
        self._eps = eps
        self._unit = gaas_frame(gradient, count, seed=seed).float().to(gradient.device)
        self._velocity = torch.zeros_like(self._unit)

    @property
    def frame(self) -> Tensor:
        """Perturbations `[example, direction, dimension]`."""
        return self._eps * self._unit

    def step(self, gradient: Tensor, need: Tensor, size: float) -> None:
        """As `Walk.step`."""
        self._velocity = _tangent(_MOMENTUM * self._velocity + need[:, :, None] * gradient, self._unit)
        self._unit = _orthonormal(self._unit + size * self._velocity)


class BoxWalk:
    """Orthogonal perturbations inside the bounds, of L2 norm at most ε.

    Dimensions with room on both sides are *free*: on them the perturbations form an orthogonal frame. Each other
    dimension belongs to one perturbation at a time. After every step it is reassigned to the perturbation with the
    largest gradient there, averaged over its steps, times a price that rises while it has not crossed the boundary: an
    auction, as for a linear problem, but with gradients that change as the frame moves. Each perturbation fills its own
    dimensions up to the bounds (see `boundarygeo.subspace.frames.partition.fill`). The sum of the two parts is
    orthogonal.
    """

    def __init__(
        self, x: Tensor, gradient: Tensor, count: int, *, eps: float, bounds: tuple[float, float], seed: int
    ) -> None:
        self._eps = eps
        # Inputs may lie outside the bounds by rounding.
        self._down, self._up = (bounds[0] - x).clamp_max(0), (bounds[1] - x).clamp_min(0)
        room = torch.minimum(self._up, -self._down)
        free = room >= _SPREAD * eps / x.shape[1] ** 0.5
        self._free = free & (free.sum(1, keepdim=True) >= _FEWEST_FREE * count)
        movable = torch.where((gradient > 0) & (self._up > 0) | (gradient < 0) & (self._down < 0), gradient, 0.0)
        inside, pinned = torch.where(self._free, movable, 0.0), torch.where(self._free, 0.0, movable)
        # The two parts share the norm in proportion to the gradient.
        total = movable.square().sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        self._share = eps * (pinned.square().sum(1, keepdim=True) / total).sqrt()
        self._share[~self._free.any(1)] = eps
        # Dimensions are first dealt by their worth; from then on they go to the highest bidder.
        room = torch.where(pinned > 0, self._up, -self._down)
        everyone = torch.arange(len(x), device=x.device)
        size = torch.full_like(everyone, count)
        group = deal(places(Worth(pinned, room, self._share).of(everyone, size)), size)
        start = torch.zeros(len(x), count, x.shape[1], device=x.device).scatter_(1, group[:, None], pinned[:, None])
        self._slope = start / start.norm(dim=2, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        self._price = torch.zeros(len(x), count, device=x.device)
        self._pinned = self._dealt()
        self._unit = torch.zeros_like(self._pinned)
        self._dense = self._free.any(1).nonzero()[:, 0]  # examples with a free part
        if len(self._dense):
            drawn = random_orthonormal(count, x.shape[1], seed=seed).to(x) * self._free[self._dense, None]
            unit = scaled_to(inside[self._dense], torch.ones(len(self._dense), device=x.device)).to(x)
            self._unit[self._dense] = aligned(_orthonormal(drawn / drawn.norm(dim=2, keepdim=True)), unit)
        self._velocity = torch.zeros_like(self._unit)

    @property
    def frame(self) -> Tensor:
        """Perturbations `[example, direction, dimension]`."""
        left = (self._eps**2 - self._pinned.square().sum(2, keepdim=True)).clamp_min(0).sqrt()
        inside = left * self._unit
        # A free value beyond its bound shortens the whole free part: that keeps it orthogonal.
        room = torch.where(inside > 0, self._up[:, None], -self._down[:, None])
        fits = (room / inside.abs()).nan_to_num(torch.inf, posinf=torch.inf).amin(2, keepdim=True).clamp_max(1.0)
        return inside * fits + self._pinned

    def step(self, gradient: Tensor, need: Tensor, size: float) -> None:
        """As `Walk.step`."""
        wanted = need[:, :, None] * gradient
        some = self._dense
        if len(some):
            inside = torch.where(self._free[some, None], wanted[some], 0.0)
            velocity = _tangent(_MOMENTUM * self._velocity[some] + inside, self._unit[some])
            self._velocity[some] = velocity
            self._unit[some] = _orthonormal(self._unit[some] + size * velocity)
        slope = torch.where(self._free[:, None], 0.0, gradient)
        old = torch.where(self._pinned != 0, self._slope, _LOYALTY * self._slope)
        self._slope = old + _RATE * size * need[:, :, None] * (slope - old)
        self._price = self._price + size * _PRICE * (need - need.mean(1, keepdim=True))
        self._pinned = self._dealt()

    def _dealt(self) -> Tensor:
        """Perturbations on the dimensions that are not free: each belongs to the highest bidder."""
        room = torch.where(self._slope > 0, self._up[:, None], -self._down[:, None])
        bid = self._price.exp()[:, :, None] * torch.where(room > 0, self._slope.abs(), 0.0)
        owner = bid.argmax(1, keepdim=True)
        slope, room = (values.gather(1, owner)[:, 0] for values in (self._slope, room))
        step = fill(slope, room, owner[:, 0], bid.shape[1], self._share)
        return torch.zeros_like(bid).scatter_(1, owner, step[:, None])
