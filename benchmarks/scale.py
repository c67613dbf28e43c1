"""How a long run scales: a real store, and many workers whose computing is only waited for on a simulated clock.

    python benchmarks/scale.py                     # 1, 8, 64 and 512 workers, failures included
    python benchmarks/scale.py --keep planes       # maps that `boundarygeo explore` can read, at ImageNet's size

Results are of ImageNet's size (maps of 129² on planes through 3 x 224 x 224 images) and are made up: smooth random
labels and margins, so that they compress as real ones do. Everything that the calling process does for a chunk is done,
and timed: reading its inputs and pickling them for a worker, unpickling, checking and writing the result, the journal.
Only the workers' computing is not: a chunk is done when `--seconds` of simulated time are over since it was given away,
and lost with `--failures` probability, in which case it is computed again. The calling process handles one thing after
another, so that the simulated clock shows where it becomes the bottleneck.
"""

import argparse
import heapq
import pickle
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real import machine
from scipy import ndimage
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.results import Provenance
from boundarygeo.runs import Job, run_jobs
from boundarygeo.runs.local import Done, Task

SIDE, SHAPE = 129, (3, 224, 224)


class SimulatedEngine:
    """Workers on a simulated clock, in front of a store that is real.

    Args:
        workers: how many.
        seconds: what a chunk takes on one of them, in s.
        failures: probability that a worker dies in a chunk.
    """

    def __init__(self, workers: int, seconds: float, failures: float) -> None:
        self.workers, self.seconds, self.failures = workers, seconds, failures
        self.clock = self.busy = 0.0  # simulated time, and how much of it the calling process was at work
        self.lost = 0

    def device(self, jobs: Sequence[Job]) -> str:
        """Kind of device."""
        return "cuda"

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        """Chunks in the order in which the simulated workers would finish them."""
        draw = np.random.default_rng(0)
        waiting = deque(tasks)
        running: list[tuple[float, int, Task]] = []

        def give() -> None:
            task = waiting.popleft()
            began = time.perf_counter()
            pickle.dumps(jobs[task.job].x[task.rows])
            self._work(time.perf_counter() - began)
            heapq.heappush(running, (self.clock + self.seconds * draw.uniform(0.9, 1.1), task.part, task))

        for _ in range(min(self.workers, len(tasks))):
            give()
        while running:
            finished, _, task = heapq.heappop(running)
            self.clock = max(self.clock, finished)
            if draw.random() < self.failures:
                self.lost += 1
                waiting.appendleft(task)
                give()
                continue
            if waiting:
                give()
            job = jobs[task.job]
            sent = pickle.dumps(made_up(task.rows.stop - task.rows.start, job.index[task.rows], job.settings))
            began = time.perf_counter()
            yield Done(task, (pickle.loads(sent),), "simulated", self.seconds)
            self._work(time.perf_counter() - began)

    def _work(self, seconds: float) -> None:
        self.clock += seconds
        self.busy += seconds


