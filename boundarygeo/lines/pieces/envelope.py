"""Upper envelopes of lines: where the maximum of affine functions changes from one to another."""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-13
"""Values that differ by less than this share of their scale count as equal: rounding of a few hundred operations."""


@dataclass(frozen=True)
class Vertices:
    """Vertices of many upper envelopes on [0, 1], in order for each envelope."""

    item: Tensor  # number of the envelope, int64 `[vertex]`
    fraction: Tensor  # position in [0, 1], float64 `[vertex]`
    before: Tensor  # highest line to the left, int64 `[vertex]`
    after: Tensor  # highest line to the right, int64 `[vertex]`
    first: Tensor  # highest line right after 0, int64 `[item]`


def envelope_vertices(start: Tensor, end: Tensor, scale: Tensor) -> Vertices:
    """Vertices of the upper envelopes on [0, 1] of sets of k lines, given by their values `[item, line]` at 0 and at 1.

    Missing lines are -inf. Walks along each envelope from 0: the next line is the first to overtake the current one,
    and the steepest of several that do so in one point, so that lines that only touch the envelope cause no vertex. To
    overtake, a line must end higher by more than `ROUNDING` times the item's scale, so there are at most k - 1 steps.

    >>> start, end = torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    >>> found = envelope_vertices(start, end, torch.ones(1))
    >>> found.fraction.tolist(), found.before.tolist(), found.after.tolist()
    ([0.5], [0], [1])
    """
    highest = start.amax(1, keepdim=True)
    current = torch.where(start == highest, end, -torch.inf).argmax(1)
    first = current
    items = torch.arange(len(start), device=start.device)
    at = start.new_zeros(len(start))
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    while True:
        below = start - start.gather(1, current[:, None])
        above = end - end.gather(1, current[:, None])
        overtakes = above > ROUNDING * scale[:, None]
        # `above - below` is positive where it matters: the current line is highest at `at`, up to rounding.
        fraction = torch.where(overtakes, -below / (above - below).clamp_min(torch.finfo(start.dtype).tiny), torch.inf)
        fraction = fraction.clamp_min(at[:, None])
        soonest = fraction.amin(1)
        steepest = torch.where(fraction == soonest[:, None], above - below, -torch.inf).argmax(1)
        moves = overtakes.any(1)
        items, start, end, scale = items[moves], start[moves], end[moves], scale[moves]
        at, before, current = soonest[moves].clamp_max(1.0), current[moves], steepest[moves]
        steps.append((items, at, before, current))
        if not len(items):
            break
    item, fraction, before, after = (torch.cat(parts) for parts in zip(*steps, strict=True))
    order = item.argsort(stable=True)  # the steps of each item are in order already
    return Vertices(item[order], fraction[order], before[order], after[order], first)
