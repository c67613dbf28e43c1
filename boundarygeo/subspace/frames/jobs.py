"""Frames tried on the network: each job is one frame of one example, each of its rows one direction."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from boundarygeo.subspace.goal import Opponent

PointMaker = Callable[[int, int], Tensor]
"""Makes the inputs `[stop - start, *input]` of rows start to stop, normalised, on the device."""

_WORKING_BYTES = 1 << 26  # for what jobs prepare besides their rows
_ROUNDINGS = 4  # float spacings by which (bound - x) + x may differ from the bound; one or two suffice
_FIRST_BLOCK = 1  # directions checked before a frame can be abandoned


class Frames(Protocol):
    """A family of orthogonal perturbations around examples: one frame per example and size.

    Jobs are given by example and size of the frame, int64 `[job]`; rows by their job and their position in its frame,
    int64 `[row]`.
    """

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """A function that makes the perturbed inputs of rows."""
        ...

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """The perturbations as applied, float32 `[row, *input]` on the CPU."""
        ...


def rows_of(size: Tensor) -> tuple[Tensor, Tensor]:
    """Job of each row and its position there, for jobs with given numbers of rows, int64 `[row]`.

    Examples:
        >>> rows_of(torch.tensor([2, 1]))
        (tensor([0, 0, 1]), tensor([0, 1, 0]))
    """
    job = torch.arange(len(size)).repeat_interleave(size)
    return job, torch.arange(len(job)) - (size.cumsum(0) - size)[job]


def applied(x: Tensor, delta: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Perturbations cut off at the bounds, so that x + δ stays within them in float32, too; shapes broadcast."""
    delta = (x + delta).clamp(*bounds) - x
    low, high = torch.tensor(bounds, dtype=delta.dtype, device=delta.device)
    for _ in range(_ROUNDINGS):
        moved = x + delta
        outside = (moved < low) | (moved > high)
        if not bool(outside.any()):
            break
        delta = torch.where(outside, delta.nextafter(torch.zeros_like(delta)), delta)
    return delta


class Failures:
    """Directions that failed, by frame: the same direction mostly fails in frames of similar size, too."""

    def __init__(self, examples: int, largest: int) -> None:
        self._row = torch.full((examples, largest + 1), -1)

    def add(self, example: Tensor, size: Tensor, row: Tensor) -> None:
        """Record jobs: example, size, and the direction that failed, or -1; all int64 `[job]`."""
        self._row[example, size] = row

    def near(self, example: Tensor, size: Tensor) -> Tensor:
        """The failed direction of the nearest size that this size has, too, int64 `[job]`; -1 if there is none."""
        sizes = torch.arange(self._row.shape[1])
        far = 2 * len(sizes)
        below = torch.where(self._row >= 0, sizes, -far).cummax(1).values[example, size]
        above = torch.where(self._row >= 0, sizes, far).flip(1).cummin(1).values.flip(1)[example, size]
        nearest = torch.where(size - below <= above - size, below, above)
        row = self._row[example, nearest.clamp(0, len(sizes) - 1)]
        return torch.where(row < size, row, -1)


def successes(
    opponents: Sequence[Opponent],
    families: Sequence[Frames],
    example: Tensor,
    size: Tensor,
    *,
    input_size: int,
    progress: bool,
) -> Tensor:
    """How many directions of each frame fool all networks, int64 `[job]`; the networks have a family of frames each."""
    begin = torch.zeros_like(size)
    counts, _ = _hits(opponents, families, example, size, begin, size, input_size=input_size, progress=progress)
    return counts


def successes_until_failure(
    opponents: Sequence[Opponent],
    families: Sequence[Frames],
    example: Tensor,
    size: Tensor,
    *,
    known: Failures,
    input_size: int,
    progress: bool,
) -> Tensor:
    """As `successes`, but a frame is abandoned soon after its first failure: enough to decide whether all succeed.

    The direction that failed in the frame of the nearest size is checked first, then all in blocks that double in
    length. A frame that is too large mostly fails at once, so this takes far fewer forward passes.

    Returns:
        Counts, int64 `[job]`: of the whole frame if all of it succeeds, else of the blocks that were checked.
    """

    def look(jobs: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        return _hits(
            opponents, families, example[jobs], size[jobs], first, last, input_size=input_size, progress=progress
        )

    counts, failed = torch.zeros_like(size), torch.full_like(size, -1)
    likely = known.near(example, size)
    guessed = (likely >= 0).nonzero()[:, 0]
    if len(guessed):
        _, failed[guessed] = look(guessed, likely[guessed], likely[guessed] + 1)
    live, begin, block = (failed < 0).nonzero()[:, 0], 0, _FIRST_BLOCK
    while len(live):
        last = size[live].clamp_max(begin + block)
        found, failed[live] = look(live, torch.full_like(live, begin), last)
        counts[live] += found
        live = live[(failed[live] < 0) & (last < size[live])]
        begin, block = begin + block, 2 * block
    known.add(example, size, failed)
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
) -> tuple[Tensor, Tensor]:
    """Successes among directions first to last of each frame, and the first that fails, or -1."""
    counts, failed = torch.zeros_like(size), torch.full_like(size, -1)
    at_once = max(1, _WORKING_BYTES // (4 * input_size))
    for jobs in torch.arange(len(example)).split(at_once):
        job, row = rows_of((last - first)[jobs])
        row = row + first[jobs][job]
        lost = torch.full_like(jobs, torch.iinfo(torch.int64).max)
        for opponent, frames in zip(opponents, families, strict=True):  # only what fools one network goes to the next
            labels: list[Tensor] = []
            opponent.session.run(
                frames.points(example[jobs], size[jobs], job, row),
                len(job),
                lambda logits, labels=labels: labels.append(logits.argmax(1)),
                precision="float32",
                progress=progress,
            )
            seen = torch.cat(labels).cpu() if labels else job
            hit = opponent.goal.reached(seen, example[jobs][job])
            lost.scatter_reduce_(0, job[~hit], row[~hit], "amin")
            job, row = job[hit], row[hit]
        counts[jobs] = torch.bincount(job, minlength=len(jobs))
        failed[jobs] = torch.where(lost < size[jobs], lost, -1)
    return counts, failed
