"""Long runs: analyses of many examples, in parts; re-running resumes them."""

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import progress_bar
from boundarygeo.results import Result
from boundarygeo.results.files import PARTS, unfinished
from boundarygeo.runs.job import (
    CHUNK_SIZE,
    FIRST_INPUTS,
    Inputs,
    Job,
    classifiers_in,
    identify_inputs,
    plans_of,
    steady,
)
from boundarygeo.runs.local import Done, LocalEngine, Task
from boundarygeo.runs.lock import writing
from boundarygeo.runs.whole import RunStore, give_memory_back


class Engine(Protocol):
    """A place to compute parts."""

    def device(self, jobs: Sequence[Job]) -> str:
        """Kind of device that computes the jobs: `"cpu"` or `"cuda"`."""
        ...

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        """Compute parts, in any order, and yield each once it is finished."""
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
    """Run an analysis on many examples, in parts, and save it to a Zarr store.

    Each part is written atomically. Re-running resumes an unfinished run and gives a bit-identical store, except for
    the log, on one kind of device with one number of threads (`torch.get_num_threads`; with another, last digits may
    differ); a call with other settings is rejected. Damaged parts are computed again, even those of a finished store.
    Unfinished runs are in `out` + `".partial"`; joining the parts needs the same disk space once more.

    Args:
        analysis: a function of the package, or your own, that is called as `analysis(clf, x, y, index=index,
            progress=False, **settings)`, without `progress` if it has no such argument, and returns a `Result` with one
            entry per example, independent of the other examples.
        clf: the classifier, or whatever the analysis takes first.
        x: inputs `[example, *input]`: a tensor, or an object that has a length and returns tensors for slices.
        y: true classes, int64 `[example]`.
        out: path of the store.
        index: number of each example, which determines its random draws; by default 0, 1, 2, ….
        chunk_size: examples per part; by default 32 on a CPU, 256 on a GPU.
        batch_size: examples per batch inside a part; by default the classifier's, or chosen by the module's number of
            operations. It is fixed, because otherwise results could differ in their last digits.
        engine: where to compute: `LocalEngine()`, or `RayEngine()`.
        overwrite: whether an existing store may be replaced, once the new one is complete.
        progress: whether to show a progress bar after two seconds.
        **settings: further arguments of the analysis: plain values, tensors, classifiers, or functions, which are
            recognised by their code (objects that they use from outside, by their class).

    Returns:
        The path of the store.

    Raises:
        TypeError: if the analysis cannot be run in parts, or a setting cannot be stored.
        ValueError: if an argument or a setting is invalid, the store was started with other settings, another process
            is writing it, or the path exists and is not the store of a run.
        OSError: if the store cannot be written; the finished parts are safe.
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
    """Run several jobs, e.g. one per model, each into its own stores, with all parts in one queue; see `run`.

    Raises:
        ValueError: as `run`, or if two results share a store.
    """
    for job in jobs:
        _check(job)
    _check_size(chunk_size, "chunk_size")
    _check_size(batch_size, "batch_size")
    paths = [[path.absolute() for path in job.stores] for job in jobs]
    every = [path for several in paths for path in several]
    if len(set(every)) < len(every):
        raise ValueError("two results have the same store: pass a different path for each")
    device = engine.device(jobs)
    steady = [_with_steady_batches(job, batch_size, device) for job in jobs]
    size = chunk_size or CHUNK_SIZE.get(device, CHUNK_SIZE["cuda"])
    with contextlib.ExitStack() as locks:
        for path in every:
            locks.enter_context(writing(path))
        shared = {id(job.x): job.x for job in steady}  # inputs shared by several jobs are read once
        inputs = {key: identify_inputs(x, size) for key, x in shared.items()}
        stores = [
            [
                RunStore(path, plan, overwrite=overwrite)
                for plan, path in zip(
                    plans_of(job, inputs=inputs[id(job.x)], chunk_size=size, device=device), several, strict=True
                )
            ]
            for job, several in zip(steady, paths, strict=True)
        ]
        tasks = [
            Task(number, part, several[0].plan.rows(part))
            for number, several in enumerate(stores)
            for part in sorted({part for store in several for part in store.missing})
        ]
        total = sum(several[0].plan.examples for several in stores)
        with progress_bar(total, description="examples", unit="examples", progress=progress) as bar:
            bar.update(total - sum(task.rows.stop - task.rows.start for task in tasks))
            for done in engine.compute(steady, tasks):
                _write(stores[done.task.job], done)
                bar.update(done.task.rows.stop - done.task.rows.start)
                del done  # free its results before the next part
                give_memory_back()
        for several in stores:
            for store in several:
                store.finish()


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether `path`, as passed to `run`, has a finished or unfinished run."""
    path = Path(path)
    return any(
        (root / folder / "plan.json").is_file() for root in (path, unfinished(path)) for folder in ("chunks", PARTS)
    )


def _check(job: Job) -> None:
    """Check a job before any work."""
    signature = inspect.signature(job.analysis)
    reason = getattr(signature.return_annotation, "joint", "")
    if not reason and "index" not in signature.parameters:
        reason = "it has no argument index=, the numbers of its examples"
    if reason:
        name = getattr(job.analysis, "__qualname__", repr(job.analysis))
        raise TypeError(f"{name} cannot be run in parts: {reason}")
    clf = next(classifiers_in(job.classifiers), None)
    if clf is None:
        raise TypeError(f"clf must be a Classifier, or several, got {type(job.classifiers).__name__}")
    if not len(job.x):
        raise ValueError("x must hold at least one example, got none")
    clf.check_labels(job.y, len(job.x))
    if len(job.index.unique()) < len(job.index):
        raise ValueError("index must be a different number for each example, but one is repeated")


def _check_size(size: int | None, name: str) -> None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 1):
        raise ValueError(f"{name} must be a positive whole number, or None, got {size!r}")


def _with_steady_batches(job: Job, batch_size: int | None, device: str) -> Job:
    """The job with batch sizes that do not depend on timing, and its classifiers ready."""
    changed = job.changed(lambda clf: steady(clf, job.x[:FIRST_INPUTS], batch_size=batch_size, device=device))
    changed.look()
    return changed


def _write(stores: Sequence[RunStore], done: Done) -> None:
    """Write a part to the stores that lack it, dividing its time among them."""
    own = [result.provenance.seconds for result in done.results]
    for store, result in zip(stores, done.results, strict=True):
        if done.task.part in store.missing:
            share = result.provenance.seconds / sum(own) if sum(own) else 1 / len(own)
            store.write(done.task.part, result, worker=done.worker, seconds=share * done.seconds)
