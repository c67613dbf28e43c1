r"""Orthogonal perturbations inside the bounds: every input dimension belongs to exactly one of them.

Where an example lies on a bound (the black background of a digit), perturbations can go one way only, and such
perturbations are orthogonal only if no two of them share a dimension. Disjoint supports are orthogonal whatever the
values, so every perturbation can be clipped. To first order nothing is lost: with groups S of equal
:math:`\|g_S\|^2=\|g\|^2/k`, each perturbation along :math:`g_S` gains :math:`\varepsilon\|g\|/\sqrt k`, as much as in
a frame of Tramèr et al. 2017; only dimensions that cannot move, or that reach their bound, are lost.
"""

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import random_directions
from boundarygeo.layout import FlatInputs
from boundarygeo.subspace.frames.jobs import PointMaker, applied, rows_of

_JITTER = 0.3  # spread of log |g| used to shuffle the draws after the first
_FILLING_STEPS = 50  # each but the last fills another dimension up to its bound; three to ten are typical


def room_towards(x: Tensor, gradient: Tensor, bounds: tuple[float, float]) -> Tensor:
    """How far each dimension can go along its gradient before reaching a bound; zero where the gradient is zero."""
    room = torch.where(gradient > 0, bounds[1] - x, x - bounds[0]).clamp_min(0)
    return torch.where(gradient != 0, room, 0.0)


def places(weight: Tensor) -> Tensor:
    """Rank of each dimension, from the heaviest to the lightest, int64 `[job, dimension]`."""
    order = weight.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def shuffled(weight: Tensor, index: Tensor, *, seed: int, draw: int) -> Tensor:
    """Weights `[example, dimension]` times random factors by seed, index and draw; draw 0 leaves them as they are."""
    if not draw:
        return weight
    noise = random_directions(weight.shape[1:], index, seed=seed, axis=draw)
    return weight * (_JITTER * noise).exp()


class Worth:
    r"""Worth of each dimension to a frame: its contribution to the total gain of all perturbations.

    Taken as one step, k groups have the norm :math:`\varepsilon\sqrt k`, and the best such step inside the bounds is
    :math:`|\delta_j|=\min(t|g_j|, room_j)` (see `fill_rows`), to which each dimension contributes
    :math:`|g_j||\delta_j|`. Weights from gradients alone would overrate dimensions that soon reach their bound.
    `eps` is one number, or one per example, `[example, 1]`.
    """

    def __init__(self, gradient: Tensor, room: Tensor, eps: Tensor | float) -> None:
        slope = torch.where(room > 0, gradient.abs(), 0.0)
        self._slope = slope / slope.amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        self._room, self._eps = room, torch.as_tensor(eps).to(slope).expand(len(slope), 1)
        # Between successive t where a dimension reaches its bound: squared norm used up, and what grows with t.
        meets, order = torch.where(self._slope > 0, room / self._slope, torch.inf).sort(dim=1)
        used = room.square().gather(1, order)
        self._used = used.cumsum(1) - used
        self._pull = self._slope.square().gather(1, order).flip(1).cumsum(1).flip(1)
        self._square = (self._used + meets.square() * self._pull).nan_to_num(torch.inf, posinf=torch.inf)

    def of(self, example: Tensor, size: Tensor) -> Tensor:
        """Weights `[job, dimension]` for frames of sizes `[job]` around examples `[job]`; 0 if it cannot move."""
        square = size[:, None] * self._eps[example].square()
        at = torch.searchsorted(self._square[example], square).clamp_max(self._square.shape[1] - 1)
        left, pull = (square - self._used[example].gather(1, at)).clamp_min(0), self._pull[example].gather(1, at)
        t = (left / pull).sqrt().nan_to_num(torch.inf).clamp_max(torch.finfo(pull.dtype).max)
        slope = self._slope[example]
        return slope * torch.minimum(t * slope, self._room[example])


def deal(place: Tensor, size: Tensor) -> Tensor:
    """Deal dimensions into groups, back and forth: groups have nearly equal weight if dealt from the heaviest.

    Examples:
        >>> deal(torch.tensor([[0, 1, 2, 3]]), torch.tensor([2]))
        tensor([[0, 1, 1, 0]])
    """
    turn = torch.div(place, size[:, None], rounding_mode="floor")
    position = place - turn * size[:, None]
    return torch.where(turn % 2 == 0, position, size[:, None] - 1 - position)


def fill(gradient: Tensor, room: Tensor, group: Tensor, groups: int, eps: Tensor | float) -> Tensor:
    """In each group, the step of norm ε that increases a linear function with this gradient most, inside the bounds.

    `group` is that of each dimension, `[job, dimension]`; `eps` one number, or one per job, `[job, 1]`.
    """
    jobs = len(gradient)
    row = group + groups * torch.arange(jobs, device=group.device)[:, None]
    lengths = torch.as_tensor(eps, dtype=gradient.dtype, device=gradient.device).expand(jobs, groups).reshape(-1)
    return fill_rows(gradient.flatten(), room.flatten(), row.flatten(), lengths).view_as(gradient)


