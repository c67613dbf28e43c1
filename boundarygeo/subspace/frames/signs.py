r"""Orthogonal perturbations in L∞ from regular Hadamard matrices (Tramèr et al. 2018, arXiv 1705.07204, Appendix).

A regular Hadamard matrix of order k has entries ±1, orthogonal rows, and rows and columns with sum √k. Its columns are
repeated ⌊d/k⌋ times over the d input dimensions in a random order, the rest are zero, and all are multiplied by
ε·sign(g), with sign(0) = 1: k orthogonal vectors of L∞ norm exactly ε. Since the columns sum to √k, their mean inner
product with g is exactly ε/√k times the sum of |g| over the dimensions used: ε‖g‖₁/√k where k divides d. A single inner
product differs from the mean. Where all |g| are equal, no k orthogonal vectors in the L∞ ball have a larger mean, by
Bessel's inequality and ‖r‖₂ <= ε√d.

Inside the bounds this works for dimensions with room on both sides; each other dimension is dealt to one vector, as in
`boundarygeo.subspace.frames.partition`.
"""

import numpy as np
import torch
from torch import Tensor

from boundarygeo.choices import Box
from boundarygeo.classifier import Classifier
from boundarygeo.layout import FlatInputs
from boundarygeo.subspace.frames.hadamard import regular_hadamard, signs
from boundarygeo.subspace.frames.jobs import PointMaker, applied
from boundarygeo.subspace.frames.partition import deal, places, room_towards, shuffled


class SignFrames:
    """Frames of norm ε in L∞; their sizes are orders of regular Hadamard matrices."""

    def __init__(
        self,
        clf: Classifier,
        x: Tensor,
        gradient: Tensor,
        *,
        eps: float,
        box: Box,
        seed: int,
        draw: int,
        index: Tensor,
    ) -> None:
        self._clf, self._clip, self._shape = clf, box != "ignore", x.shape[1:]
        self._x, gradient = (v.detach().cpu().float().flatten(1) for v in (x, gradient))
        dimension = self._x.shape[1]
        free = torch.ones_like(self._x, dtype=torch.bool)
        if box == "feasible":
            low, high = clf.bounds
            free = (self._x - low >= eps) & (high - self._x >= eps)
        reach = room_towards(self._x, gradient, clf.bounds).clamp_max(eps)
        pinned = torch.where(free, 0.0, reach)
        order = torch.from_numpy(np.random.default_rng((seed, draw)).permutation(dimension))
        self._free_place = places(-(order + dimension * ~free).float())  # dimensions that are not free come last
        self._free_count = free.sum(1)
        self._pinned = pinned > 0
        self._pinned_place = places(shuffled(pinned * gradient.abs(), index, seed=seed, draw=draw))
        self._step = torch.where(free, eps, pinned) * signs(gradient)
        self._layout = FlatInputs(clf, self._shape)
        self._origin = self._layout.points(x)

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """See `Frames.points`."""
        device = self._clf.device
        columns, table, first = self._plan(example, size)
        column = self._layout.rearranged(columns.view(-1, *self._shape))
        step = self._layout.axes(self._step[example].view(-1, *self._shape))
        origin, which, line, table = (v.to(device) for v in (example[job], job, first[job] + row, table))

        def make(start: int, stop: int) -> Tensor:
            part = slice(start, stop)
            number = which[part]
            rows = self._origin.index_select(0, origin[part])
            signs_here = table.index_select(0, line[part]).gather(1, column.index_select(0, number))
            rows.addcmul_(step.index_select(0, number), signs_here)
            return self._layout.inputs(self._layout.clip_(rows) if self._clip else rows)

        return make

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """See `Frames.perturbations`."""
        columns, table, first = self._plan(example, size)
        delta = self._step[example[job]] * table[first[job] + row].gather(1, columns[job])
        if self._clip:
            delta = applied(self._x[example[job]], delta, self._clf.bounds)
        return delta.view(-1, *self._shape)

    def _plan(self, example: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each dimension of a job is multiplied by: a column of a table with one line per direction.

        The columns for frames of order k: k of a Hadamard matrix, k of the identity, and one of zeros. Returns columns
        `[job, dimension]`, the table `[line, column]`, and the first line of each job.
        """
        k = size[:, None]
        place, whole = self._free_place[example], (self._free_count[example] // size * size)[:, None]
        owner = torch.where(self._pinned[example], k + deal(self._pinned_place[example], size), 2 * k)
        columns = torch.where(place < whole, place % k, owner)
        orders = size.unique().tolist()
        table = torch.zeros(sum(orders), 2 * max(orders) + 1)
        first, line = torch.zeros_like(size), 0
        for order in orders:
            lines = slice(line, line + order)
            table[lines, :order] = regular_hadamard(order).float()
            table[lines, order : 2 * order] = torch.eye(order)
            first[size == order] = line
            line += order
        return columns, table, first
