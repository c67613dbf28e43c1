"""Which sizes of frames are tried: a grid, then sizes between the best and its neighbours."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

RULES = ("all", "count")

GRID = (1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 35, 50, 75, 100, 125, 150, 175)
"""Sizes tried by default, together with the cap and every further 50."""


def default_grid(cap: int) -> tuple[int, ...]:
    """Sizes that are tried when none are given.

    Args:
        cap: largest size.

    Returns:
        Ascending sizes; the last is the cap.

    Examples:
        >>> default_grid(12)
        (1, 2, 3, 4, 5, 7, 10, 12)
    """
    return (*(size for size in (*GRID, *range(200, cap, 50)) if size < cap), cap)


def dimension_of(tried: Tensor, hits: Tensor, rule: str) -> Tensor:
    """The dimension that attempts show.

    Args:
        tried: sizes of frames, int64 `[example, attempt]`; 0 where there was no attempt.
        hits: how many of their directions succeeded, of the same shape.
        rule: `"all"`: the largest frame all of whose directions succeed; `"count"`: the most successes in one frame.

    Returns:
        Dimensions, int64 `[example]`.

    Examples:
        >>> dimension_of(torch.tensor([[1, 5, 10]]), torch.tensor([[1, 4, 6]]), "all")
        tensor([1])
    """
    return _scores(tried, hits, rule).amax(1)


def best_attempt(tried: Tensor, hits: Tensor, rule: str) -> Tensor:
    """The attempt that shows the dimension, int64 `[example]`; arguments as of `dimension_of`."""
    return _scores(tried, hits, rule).argmax(1)


def search_sizes(
    attempt: Callable[[Tensor, Tensor], Tensor], examples: int, grid: Sequence[int], *, rule: str, rounds: int
) -> tuple[Tensor, Tensor]:
    """Try the sizes of a grid, and then the middles of the gaps beside the best.

    Success is not monotone in the size: a larger frame can succeed where a smaller one fails. The grid sees that at
    its resolution, and what was tried is returned.

    Args:
        attempt: of examples and sizes `[job]`, the number of successes of each frame `[job]`.
        examples: number of examples.
        grid: ascending sizes.
        rule: `"all"` or `"count"`.
        rounds: how often the gaps beside the best are halved.

    Returns:
        Sizes tried and their successes, int64 `[example, attempt]`, ascending; 0 where there was none.
    """
    everyone = torch.arange(examples)
    tried = torch.tensor(grid).expand(examples, -1)
    # One size after another: frames of the same size make even batches.
    hits = torch.stack([attempt(everyone, torch.full((examples,), size)) for size in grid], 1)
    for _ in range(rounds):
        who, size = _between(tried, hits, rule)
        if not len(who):
            break
        found = attempt(who, size)
        tried, hits = _with(tried, hits, who, size, found)
    return tried, hits


def _scores(tried: Tensor, hits: Tensor, rule: str) -> Tensor:
    return torch.where(hits == tried, tried, 0) if rule == "all" else hits


def _between(tried: Tensor, hits: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """Jobs in the middle of the gaps above (and, where that can help, below) the best attempt."""
    best = best_attempt(tried, hits, rule)[:, None]
    at = tried.gather(1, best)
    reached = dimension_of(tried, hits, rule)[:, None]
    sides = [(torch.where(tried > at, tried, torch.iinfo(torch.int64).max).amin(1, keepdim=True), at)]
    if rule == "count":  # a smaller frame can have more successes, but not more than its size
        sides.append((at, torch.maximum(torch.where(tried < at, tried, 0).amax(1, keepdim=True), reached)))
    jobs = []
    for high, low in sides:
        middle = torch.div(low + high, 2, rounding_mode="floor")
        useful = (high < torch.iinfo(torch.int64).max) & (middle > low) & (reached > 0)
        jobs.append((useful[:, 0].nonzero()[:, 0], middle[useful]))
    return torch.cat([who for who, _ in jobs]), torch.cat([size for _, size in jobs])


def _with(tried: Tensor, hits: Tensor, who: Tensor, size: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """The tables with more attempts, sorted by size: those without one have size 0 and go to the end."""
    turn = torch.zeros(len(who), dtype=torch.int64)
    turn[1:] = (who[1:] <= who[:-1]).cumsum(0)  # the second side of an example comes in a second column
    more = int(turn.max()) + 1
    extra = torch.zeros(2, len(tried), more, dtype=torch.int64)
    extra[0, who, turn], extra[1, who, turn] = size, found
    tried, hits = torch.cat([tried, extra[0]], 1), torch.cat([hits, extra[1]], 1)
    order = torch.where(tried > 0, tried, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    tried, hits = tried.gather(1, order), hits.gather(1, order)
    used = (tried > 0).any(0)
    return tried[:, used], hits[:, used]
