"""Batches: sizes tuned by measured throughput, back-off when memory runs out, progress, and counts.

The best batch size depends on module, precision and machine: a ResNet-20 on two CPU cores is three times faster at 64
than at 1024, a large GPU needs thousands. `BatchTuner` finds it on the work itself, so that tuning costs nothing beyond
the first few batches.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

FIRST_SIZE = {"cpu": 16, "cuda": 128}
LARGEST_SIZE = {"cpu": 2048, "cuda": 1 << 16}
TIMED_BATCHES = 2  # per size, the faster one counts; one untimed batch before them warms up kernels for the new shape
WORTH_GROWING = 1.04  # speed-up that a doubled batch needs, or it counts as a failed try
FAILED_TRIES = 2  # failed tries in a row that end the search
GRAIN = 8  # the rest of a batch of fixed size is cut at multiples of powers of this


@dataclass
class Counts:
    """Cost so far: examples sent forward and backward through a module, in any precision."""

    forwards: int = 0
    backwards: int = 0


class BatchTuner:
    """Batch size for one kind of work: starts small, doubles while throughput grows, halves when memory runs out.

    With a `size`, it only ever halves. `settled` says that the size is final, unless memory runs out.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.size = FIRST_SIZE.get(device.type, FIRST_SIZE["cuda"]) if size is None else size
        self.settled = size is not None
        self._fixed = size is not None
        self._largest = LARGEST_SIZE.get(device.type, LARGEST_SIZE["cuda"])
        self._rates: list[float] = []
        self._best_rate = 0.0
        self._best_size = self.size
        self._failures = 0

    def fitting(self, left: int) -> int:
        """Size of the next batch when `left` examples remain.

        A size that cannot be filled cannot be timed, so the best size so far is used. Less than a batch of fixed size
        is cut into pieces of a few sizes only, because libraries cache a kernel for every size they see.
        """
        if self._fixed and left < self.size:
            unit = 1
            while unit * GRAIN <= left:
                unit *= GRAIN
            return left - left % unit
        compared = self._best_rate > 0 and not self.settled
        return min(left, self._best_size if compared and left < self.size else self.size)

    def record(self, examples: int, seconds: float) -> None:
        """Learn from a finished batch and the seconds that it took; partial batches are ignored."""
        if self.settled or examples != self.size:
            return
        self._rates.append(examples / max(seconds, 1e-9))
        if len(self._rates) <= TIMED_BATCHES:
            return
        rate = max(self._rates[1:])
        self._rates = []
        if rate > self._best_rate * WORTH_GROWING:
            self._failures = 0
        else:
            self._failures += 1
        if rate > self._best_rate:
            self._best_rate, self._best_size = rate, self.size
        if self._failures >= FAILED_TRIES or 2 * self.size > self._largest:
            self.size, self.settled = self._best_size, True
        else:
            self.size *= 2

    def out_of_memory(self) -> bool:
        """Halve the size after memory ran out, and never grow again; whether it could be halved."""
        if self.size == 1:
            return False
        self.size = max(1, self.size // 2)
        self._largest = self.size
        self.settled = True
        return True


def in_batches(
    work: Callable[[int, int], None], total: int, *, tuner: BatchTuner, device: torch.device, bar: "tqdm | None" = None
) -> None:
    """Work through the range `[0, total)` in order, by calls `work(start, stop)` of the tuner's size.

    A batch that raises `torch.OutOfMemoryError` is retried at half the size, so `work` must be repeatable.
    """
    start = 0
    while start < total:
        stop = start + tuner.fitting(total - start)
        timing = not tuner.settled
        began = _seconds(device) if timing else 0.0
        try:
            work(start, stop)
        except torch.OutOfMemoryError:
            if not tuner.out_of_memory():
                raise
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        if timing:
            tuner.record(stop - start, _seconds(device) - began)
        if bar is not None:
            bar.update(stop - start)
        start = stop


def progress_bar(total: int, *, description: str, unit: str, progress: bool) -> tqdm:
    """A progress bar that appears after two seconds, in terminals and notebooks only."""
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        unit_scale=True,
        delay=2.0,
        disable=None if progress else True,
        leave=False,
    )


def _seconds(device: torch.device) -> float:
    """Current time in seconds; on a CPU of this thread only, so that other load does not mislead the tuner."""
    if device.type == "cpu":
        return time.thread_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
