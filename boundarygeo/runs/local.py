"""Computes parts one after another in this process."""

import os
import platform
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from boundarygeo.results import Result
from boundarygeo.runs.job import Job, classifiers_in


class Task(NamedTuple):
    """A part of a job, by their numbers, and the positions of its examples."""

    job: int
    part: int
    rows: slice


class Done(NamedTuple):
    """A computed part: one result per store of the job, who computed it, and the time it took, in s."""

    task: Task
    results: tuple[Result, ...]
    worker: str
    seconds: float


class Worker:
    """Computes parts of jobs, and remembers how many examples fit into memory at once."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.name = f"{platform.node()}:{os.getpid()}"
        self._fitting: dict[int, int] = {}

    def compute(self, task: Task, x: Tensor, y: Tensor, index: Tensor) -> Done:
        """Compute a part; where memory runs out, this part and all later ones get fewer examples at once."""
        started = time.perf_counter()
        parts: list[tuple[Result, ...]] = []
        start = 0
        while start < len(x):
            rows = slice(start, min(start + self._fitting.get(task.job, len(x)), len(x)))
            try:
                parts.append(self.jobs[task.job].compute(x[rows], y[rows], index[rows]))
            except torch.OutOfMemoryError:
                if rows.stop - start == 1:
                    raise
                self._fitting[task.job] = (rows.stop - start) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                start = rows.stop
        whole = (
            parts[0] if len(parts) == 1 else tuple(type(each[0]).concatenate(each) for each in zip(*parts, strict=True))
        )
        return Done(task, whole, self.name, time.perf_counter() - started)


class LocalEngine:
    """This process, on the classifiers' own device."""

    def device(self, jobs: Sequence[Job]) -> str:
        """Kind of device that computes the jobs."""
        return next(classifiers_in(jobs[0].classifiers)).device.type

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        """Compute parts, in order."""
        worker = Worker(jobs)
        for task in tasks:
            job = jobs[task.job]
            yield worker.compute(task, job.x[task.rows], job.y[task.rows], job.index[task.rows])
