"""Long runs: analyses in chunks, kept as they are finished, and gone on with where they stopped."""

import contextlib
import ctypes
import functools
import inspect
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import progress_bar
from boundarygeo.results import Result
from boundarygeo.results.overwriting import check_free
from boundarygeo.results.result import unfinished
from boundarygeo.runs.local import Done, LocalEngine, Task
from boundarygeo.runs.lock import writing
from boundarygeo.runs.plan import (
    CHUNK_SIZE,
    FIRST_INPUTS,
    Inputs,
    Job,
    Plan,
    classifiers_in,
    identify_inputs,
    plans_of,
    steady,
)
from boundarygeo.runs.store import ChunkStore


class Engine(Protocol):
    """Where chunks are computed."""

    def device(self, jobs: Sequence[Job]) -> str:
        """Kind of device that the jobs are computed on: `"cpu"` or `"cuda"`."""
        ...

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        """Compute chunks, in any order, and yield each when it is done."""
        ...


def run(
    analysis: Callable[..., Result],
    clf: Classifier | Sequence[Classifier] | Mapping[str, Classifier],
    x: Inputs,
    y: Tensor,
    *,
    out: str | os.PathLike[str],
    index: Sequence[int] | Tensor | None = None,
    chunk_size: int | None = None,
    batch_size: int | None = None,
    engine: Engine = LocalEngine(),
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Run an analysis on many examples, chunk by chunk, into a Zarr store.

    Each chunk is written whole or not at all. The same call continues a run that was killed, and the store is then
    equal to that of a run that was not, to the last bit on one kind of device with one number of threads
    (`torch.get_num_threads`; with another, last digits may differ), in all files but the log; a call that
    differs is refused. Chunks that were damaged since are computed again. Until it is whole, the store is at
    `out` + `".partial"`.

    Args:
        analysis: a function of the package, or one's own, that is called as
            `analysis(clf, x, y, index=index, progress=False, **settings)`, without `progress` where it does not
            take it, and gives a `Result` with one entry per example, which must not depend on the other examples.
        clf: the classifier, or what else the analysis takes first.
        x: inputs `[example, *input]`: a tensor, or anything that has a length and gives tensors for slices.
        y: true classes, int64 `[example]`.
        out: path of the store.
        index: number of each example, which decides its random draws; by default 0, 1, 2, ….
        chunk_size: examples per chunk; by default 32 on a CPU, 256 on a GPU.
        batch_size: examples per batch inside a chunk; by default the classifier's, or a good one by the number of the
            module's operations. It is fixed, as results could differ in their last digits otherwise.
        engine: where to compute: `LocalEngine()`, or `RayEngine()`.
        overwrite: whether a store that exists may be replaced; it is, once the new one is whole.
        progress: whether to show a bar when it takes more than two seconds.
        **settings: what else the analysis is told: plain values, tensors or classifiers.

    Returns:
        The path of the store.

    Raises:
        TypeError: if the analysis cannot be run in chunks, or a setting cannot be written down.
        ValueError: if an argument or a setting is not usable, the store was begun with others, another process is
            writing to it, or it exists and is not the store of a run.
        OSError: if the store cannot be written; what is in it is kept.
    """
    job = Job(
        analysis=analysis,
        classifiers=clf,
        x=x,
        y=y,
        index=numbers_of(index, len(x)),
        settings=settings,
        stores=(Path(out),),
    )
    run_jobs([job], chunk_size=chunk_size, batch_size=batch_size, engine=engine, overwrite=overwrite, progress=progress)
    return Path(out)


def run_jobs(
    jobs: Sequence[Job],
    *,
    chunk_size: int | None = None,
    batch_size: int | None = None,
    engine: Engine = LocalEngine(),
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Run several jobs, each into its own stores, with all their chunks in one queue; as `run`.

    Args:
        jobs: what to compute: one per model, for example.
        chunk_size: as in `run`.
        batch_size: as in `run`.
        engine: as in `run`.
        overwrite: as in `run`.
        progress: as in `run`.

    Raises:
        TypeError: as `run`.
        ValueError: as `run`, or if two results are to have the same store.
        OSError: as `run`.
    """
    for job in jobs:
        _check(job)
    _check_size(chunk_size, "chunk_size")
    _check_size(batch_size, "batch_size")
    paths = [[path.absolute() for path in job.stores] for job in jobs]
    every = [path for several in paths for path in several]
    if len(set(every)) < len(every):
        raise ValueError("out must be a different path for each result, got one twice")
    device = engine.device(jobs)
    steady = [_with_steady_batches(job, batch_size, device) for job in jobs]
    size = chunk_size or CHUNK_SIZE.get(device, CHUNK_SIZE["cuda"])
    with contextlib.ExitStack() as locks:
        for path in every:
            locks.enter_context(writing(path))
        shared = {id(job.x): job.x for job in steady}  # jobs of several models have the same inputs, read once
        inputs = {key: identify_inputs(x, size) for key, x in shared.items()}
        stores = [
            [
                _open(plan, path, overwrite)
                for plan, path in zip(
                    plans_of(job, inputs=inputs[id(job.x)], chunk_size=size, device=device), several, strict=True
                )
            ]
            for job, several in zip(steady, paths, strict=True)
        ]
        tasks = [
            Task(number, chunk, *several[0].plan.rows(chunk))
            for number, several in enumerate(stores)
            for chunk in sorted({chunk for store in several for chunk in store.missing})
        ]
        total = sum(several[0].plan.examples for several in stores)
        with progress_bar(total, description="examples", unit="examples", progress=progress) as bar:
            bar.update(total - sum(task.stop - task.start for task in tasks))
            for done in engine.compute(steady, tasks):
                _keep(stores[done.task.job], done)
                bar.update(done.task.stop - done.task.start)
                del done  # with its results, before the next one is computed
                _give_memory_back()
        for store, path in zip(itertools.chain(*stores), every, strict=True):
            store.finish(path)


def begun(path: str | os.PathLike[str]) -> bool:
    """Whether a run has begun to write a store: it may be finished, or go on.

    Args:
        path: of the store, as it is given to `run`.

    Returns:
        Whether there is one.

    Raises:
        ValueError: if its format is newer than this version reads.
    """
    return ChunkStore.find(Path(path)) is not None


def _give_memory_back() -> None:
    """Return freed memory to the system, where the C library can: its heap would grow from chunk to chunk otherwise.

    Nothing is leaked: arrays of chunks leave holes in the heap that the next chunk's arrays do not quite fit into.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """What gives memory back, looked up once, or None where there is no such function."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _check(job: Job) -> None:
    """Refuse a job before any work is done."""
    if "index" not in inspect.signature(job.analysis).parameters:
        name = getattr(job.analysis, "__qualname__", repr(job.analysis))
        raise TypeError(f"analysis must take index=, the numbers of its examples, got {name}, which does not")
    clf = next(classifiers_in(job.classifiers), None)
    if clf is None:
        raise TypeError(f"clf must be a Classifier, or several, got {type(job.classifiers).__name__}")
    if not len(job.x):
        raise ValueError("x must hold at least one example, got none")
    clf.check_labels(job.y, len(job.x))
    if len(job.index.unique()) < len(job.index):
        raise ValueError("index must be a different number for each example, got one twice")


def _check_size(size: int | None, name: str) -> None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 1):
        raise ValueError(f"{name} must be a positive whole number, or None, got {size!r}")


