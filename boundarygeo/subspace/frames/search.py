"""Which frame sizes are tried: a grid, then sizes near and above the best, or all.

Attempts are two tables, int64 `[example, attempt]`: `tried`, the sizes of frames, 0 where there was no attempt, and
`hits`, how many of their directions succeeded.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from boundarygeo.choices import Rule

Attempt = Callable[[Tensor, Tensor], Tensor]
"""Maps examples and sizes `[job]` to the number of successes of each frame `[job]`."""

NEAR = 10
"""All sizes within this distance of the best are tried."""

REACH = 4
"""With `rule="all"`, all sizes up to this multiple of the best, plus `NEAR`, are tried."""

SPARE = {"all": 1.0, "count": 0.25}
"""All remaining sizes are tried if they cost at most this share of the forward passes so far, by rule."""

_LARGE = torch.iinfo(torch.int64).max

GRID = (1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 35, 50, 75, 100, 125, 150, 175)
"""Sizes tried by default, together with the cap and every further 50."""


def default_grid(cap: int) -> tuple[int, ...]:
    """Sizes that are tried by default, ascending; the last is the cap.

    Examples:
        >>> default_grid(12)
        (1, 2, 3, 4, 5, 7, 10, 12)
    """
    return (*(size for size in (*GRID, *range(200, cap, 50)) if size < cap), cap)


def dimension_of(tried: Tensor, hits: Tensor, rule: Rule) -> Tensor:
    """The dimension shown by attempts: the largest whole frame, or with `"count"` the most successes in one frame.

    Examples:
        >>> dimension_of(torch.tensor([[1, 5, 10]]), torch.tensor([[1, 4, 6]]), "all")
        tensor([1])
    """
    return _scores(tried, hits, rule).amax(1)


def best_attempt(tried: Tensor, hits: Tensor, rule: Rule) -> Tensor:
    """The attempt that shows the dimension, int64 `[example]`."""
    return _scores(tried, hits, rule).argmax(1)


def is_closed(tried: Tensor, hits: Tensor, count: Tensor, sizes: Tensor, *, rule: Rule) -> Tensor:
    """Whether counts are the best over all sizes: no size that could be better was left out.

    Examples:
        >>> tried = torch.tensor([[1, 2, 3, 4], [1, 2, 4, 0]])
        >>> hits = torch.tensor([[1, 1, 3, 1], [1, 2, 1, 0]])
        >>> is_closed(tried, hits, torch.tensor([3, 2]), torch.arange(1, 5), rule="all")  # 3 was left out
        tensor([ True, False])
    """
    left_out = (sizes > count[:, None]) & ~_among(sizes, tried)
    return ~left_out.any(1) & (dimension_of(tried, hits, rule) <= count)


def try_sizes(attempt: Attempt, examples: int, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Sizes of a grid, all tried, and their successes, int64 `[example, attempt]`."""
    everyone = torch.arange(examples)
    # One size at a time: frames of the same size make even batches.
    hits = torch.stack([attempt(everyone, torch.full((examples,), size)) for size in grid], 1)
    return torch.tensor(grid).expand(examples, -1), hits


def close_gaps(
    attempt: Attempt, tried: Tensor, hits: Tensor, *, rule: Rule, spare: float | None = None
) -> tuple[Tensor, Tensor]:
    """Try more sizes: all near the best, and all remaining ones if that costs little.

    The gaps on either side of the best are bisected until they are closed, which is enough if success ends at one size.
    But success need not be monotone: a larger frame can succeed where a smaller one fails. So all sizes within `NEAR`
    of the best are tried, too, and with `rule="all"`, where a frame mostly fails at its first direction, all sizes up
    to `REACH` times the best plus `NEAR`. This repeats around any better size found. All remaining sizes are tried if
    they cost at most the share `spare` (by default from `SPARE`) of the cost so far.
    """
    cap = int(tried.max())
    spare = SPARE[rule] if spare is None else spare
    while True:
        more = torch.zeros(len(tried), 0, dtype=torch.int64)
        for further in (
            _middles(tried, hits, rule),
            _neighbours(tried, hits, rule, cap),
            _affordable(tried, hits, rule, cap, spare),
        ):
            more = torch.cat([more, further * ~more.any(1, keepdim=True)], 1)
        who, column = more.nonzero(as_tuple=True)
        if not len(who):
            return tried, hits
        found = torch.zeros_like(more)
        found[who, column] = attempt(who, more[who, column])
        tried, hits = _ascending(torch.cat([tried, more], 1), torch.cat([hits, found], 1))


