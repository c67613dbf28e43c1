r"""Orthogonal perturbations inside the bounds: every input dimension belongs to one of them.

Where an example lies on a bound (the black background of a digit), perturbations can go one way only, and such
perturbations are orthogonal only if no two of them share a dimension. Disjoint supports are orthogonal whatever the
values, so that every perturbation can be clipped. To first order nothing is lost: with groups S of equal
:math:`\|g_S\|^2=\|g\|^2/k`, each perturbation along :math:`g_S` gains :math:`\varepsilon\|g\|/\sqrt k`, as much as in
a frame of Tramèr et al. 2017; what is lost are the dimensions that cannot move, and those that meet their bound.
"""

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import random_directions
from boundarygeo.layout import FlatInputs
from boundarygeo.subspace.jobs import PointMaker

_JITTER = 0.3  # spread of log |g| by which the draws after the first are shuffled
_FILLING_STEPS = 50  # each but the last fills another dimension up to its bound; it takes three to ten


def room_towards(x: Tensor, gradient: Tensor, bounds: tuple[float, float]) -> Tensor:
    """How far each dimension can go along its gradient before it meets a bound; zero where the gradient is zero."""
    room = torch.where(gradient > 0, bounds[1] - x, x - bounds[0]).clamp_min(0)
    return torch.where(gradient != 0, room, 0.0)


def places(weight: Tensor) -> Tensor:
    """Place of each dimension in the order from the heaviest to the lightest, int64 `[job, dimension]`."""
    order = weight.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def shuffled(weight: Tensor, index: Tensor, *, seed: int, draw: int) -> Tensor:
    """Weights that differ from draw to draw, but for the first, so that dealing by them gives other groups.

    Args:
        weight: `[example, dimension]`, not negative.
        index: number of each example, int64 `[example]`.
        seed: seed.
        draw: 0 leaves the weights as they are.

    Returns:
        Weights of the same shape.
    """
    if not draw:
        return weight
    noise = random_directions(weight.shape[1:], index, seed=seed, axis=draw)
    return weight * (_JITTER * noise).exp()


def deal(place: Tensor, size: Tensor) -> Tensor:
    """Deal dimensions into groups, to and fro: of nearly equal total weight if they are dealt from the heaviest on.

    Args:
        place: place of each dimension in the order of dealing, int64 `[job, dimension]`.
        size: number of groups of each job, int64 `[job]`.

    Returns:
        Group of each dimension, int64 `[job, dimension]`.

    Examples:
        >>> deal(torch.tensor([[0, 1, 2, 3]]), torch.tensor([2]))
        tensor([[0, 1, 1, 0]])
    """
    turn = torch.div(place, size[:, None], rounding_mode="floor")
    position = place - turn * size[:, None]
    return torch.where(turn % 2 == 0, position, size[:, None] - 1 - position)


def fill(gradient: Tensor, room: Tensor, group: Tensor, groups: int, eps: Tensor | float) -> Tensor:
    r"""In each group the step of norm ε that a linear function with this gradient likes best, inside the bounds.

    :math:`\max g^T\delta` such that :math:`\|\delta_S\|\le\varepsilon` and :math:`|\delta_j|\le room_j` is solved by
    :math:`|\delta_j|=\min(t|g_j|, room_j)`, with the t at which the norm is ε, or all room is used.

    Args:
        gradient: `[job, dimension]`.
        room: of the same shape.
        group: group of each dimension, int64 of the same shape.
        groups: number of groups.
        eps: L2 norm of the perturbation of each group; one number, or one for each job, `[job, 1]`.

    Returns:
        Perturbations of all groups in one, `[job, dimension]`.
    """
    slope = torch.where(room > 0, gradient.abs(), 0.0)
    # Squares of small gradients would underflow; only their ratios within a group matter.
    largest = slope.new_zeros(len(slope), groups).scatter_reduce_(1, group, slope, "amax")
    slope = slope / largest.clamp_min(torch.finfo(slope.dtype).tiny).gather(1, group)
    free, used = slope.square(), torch.zeros_like(slope)
    full = torch.zeros_like(slope, dtype=torch.bool)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(values), groups).scatter_add_(1, group, values)

    moved = slope
    for _ in range(_FILLING_STEPS):
        pull, left = total(free), (eps**2 - total(used)).clamp_min(0)
        speed = torch.where(pull > 0, left / pull.clamp_min(torch.finfo(pull.dtype).tiny), 0.0).sqrt()
        moved = speed.gather(1, group) * slope
        met = (moved > room) & ~full
        if not bool(met.any()):
            break
        full |= met
        free, used = free.masked_fill(met, 0.0), torch.where(met, room.square(), used)
    return torch.minimum(torch.where(full, room, moved), room) * gradient.sign()


class PartitionFrames:
    """Frames of perturbations with disjoint supports, inside the bounds, of norm at most ε.

    Args:
        clf: the classifier.
        x: examples `[example, *input]`.
        gradient: their gradients, of the same shape.
        eps: L2 norm of a perturbation.
        seed: seed of the shuffling.
        draw: which of several frames; the first is not shuffled.
        index: number of each example, int64 `[example]`, which decides its shuffling.
    """

    def __init__(
        self, clf: Classifier, x: Tensor, gradient: Tensor, *, eps: float, seed: int, draw: int, index: Tensor
    ) -> None:
        self._clf, self._eps, self._shape = clf, eps, x.shape[1:]
        self._x, self._gradient = (v.detach().cpu().float().flatten(1) for v in (x, gradient))
        self._room = room_towards(self._x, self._gradient, clf.bounds)
        weight = torch.where(self._room > 0, self._gradient.abs(), 0.0)
        weight = shuffled(weight, index, seed=seed, draw=draw)
        self._place = places(weight)
        self._layout = FlatInputs(clf, self._shape)
        self._origin = self._layout.points(x)

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """As `boundarygeo.subspace.jobs.Frames.points`."""
        device = self._clf.device
        groups, moves = self._steps(example, size)
        # In the layout of the inputs; classes of dimensions are permuted like values.
        group = self._layout.rearranged(groups.to(torch.int32).view(-1, *self._shape))
        move = self._layout.axes(moves.view(-1, *self._shape))
        origin, which, row = example[job].to(device), job.to(device), row.to(device, torch.int32)

        def make(start: int, stop: int) -> Tensor:
            part = slice(start, stop)
            number = which[part]
            other = group.index_select(0, number) != row[part, None]
            rows = move.index_select(0, number).masked_fill_(other, 0.0)
            rows += self._origin.index_select(0, origin[part])
            return self._layout.inputs(self._layout.clip_(rows))

        return make

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """As `boundarygeo.subspace.jobs.Frames.perturbations`."""
        groups, moves = self._steps(example, size)
        delta = torch.where(groups[job] == row[:, None], moves[job], 0.0)
        x = self._x[example[job]]
        return ((x + delta).clamp(*self._clf.bounds) - x).view(-1, *self._shape)

    def _steps(self, example: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        groups = deal(self._place[example], size)
        gradient, room = self._gradient[example], self._room[example]
        return groups, fill(gradient, room, groups, int(size.max()), self._eps)
