"""Frames tried on the network: each job is one frame of one example, each of its rows one direction."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from boundarygeo.attacks.examples import labels_of
from boundarygeo.classifier import Classifier
from boundarygeo.subspace.goal import Goal

PointMaker = Callable[[int, int], Tensor]
"""Gives the inputs `[stop - start, *input]` of rows number start to stop, normalised, on the device."""

_WORKING_BYTES = 1 << 26  # of what jobs prepare beside their rows


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


def successes(
    clf: Classifier,
    frames: Frames,
    example: Tensor,
    size: Tensor,
    goal: Goal,
    *,
    input_size: int,
    progress: bool,
) -> Tensor:
    """How many directions of each frame fool the network. To be called inside `Classifier.running`.

    Args:
        clf: the classifier.
        frames: the frames.
        example: example of each job, int64 `[job]`.
        size: size of its frame, int64 `[job]`.
        goal: what is a success.
        input_size: number of dimensions of an input.
        progress: whether to show a bar when it takes more than two seconds.

    Returns:
        Counts, int64 `[job]`.
    """
    counts = torch.zeros(len(example), dtype=torch.int64)
    at_once = max(1, _WORKING_BYTES // (4 * input_size))
    for jobs in torch.arange(len(example)).split(at_once):
        job, row = rows_of(size[jobs])
        labels: list[Tensor] = []
        clf.run(
            frames.points(example[jobs], size[jobs], job, row),
            len(job),
            lambda logits, labels=labels: labels.append(labels_of(logits)),
            precision="float32",
            progress=progress,
        )
        hit = goal.reached(torch.cat(labels).cpu(), example[jobs][job])
        counts[jobs] = torch.zeros(len(jobs), dtype=torch.int64).index_add_(0, job, hit.long())
    return counts
