"""Frames tried on the network: each job is one frame of one example, each of its rows one direction."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from boundarygeo.attacks.examples import labels_of
from boundarygeo.subspace.goal import Opponent

PointMaker = Callable[[int, int], Tensor]
"""Gives the inputs `[stop - start, *input]` of rows number start to stop, normalised, on the device."""

_WORKING_BYTES = 1 << 26  # of what jobs prepare beside their rows
_ROUNDINGS = 4  # by which (bound - x) + x can differ from the bound; one or two do
_FIRST_BLOCK = 2  # directions looked at before a frame can be given up


class Frames(Protocol):
    """A family of orthogonal perturbations around examples: one frame for each example and size."""

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """What makes the perturbed inputs of jobs.

        Args:
            example: example of each job, int64 `[job]`.
            size: size of its frame, int64 `[job]`.
            job: job of each row, int64 `[row]`.
            row: which vector of its job's frame each row is, int64 `[row]`.
        """
        ...

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """The perturbations as they are applied, float32 `[row, *input]` on the CPU; arguments as of `points`."""
        ...


def rows_of(size: Tensor) -> tuple[Tensor, Tensor]:
    """Job and place in its frame of each row.

    Args:
        size: number of rows of each job, int64 `[job]`.

    Returns:
        Both int64 `[row]`.

    Examples:
        >>> rows_of(torch.tensor([2, 1]))
        (tensor([0, 0, 1]), tensor([0, 1, 0]))
    """
    job = torch.arange(len(size)).repeat_interleave(size)
    return job, torch.arange(len(job)) - (size.cumsum(0) - size)[job]


def applied(x: Tensor, delta: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Perturbations cut off at the bounds, so that x + δ does not leave them in float32 either.

    Args:
        x: inputs within the bounds.
        delta: perturbations of a shape that broadcasts with theirs.
        bounds: lowest and highest value of an input.

    Returns:
        Perturbations of the shape of the sum.
    """
    delta = (x + delta).clamp(*bounds) - x
    low, high = torch.tensor(bounds, dtype=delta.dtype, device=delta.device)
    for _ in range(_ROUNDINGS):
        moved = x + delta
        outside = (moved < low) | (moved > high)
        if not bool(outside.any()):
            break
        delta = torch.where(outside, delta.nextafter(torch.zeros_like(delta)), delta)
    return delta


def successes(
    opponents: Sequence[Opponent],
    families: Sequence[Frames],
    example: Tensor,
    size: Tensor,
    *,
    input_size: int,
    progress: bool,
) -> Tensor:
    """How many directions of each frame fool all networks. To be called inside `Classifier.running` of each.

    Args:
        opponents: the networks.
        families: the same frames for each of them.
        example: example of each job, int64 `[job]`.
        size: size of its frame, int64 `[job]`.
        input_size: number of dimensions of an input.
        progress: whether to show a bar when it takes more than two seconds.

    Returns:
        Counts, int64 `[job]`.
    """
    begin = torch.zeros_like(size)
    return _hits(opponents, families, example, size, begin, size, input_size=input_size, progress=progress)


def successes_until_failure(
    opponents: Sequence[Opponent],
    families: Sequence[Frames],
    example: Tensor,
    size: Tensor,
    *,
    input_size: int,
    progress: bool,
) -> Tensor:
    """The same, but a frame is given up soon after its first failure: enough to know whether all of it succeeds.

    Directions are looked at in blocks that double in length. A frame that is too large mostly fails within the first
    few, so that this takes far fewer forward passes.

    Args:
        opponents: as in `successes`.
        families: as in `successes`.
        example: as in `successes`.
        size: as in `successes`.
        input_size: as in `successes`.
        progress: as in `successes`.

    Returns:
        Counts, int64 `[job]`: of the whole frame where all of it succeeds, else of the blocks that were looked at.
    """
    counts = torch.zeros_like(size)
    live, begin, block = torch.arange(len(size)), 0, _FIRST_BLOCK
    while len(live):
        first = torch.full_like(live, begin)
        last = size[live].clamp_max(begin + block)
        found = _hits(
            opponents, families, example[live], size[live], first, last, input_size=input_size, progress=progress
        )
        counts[live] += found
        live = live[(found == last - first) & (last < size[live])]
        begin, block = begin + block, 2 * block
    return counts


def _hits(
    opponents: Sequence[Opponent],
    families: Sequence[Frames],
    example: Tensor,
    size: Tensor,
    first: Tensor,
    last: Tensor,
    *,
    input_size: int,
    progress: bool,
) -> Tensor:
    """Successes among directions number first to last of each frame."""
    counts = torch.zeros_like(size)
    at_once = max(1, _WORKING_BYTES // (4 * input_size))
    for jobs in torch.arange(len(example)).split(at_once):
        job, row = rows_of((last - first)[jobs])
        row = row + first[jobs][job]
        for opponent, frames in zip(
            opponents, families, strict=True
        ):  # what one network withstands is not shown to the next
            labels: list[Tensor] = []
            opponent.clf.run(
                frames.points(example[jobs], size[jobs], job, row),
                len(job),
                lambda logits, labels=labels: labels.append(labels_of(logits)),
                precision="float32",
                progress=progress,
            )
            seen = torch.cat(labels).cpu() if labels else job
            hit = opponent.goal.reached(seen, example[jobs][job])
            job, row = job[hit], row[hit]
        counts[jobs] = torch.bincount(job, minlength=len(jobs))
    return counts
