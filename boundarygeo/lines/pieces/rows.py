"""Rows: the points at which tensors are carried, and how new ones are inserted."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate

from boundarygeo.linalg import like
from boundarygeo.lines.pieces.switches import Switches


@dataclass(frozen=True)
class Rows:
    """Points on the segments of several examples, in order; each is one row of every carried tensor."""

    t: Tensor  # coordinate on the segment, float64 `[row]`
    example: Tensor  # position of the example, int64 `[row]`
    layer: Tensor  # nonlinearity that caused the breakpoint, int64 `[row]`; -1 at the ends of a segment

    def __len__(self) -> int:
        return len(self.t)

    @property
    def joined(self) -> Tensor:
        """Whether each row and the next lie on one segment, bool `[row - 1]`."""
        return self.example[1:] == self.example[:-1]


@dataclass(frozen=True)
class Refinement:
    """A new set of rows: copies of old ones, and new ones between two of them."""

    rows: Rows
    left: Tensor  # old row that each copies or follows, int64 `[row]`
    weight: Tensor  # share of the way to the next old row, float64 `[row]`; 0 for copies

    def chunks(self, limit: int) -> Iterator["Refinement"]:
        """Split into about equal parts of at most `limit` rows, each beginning with the last row of the one before."""
        count = max(1, -(-(len(self.rows) - 1) // (limit - 1)))
        edges = [round(part * (len(self.rows) - 1) / count) for part in range(count + 1)]
        for begin, end in pairwise(edges):
            part = slice(begin, end + 1)
            rows = Rows(self.rows.t[part], self.rows.example[part], self.rows.layer[part])
            yield Refinement(rows, self.left[part], self.weight[part])

    def apply(self, value: Any) -> Any:
        """Carried tensors (or tuples of them) at the new rows, interpolated from the old ones."""
        new = self.weight.nonzero()[:, 0]
        before = self.left[new]

        def at_rows(tensor: Any) -> Any:
            if not isinstance(tensor, Tensor):
                return tensor
            moved = tensor.index_select(0, self.left)
            weight = like(self.weight[new], tensor)
            between = torch.lerp(tensor.index_select(0, before), tensor.index_select(0, before + 1), weight)
            return moved.index_copy_(0, new, between)

        return map_aggregate(value, at_rows)


def refine(rows: Rows, switches: Switches, tolerance: float, layer: int) -> Refinement | None:
    """Insert a row at each change of pattern, or return None if there is none.

    Changes within `tolerance` in t of a row, or of each other, share a row.
    """
    pair, fraction = switches
    begin, end = rows.t[pair], rows.t[pair + 1]
    t = torch.lerp(begin, end, fraction)
    inside = (t - begin > tolerance) & (end - t > tolerance)
    pair, fraction, t = pair[inside], fraction[inside], t[inside]
    order = fraction.argsort()
    order = order[pair[order].argsort(stable=True)]
    pair, fraction, t = pair[order], fraction[order], t[order]
    apart = torch.ones_like(pair, dtype=torch.bool)
    apart[1:] = (pair[1:] != pair[:-1]) | (t[1:] - t[:-1] > tolerance)
    pair, fraction, t = pair[apart], fraction[apart], t[apart]
    if not len(pair):
        return None
    copies = 1 + torch.bincount(pair, minlength=len(rows))
    left = torch.repeat_interleave(torch.arange(len(rows), device=t.device), copies)
    place = pair + 1 + torch.arange(len(pair), device=t.device)
    return Refinement(
        Rows(
            rows.t[left].index_copy_(0, place, t),
            rows.example[left],
            rows.layer[left].index_fill_(0, place, layer),
        ),
        left,
        torch.zeros_like(rows.t)[left].index_copy_(0, place, fraction),
    )
