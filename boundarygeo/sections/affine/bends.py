"""Which breakpoints the logits feel."""

import torch
from torch import Tensor

BEND = 1e-12
"""A breakpoint is a bend if a logit there is off the line between its neighbours by more than this share of the
example's largest logit: float64 rounding through a few hundred operations stays below."""


def bending_points(t: Tensor, example: Tensor, logits: Tensor) -> Tensor:
    """Whether the slope of some logit changes at a breakpoint.

    Breakpoints that are on the line between their neighbours are taken away until none is left. Of several in a row
    every second one is, and the others are judged anew: two breakpoints that are too close together for the piece
    between them to be seen still make one bend.

    Args:
        t: breakpoints of all examples, in order, float64 `[row]`.
        example: number of the example, int64 `[row]`, from 0 without gaps.
        logits: float64 `[row, class]`.

    Returns:
        Bool `[row]`; False at the ends of each example.
    """
    kept = torch.arange(len(t))
    tops = logits.new_zeros(int(example[-1]) + 1).scatter_reduce(0, example, logits.abs().amax(1), "amax")
    while True:
        inner = torch.zeros(len(kept), dtype=torch.bool)
        inner[1:-1] = (example[kept[1:-1]] == example[kept[:-2]]) & (example[kept[1:-1]] == example[kept[2:]])
        left, middle, right = kept[:-2], kept[1:-1], kept[2:]
        share = ((t[middle] - t[left]) / (t[right] - t[left]))[:, None]
        off = (torch.lerp(logits[left], logits[right], share) - logits[middle]).abs().amax(1)
        straight = inner.clone()
        straight[1:-1] &= off <= BEND * tops[example[middle]]
        if not bool(straight.any()):
            break
        kept = kept[~(straight & _odd_in_run(straight))]
    bends = torch.zeros(len(t), dtype=torch.bool)
    bends[kept[inner]] = True
    return bends


def _odd_in_run(flags: Tensor) -> Tensor:
    """Whether a set flag is the first, third, fifth ... of its run of set flags."""
    place = torch.arange(len(flags))
    last_unset = torch.where(flags, -1, place).cummax(0).values
    return (place - last_unset) % 2 == 1
