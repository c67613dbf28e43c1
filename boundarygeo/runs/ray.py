"""Parts on many processes, devices and machines, through Ray (`pip install 'boundarygeo[ray]'`)."""

import dataclasses
import os
from collections import deque
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import torch

from boundarygeo.runs.job import FIRST_INPUTS, Job, classifiers_in
from boundarygeo.runs.local import Done, Task, Worker

TRIES = 3  # worker deaths on the same part before the run stops


class RayEngine:
    """Workers of a Ray cluster, each with the models in its memory; parts go to whichever is free.

    The calling process reads the inputs and writes the store; workers need neither. A worker that dies is replaced, and
    its part is computed again.

    Args:
        address: address of a running cluster, such as `"auto"` or `"ray://head:10001"`; None to start one on this
            machine and stop it at the end.
        workers: number of workers; by default one per GPU of the cluster, or else as many as its CPU cores allow.
        threads: CPU cores, and threads, per worker.
        device: `"cuda"`, `"cpu"`, or `"auto"` for GPUs if the cluster has any.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        ValueError: if a number is not positive or the device is unknown.
    """

    def __init__(
        self, address: str | None = None, *, workers: int | None = None, threads: int = 1, device: str = "auto"
    ) -> None:
        try:
            import ray
            from ray import exceptions
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Ray is not installed: pip install 'boundarygeo[ray]'") from error
        for name, number in (("workers", workers), ("threads", threads)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, Integral) or number < 1):
                raise ValueError(f"{name} must be a positive whole number, got {number!r}")
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
        self._ray = ray
        self._errors = exceptions
        self._address = address
        self._workers = workers
        self._threads = threads
        self._device = device
        self._started = False

    def device(self, jobs: Sequence[Job]) -> str:
        """Kind of device that computes the jobs; joins or starts the cluster."""
        self._join()
        if self._device != "auto":
            return self._device
        return "cuda" if self._ray.cluster_resources().get("GPU", 0) else "cpu"

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        """Compute parts on the workers, one part at a time on each, in any order.

        Raises:
            RuntimeError: if a part's worker died three times in a row.
            Exception: whatever the analysis raises.
        """
        ray = self._ray
        device = self.device(jobs)
        waiting = deque(tasks)
        tries: dict[tuple[int, int], int] = {}
        busy: dict[Any, tuple[Any, Task]] = {}
        kind = ray.remote(num_cpus=self._threads, num_gpus=1 if device == "cuda" else 0)(_Worker)
        shipped = ray.put([_portable(job) for job in jobs])

        def give(worker: Any) -> None:
            task = waiting.popleft()
            job, rows = jobs[task.job], task.rows
            busy[worker.compute.remote(task, job.x[rows], job.y[rows], job.index[rows])] = (worker, task)

        try:
            for _ in range(min(self._count(device), len(tasks))):
                give(kind.remote(shipped, device, self._threads))
            while busy:
                (ready,), _ = ray.wait(list(busy), num_returns=1)
                worker, task = busy.pop(ready)
                try:
                    done = ray.get(ready)
                except self._errors.RayTaskError as error:
                    raise error.cause from None  # what the analysis itself raised
                except self._errors.RayError as error:
                    tries[task[:2]] = tries.get(task[:2], 0) + 1
                    if tries[task[:2]] == TRIES:
                        raise RuntimeError(
                            f"worker died {TRIES} times on examples {task.rows.start} to {task.rows.stop - 1}: {error}"
                        ) from error
                    waiting.appendleft(task)
                    give(kind.remote(shipped, device, self._threads))
                    continue
                if waiting:
                    give(worker)
                yield done
        finally:
            for worker, _ in busy.values():
                ray.kill(worker)
            if self._started:
                ray.shutdown()
                self._started = False

    def _join(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            cores = None if self._workers is None else max(self._workers * self._threads, 1)
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address=self._address, **quiet)
        self._started = True

    def _count(self, device: str) -> int:
        if self._workers is not None:
            return self._workers
        resources = self._ray.cluster_resources()
        room = resources.get("GPU", 0) if device == "cuda" else resources.get("CPU", 1) // self._threads
        return max(1, int(room))


class _Worker(Worker):
    """A worker in its own process, with the models on its device."""

    def __init__(self, jobs: Sequence[Job], device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        super().__init__([job.changed(lambda clf: clf.on(device)) for job in jobs])
        for job in self.jobs:
            job.look()


def _portable(job: Job) -> Job:
    """The job for another process: modules in CPU memory, and only those examples that it needs to look at."""
    first = slice(FIRST_INPUTS)
    few = dataclasses.replace(job, x=job.x[first], y=job.y[first], index=job.index[first])
    on_gpu = any(clf.device.type != "cpu" for clf in classifiers_in([job.classifiers, dict(job.settings)]))
    return few.changed(lambda clf: clf.on("cpu")) if on_gpu else few
