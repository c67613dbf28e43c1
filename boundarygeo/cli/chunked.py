"""Commands whose results are kept chunk by chunk, so that the same command goes on where it was stopped."""

import itertools
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import RunOptions
from boundarygeo.cli.sources import Examples
from boundarygeo.results import Result, load
from boundarygeo.runs import Engine, Job, LocalEngine, begun, run_jobs
from boundarygeo.runs.lock import writing


@dataclass(frozen=True, eq=False)
class Problem:
    """What an analysis is called with, besides the examples.

    Attributes:
        analysis: called as `analysis(classifiers, x, y, index=..., **settings)`; gives a result, or a tuple of them.
        classifiers: the classifier, or several.
        settings: everything else that it is told.
        stores: where each of its results is kept, or None.
    """

    analysis: Callable[..., Result | tuple[Result, ...]]
    classifiers: Classifier | Sequence[Classifier] | Mapping[str, Classifier]
    settings: Mapping[str, Any]
    stores: tuple[Path | None, ...] = (None,)


def results_of(problems: Sequence[Problem], examples: Examples, options: RunOptions) -> list[Any]:
    """The results of analyses: chunk by chunk where `--out` is given, at once otherwise.

    With `--out`, results that are not to be kept are written, too, so that they need not be computed again after the
    command was killed: to a hidden folder beside the stores, which is deleted when all results are there.

    Args:
        problems: what is analysed.
        examples: all examples.
        options: of the command.

    Returns:
        Their results, one after another.
    """
    if options.out is None:
        return [result for problem in problems for result in at_once(problem, examples)]
    kept = [store for problem in problems for store in problem.stores if store is not None]
    unkept = (kept or [options.out])[0]
    unkept = unkept.with_name(f".{unkept.name}.unkept")
    if kept and not any(begun(store) for store in kept):
        with writing(kept[0].absolute()):  # or it could be that of a command that has just begun
            shutil.rmtree(unkept, ignore_errors=True)  # of a command that the kept stores know nothing of
    numbers = itertools.count()
    stored = [
        replace(problem, stores=tuple(store or unkept / f"{next(numbers)}.zarr" for store in problem.stores))
        for problem in problems
    ]
    run_stores(stored, examples, options)
    results = [load(store) for problem in stored for store in problem.stores if store is not None]
    shutil.rmtree(unkept, ignore_errors=True)
    for store in kept:
        print(f"saved {store}")
    return results


def run_stores(problems: Sequence[Problem], examples: Examples, options: RunOptions) -> None:
    """Fill the stores of problems, all of which have one.

    Args:
        problems: as in `results_of`.
        examples: as in `results_of`.
        options: of the command.
    """
    jobs = [
        Job(
            analysis=problem.analysis,
            classifiers=problem.classifiers,
            x=examples.inputs,
            y=examples.y,
            index=examples.index,
            settings=problem.settings,
            stores=tuple(store for store in problem.stores if store is not None),
        )
        for problem in problems
    ]
    try:
        run_jobs(jobs, chunk_size=options.chunk_size, engine=_engine(options), overwrite=options.overwrite)
    except KeyboardInterrupt:
        print("boundarygeo: finished chunks are kept; the same command goes on from there", file=sys.stderr)
        raise


def at_once(problem: Problem, examples: Examples) -> tuple[Any, ...]:
    """The results of an analysis of all examples together.

    Args:
        problem: what is analysed.
        examples: the examples.

    Returns:
        Its results.
    """
    found = problem.analysis(problem.classifiers, examples.x, examples.y, index=examples.index, **problem.settings)
    return found if isinstance(found, tuple) else (found,)


def _engine(options: RunOptions) -> Engine:
    if options.engine == "local":
        return LocalEngine()
    from boundarygeo.runs.cluster import RayEngine  # Ray is an extra

    device = "auto" if options.device == "auto" else options.device.partition(":")[0]
    return RayEngine(options.address, workers=options.workers, device=device)