class Inputs:
    """Images that are read from a memory map, as an array on a disk would be."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.images = np.memmap(folder / "images.npy", np.float32, "w+", shape=(64, *SHAPE))
        self.images[:] = np.random.default_rng(0).random(self.images.shape, dtype=np.float32)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice) -> Tensor:
        numbers = np.arange(self.count)[rows]
        return torch.from_numpy(self.images[numbers % len(self.images)])


def made_up(count: int, index: Tensor, settings: Mapping[str, Any]) -> bg.BoundaryMaps:
    """Maps with regions as large as real ones, and a margin at the 6 % of pixels that are evaluated."""
    kept = len(PATTERNS)
    rows = index % kept
    planes = "planes" in settings["keep"]
    axes = torch.rand(count, 2, *SHAPE, generator=torch.Generator().manual_seed(int(index[0]))) if planes else None
    axis = torch.linspace(-1, 1, SIDE, dtype=torch.float64)
    return bg.BoundaryMaps(
        provenance=Provenance("made up"),
        labels=PATTERNS[rows],
        u=axis,
        v=axis.clone(),
        index=index,
        true_labels=torch.zeros(count, dtype=torch.int64),
        center_labels=torch.zeros(count, dtype=torch.int64),
        valid=torch.ones(count, dtype=torch.bool),
        axis_length=torch.ones(count, dtype=torch.float64),
        anchors=None,
        evaluated=torch.full((count,), 0.06, dtype=torch.float64),
        margin=MARGINS[rows] if "margin" in settings["keep"] else None,
        probability=None,
        origin=axes[:, 0].clone() if axes is not None else None,
        axes=axes,
        kind="fgsm_random",
        axis_names=("FGSM sign direction", "random, orthogonal"),
        unit="ε (L∞)",
        clip=True,
        method="adaptive",
        bounds=(0.0, 1.0),
    )


def patterns(count: int) -> tuple[Tensor, Tensor]:
    """Smooth labels, and margins along their boundaries."""
    draw = np.random.default_rng(0)
    smooth = np.stack(
        [ndimage.gaussian_filter(draw.standard_normal((4, SIDE, SIDE)), (0, 20, 20)) for _ in range(count)]
    )
    labels = smooth.argmax(1)
    ordered = np.sort(smooth, 1)
    margin = (ordered[:, -1] - ordered[:, -2]).astype(np.float32)
    near = margin <= np.quantile(margin, 0.06, axis=(1, 2), keepdims=True)
    return torch.from_numpy(labels.astype(np.int16)), torch.from_numpy(
        np.where(near, margin, np.nan).astype(np.float32)
    )


PATTERNS, MARGINS = patterns(64)


def analysis(
    clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, keep: tuple[str, ...], number: int
) -> bg.BoundaryMaps:
    """Stands for `example_maps`, which the simulated workers do not call."""
    raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--stores", type=int, default=15, help="models times kinds of planes")
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=192.0, help="of computing per chunk, on one worker")
    parser.add_argument("--failures", type=float, default=0.02, help="share of the chunks whose worker dies")
    parser.add_argument("--keep", nargs="*", default=["margin"])
    arguments = parser.parse_args()
    columns = ("workers", "hours", "of ideal", "calling process at work", "chunks computed again", "GB")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for workers in arguments.workers:
        print(row(workers, arguments), flush=True)
    print(
        f"\n{arguments.stores} stores of {arguments.examples:,} examples, chunks of {arguments.chunk_size}, "
        f"{arguments.seconds:.0f} s each, {100 * arguments.failures:.0f} % of them lost; {machine(torch.device('cpu'))}"
    )


def row(workers: int, arguments: argparse.Namespace) -> str:
    folder = Path(tempfile.mkdtemp())
    try:
        engine = SimulatedEngine(workers, arguments.seconds, arguments.failures)
        module = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[0] * SHAPE[1] * SHAPE[2], 2)).eval()
        count = arguments.examples
        inputs, classifier = Inputs(folder, count), bg.Classifier(module, device="cpu")
        jobs = [
            Job(
                analysis=analysis,
                classifiers=classifier,
                x=inputs,
                y=torch.zeros(count, dtype=torch.int64),
                index=torch.arange(count),
                settings={"keep": tuple(arguments.keep), "number": number},
                stores=(folder / f"{number}.zarr",),
            )
            for number in range(arguments.stores)
        ]
        run_jobs(jobs, chunk_size=arguments.chunk_size, engine=engine, progress=False)
        stores = [store for job in jobs for store in job.stores]
        states = [bg.run_status(store, verify=True) for store in stores]
        assert not any(state.damaged for state in states)
        size = sum(file.stat().st_size for store in stores for file in store.rglob("*") if file.is_file())
    finally:
        shutil.rmtree(folder)
    chunks = sum(state.parts for state in states)
    ideal = arguments.seconds * chunks / min(workers, chunks)
    return (
        f"| {workers} | {engine.clock / 3600:.2f} | {100 * ideal / engine.clock:.0f} % | "
        f"{100 * engine.busy / engine.clock:.1f} %, {1e3 * engine.busy / chunks:.0f} ms per chunk | {engine.lost} of "
        f"{chunks} | {size / 1e9:.2f} |"
    )


if __name__ == "__main__":
    main()