def _with_steady_batches(job: Job, batch_size: int | None, device: str) -> Job:
    """The job with batch sizes that no clock decides, and its classifiers ready."""
    changed = job.changed(lambda clf: steady(clf, job.x[:FIRST_INPUTS], batch_size=batch_size, device=device))
    changed.look()
    return changed


def _keep(stores: Sequence[ChunkStore], done: Done) -> None:
    """Write a chunk to the stores that lack it; where that is not possible, say what is safe."""
    own = [result.provenance.seconds for result in done.results]
    together = sum(own)
    for store, result in zip(stores, done.results, strict=True):
        if done.task.chunk in store.done:
            continue
        share = result.provenance.seconds / together if together else 1 / len(own)
        try:
            store.write(done.task.chunk, result, worker=done.worker, seconds=share * done.seconds)
        except OSError as error:
            raise type(error)(
                f"{str(store.root)!r} could not be written ({error.strerror or error}): {len(store.done)} of "
                f"{store.plan.chunks} chunks are safe, and the same call goes on from there"
            ) from error


def _open(plan: Plan, path: Path, overwrite: bool) -> ChunkStore:
    """The store of a plan: what is there of it, less what is damaged, or a new one."""
    store = ChunkStore.at(unfinished(path)) if overwrite else ChunkStore.find(path)
    if overwrite or store is None:
        check_free(path, overwrite=overwrite, kind="store")
    if store is not None and store.plan.continues(plan, store.root, overwrite=overwrite):
        damaged = store.damaged()
        for chunk, file in damaged.items():
            start, stop = store.plan.rows(chunk)
            warnings.warn(
                f"chunk {chunk} (examples {start} to {stop - 1}) of {str(store.root)!r} is damaged ({file}): it is "
                "computed again",
                stacklevel=2,
            )
        store.forget(list(damaged))
        if store.done:
            return store
    return ChunkStore(unfinished(path), plan, anew=True)