def fill_rows(gradient: Tensor, room: Tensor, row: Tensor, eps: Tensor) -> Tensor:
    r"""As `fill`, for entries `[entry]` assigned to rows that have an ε each.

    :math:`\max g^T\delta` such that :math:`\|\delta\|\le\varepsilon` and :math:`|\delta_j|\le room_j` is solved by
    :math:`|\delta_j|=\min(t|g_j|, room_j)`, with the t at which the norm is ε, or at which all room is used.
    """
    slope = torch.where(room > 0, gradient.abs(), 0.0)
    tiny = torch.finfo(slope.dtype).tiny
    # Squares of small gradients would underflow; only their ratios within a row matter.
    largest = torch.zeros_like(eps).scatter_reduce_(0, row, slope, "amax")
    slope = slope / largest.clamp_min(tiny)[row]
    free, used = slope.square(), torch.zeros_like(slope)
    full = torch.zeros_like(slope, dtype=torch.bool)

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(eps).index_add_(0, row, values)

    moved = slope
    for _ in range(_FILLING_STEPS):
        pull, left = total(free), (eps.square() - total(used)).clamp_min(0)
        moved = torch.where(pull > 0, left / pull.clamp_min(tiny), 0.0).sqrt()[row] * slope
        met = (moved > room) & ~full
        if not bool(met.any()):
            break
        full |= met
        free, used = free.masked_fill(met, 0.0), torch.where(met, room.square(), used)
    return torch.minimum(torch.where(full, room, moved), room) * gradient.sign()


class PartitionFrames:
    """Frames of perturbations with disjoint supports, inside the bounds, of norm at most ε; draw 0 is not shuffled."""

    def __init__(
        self, clf: Classifier, x: Tensor, gradient: Tensor, *, eps: float, seed: int, draw: int, index: Tensor
    ) -> None:
        self._clf, self._eps, self._shape = clf, eps, x.shape[1:]
        self._x, self._gradient = (v.detach().cpu().float().flatten(1) for v in (x, gradient))
        self._room = room_towards(self._x, self._gradient, clf.bounds)
        self._worth = Worth(self._gradient, self._room, eps)
        self._shuffle = shuffled(torch.ones_like(self._room), index, seed=seed, draw=draw)
        self._layout = FlatInputs(clf, self._shape)
        self._origin = self._layout.points(x)
        # Position of each dimension in the memory layout, and the size of a unit step there.
        numbers = torch.arange(self._x.shape[1]).view(1, *self._shape)
        position = torch.empty(self._x.shape[1], dtype=torch.int64)
        position[self._layout.rearranged(numbers)[0].cpu()] = torch.arange(self._x.shape[1])
        self._position = position
        self._unit = self._layout.axes(torch.ones(1, *self._shape))[0]

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """See `Frames.points`."""
        device = self._clf.device
        first, dimension, step = self._steps(example, size, job, row)
        entry = torch.arange(len(row)).repeat_interleave(first.diff())
        place = self._position[dimension].to(device)
        step = step.to(device) * self._unit[place]
        place += entry.to(device) * self._unit.numel()
        origin, ends = example[job].to(device), first.tolist()

        def make(start: int, stop: int) -> Tensor:
            rows = self._origin.index_select(0, origin[start:stop])
            part = slice(ends[start], ends[stop])
            rows.view(-1).index_add_(0, place[part] - start * rows.shape[1], step[part])
            return self._layout.inputs(self._layout.clip_(rows))

        return make

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """See `Frames.perturbations`."""
        first, dimension, step = self._steps(example, size, job, row)
        delta = torch.zeros(len(row), self._x.shape[1])
        delta[torch.arange(len(row)).repeat_interleave(first.diff()), dimension] = step
        return applied(self._x[example[job]], delta, self._clf.bounds).view(-1, *self._shape)

    def _steps(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Changes made by the rows: entries first[i] to first[i + 1], each a dimension and a step, belong to row i."""
        weight = self._worth.of(example, size) * self._shuffle[example]
        order = weight.argsort(dim=1, descending=True, stable=True)
        # Dealt back and forth as in `deal`, without dimensions that cannot move; the last round may be incomplete.
        k, movable = size[job], (weight > 0).sum(1)[job]
        whole, rest = movable // k, movable % k
        counts = whole + (torch.where(whole % 2 == 0, row, k - 1 - row) < rest)
        first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        entry, turn = rows_of(counts)
        k, number, of = k[entry], row[entry], job[entry]
        place = turn * k + torch.where(turn % 2 == 0, number, k - 1 - number)
        dimension = self._x.shape[1]
        chosen = order.view(-1)[of * dimension + place]
        where = example[of] * dimension + chosen
        eps = torch.full((len(row),), self._eps)
        return first, chosen, fill_rows(self._gradient.view(-1)[where], self._room.view(-1)[where], entry, eps)
