"""Sets of frames that an optimiser walks on: orthonormal frames, and orthogonal ones inside the bounds.

A frame is held as the perturbations `[example, direction, dimension]` themselves. A walk starts somewhere and takes
steps along gradients; every frame it visits is a member of its set.
"""

from typing import Protocol

import torch
from torch import Tensor

from boundarygeo.linalg import scaled_to
from boundarygeo.subspace.gaas import aligned, gaas_frame, random_orthonormal
from boundarygeo.subspace.partition import deal, fill, places

_SPREAD = 5.0  # a dimension is free if it has room for so many times the rms value of a dense perturbation
_FEWEST_FREE = 4  # free dimensions per direction, under which none is treated as free
_MOMENTUM = 0.7
_PINNED_STRIDE = 3.0  # first step on dimensions that are not free, in ε


class Walk(Protocol):
    """Frames around some examples."""

    @property
    def frame(self) -> Tensor:
        """Perturbations `[example, direction, dimension]`."""
        ...

    def step(self, gradient: Tensor, need: Tensor, size: float) -> None:
        """Move the frame.

        Args:
            gradient: direction of growth for each perturbation, of L2 length 1, `[example, direction, dimension]`.
            need: 1 where a perturbation has to gain, 0 where it has succeeded, `[example, direction]`.
            size: length of the step, 1 at the beginning of a search and less later.
        """
        ...


def _orthonormal(frame: Tensor) -> Tensor:
    """Orthonormal rows near those given (which are nearly orthonormal): Cholesky QR."""
    factor = torch.linalg.cholesky(frame @ frame.mT)
    return torch.linalg.solve_triangular(factor, frame, upper=False)


def _tangent(v: Tensor, frame: Tensor) -> Tensor:
    """The part of v that is tangent to the Stiefel manifold at an orthonormal frame (Edelman et al. 1998, §2.2.1)."""
    inner = v @ frame.mT
    return v - (inner + inner.mT) @ frame / 2


class SphereWalk:
    """Orthogonal perturbations of L2 norm ε on the Stiefel manifold: gradient ascent with momentum, QR retraction.

    Args:
        gradient: gradients at the examples `[example, dimension]`: the walk starts at the frame aligned with them.
        count: number of directions.
        eps: L2 norm of a perturbation.
        seed: seed of the first frame.
    """

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
    r"""Orthogonal perturbations inside the bounds, of L2 norm at most ε.

    Dimensions with room on both sides are *free*: on them the perturbations form an orthogonal frame. Every other
    dimension belongs to one perturbation at a time, that with the largest value there, the nearest point (in L2) among
    frames of disjoint supports; those values are clipped to the bounds. The sum of the two parts is orthogonal.

    Args:
        x: examples `[example, dimension]`.
        gradient: gradients there, of the same shape: the walk starts at perturbations aligned with them.
        count: number of directions.
        eps: L2 norm of a perturbation.
        bounds: lowest and highest value of an input.
        seed: seed of the first frame.
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
        # The two parts share the norm as they share the gradient.
        total = movable.square().sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        self._share = eps * (pinned.square().sum(1, keepdim=True) / total).sqrt()
        self._share[~self._free.any(1)] = eps
        self._pinned = self._dealt(pinned, count)
        self._unit = torch.zeros_like(self._pinned)
        self._dense = self._free.any(1).nonzero()[:, 0]  # examples that have a free part
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
        pinned = torch.where(self._free[:, None], 0.0, wanted)
        self._pinned = self._settled(self._pinned + size * _PINNED_STRIDE * self._eps * pinned)

    def _dealt(self, gradient: Tensor, count: int) -> Tensor:
        """The first perturbations on the dimensions that are not free."""
        group = deal(places(gradient.abs()), torch.full((len(gradient),), count, device=gradient.device))
        room = torch.where(gradient > 0, self._up, -self._down)
        step = fill(gradient, room, group, count, self._share)
        owner = torch.arange(count, device=gradient.device)[None, :, None]
        return torch.where(group[:, None] == owner, step[:, None], 0.0)

    def _settled(self, pushed: Tensor) -> Tensor:
        """Nearest values inside the bounds, of which each dimension keeps the largest; no longer than their share."""
        inside = torch.maximum(torch.minimum(pushed, self._up[:, None]), self._down[:, None])
        winner = inside.abs().argmax(1, keepdim=True)
        kept = torch.zeros_like(inside).scatter_(1, winner, inside.gather(1, winner))
        length = kept.norm(dim=2, keepdim=True)
        share = self._share[:, :, None]
        return kept * (share / torch.maximum(length, share).clamp_min(torch.finfo(kept.dtype).tiny))