def _scores(tried: Tensor, hits: Tensor, rule: Rule) -> Tensor:
    return torch.where(hits == tried, tried, 0) if rule == "all" else hits


def _best_size(tried: Tensor, hits: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Size of the best attempt, 0 if none succeeded, and the dimension it shows, both int64 `[example, 1]`."""
    reached = dimension_of(tried, hits, rule)[:, None]
    return tried.gather(1, best_attempt(tried, hits, rule)[:, None]) * (reached > 0), reached


def _middles(tried: Tensor, hits: Tensor, rule: Rule) -> Tensor:
    """The middles of the gaps above and below the best, int64 `[example, 2]`; 0 where there is no size between.

    With `rule="count"` a smaller frame can have more successes, but not more than its size.
    """
    best, reached = _best_size(tried, hits, rule)
    above = torch.where(tried > best, tried, _LARGE).amin(1, keepdim=True)
    below = torch.maximum(torch.where(tried < best, tried, 0).amax(1, keepdim=True), reached)
    low, high = torch.cat([best, below], 1), torch.cat([torch.where(above < _LARGE, above, best), best], 1)
    middle = torch.div(low + high, 2, rounding_mode="floor")
    return torch.where(middle > low, middle, 0)


def _neighbours(tried: Tensor, hits: Tensor, rule: Rule, cap: int) -> Tensor:
    """Untried sizes near the best that could be better, int64 `[example, size]`, 0 elsewhere."""
    best, _ = _best_size(tried, hits, rule)
    left = _left_out(tried, hits, rule, cap)
    last = (REACH * best if rule == "all" else best) + NEAR
    return torch.where((left >= best - NEAR) & (left <= last), left, 0)


def _affordable(tried: Tensor, hits: Tensor, rule: Rule, cap: int, spare: float) -> Tensor:
    """All untried sizes that could be better, where they cost little, int64 `[example, size]`, 0 elsewhere."""
    left = _left_out(tried, hits, rule, cap)
    each, passes = ((left > 0), hits + (hits < tried)) if rule == "all" else (left, tried)
    return left * (each.sum(1, keepdim=True) <= spare * passes.sum(1, keepdim=True))


def _left_out(tried: Tensor, hits: Tensor, rule: Rule, cap: int) -> Tensor:
    """Untried sizes up to the cap that could be better, int64 `[example, size]`, 0 elsewhere."""
    sizes = torch.arange(1, cap + 1)
    return torch.where((sizes > dimension_of(tried, hits, rule)[:, None]) & ~_among(sizes, tried), sizes, 0)


def _among(sizes: Tensor, tried: Tensor) -> Tensor:
    """Which of the sizes `[size]` each example has tried, bool `[example, size]`."""
    last = int(max(sizes.max(), tried.max())) if tried.numel() else int(sizes.max())
    table = torch.zeros(len(tried), last + 1, dtype=torch.bool).scatter_(1, tried, torch.ones_like(tried).bool())
    return table[:, sizes]


def _ascending(tried: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """The tables sorted by size, with padding (size 0) at the end."""
    order = torch.where(tried > 0, tried, _LARGE).argsort(dim=1, stable=True)
    tried, hits = tried.gather(1, order), hits.gather(1, order)
    used = (tried > 0).any(0)
    return tried[:, used], hits[:, used]
