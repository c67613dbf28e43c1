"""Commands that save results in parts, so that re-running them resumes."""

import itertools
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import RunOptions
from boundarygeo.cli.sources import Examples
from boundarygeo.results import Result, load
from boundarygeo.runs import Engine, Job, LocalEngine, is_run, run_jobs
from boundarygeo.runs.lock import writing


@dataclass(frozen=True, eq=False)
class Problem:
    """A call `analysis(classifiers, x, y, index=…, **settings)` but for the examples; a path or None per result."""

    analysis: Callable[..., Result | tuple[Result, ...]]
    classifiers: Classifier | Sequence[Classifier] | Mapping[str, Classifier]
    settings: Mapping[str, Any]
    stores: tuple[Path | None, ...] = (None,)


def results_of(problems: Sequence[Problem], examples: Examples, options: RunOptions) -> list[Any]:
    """Results of analyses, one after another: computed in parts with `--out`, at once otherwise.

    With `--out`, results without a store are also saved, in a hidden folder next to the stores, so that an interrupted
    command does not compute them again. The folder is deleted when all results are there.
    """
    if options.out is None:
        return [result for problem in problems for result in at_once(problem, examples)]
    named = [store for problem in problems for store in problem.stores if store is not None]
    hidden = (named or [options.out])[0]
    hidden = hidden.with_name(f".{hidden.name}.unkept")
    if named and not any(is_run(store) for store in named):
        with writing(named[0].absolute()):  # the folder may belong to a command just started
            shutil.rmtree(hidden, ignore_errors=True)  # left by another command
    numbers = itertools.count()
    stores = [tuple(store or hidden / f"{next(numbers)}.zarr" for store in problem.stores) for problem in problems]
    _run(problems, stores, examples, options)
    results = [load(store) for several in stores for store in several]
    shutil.rmtree(hidden, ignore_errors=True)
    for store in named:
        print(f"saved {store}")
    return results


def run_stores(problems: Sequence[Problem], examples: Examples, options: RunOptions) -> None:
    """Fill the stores of problems that all have one; as `results_of`, without reading them."""
    _run(problems, [tuple(filter(None, problem.stores)) for problem in problems], examples, options)


def at_once(problem: Problem, examples: Examples) -> tuple[Any, ...]:
    """The results of an analysis of all examples at once."""
    found = problem.analysis(problem.classifiers, examples.x, examples.y, index=examples.index, **problem.settings)
    return found if isinstance(found, tuple) else (found,)


def _run(
    problems: Sequence[Problem], stores: Sequence[tuple[Path, ...]], examples: Examples, options: RunOptions
) -> None:
    jobs = [
        Job(
            analysis=problem.analysis,
            classifiers=problem.classifiers,
            x=examples.inputs,
            y=examples.y,
            index=examples.index,
            settings=problem.settings,
            stores=several,
        )
        for problem, several in zip(problems, stores, strict=True)
    ]
    try:
        run_jobs(jobs, chunk_size=options.chunk_size, engine=_engine(options), overwrite=options.overwrite)
    except KeyboardInterrupt:
        print("boundarygeo: finished parts are safe; re-running the command resumes from there", file=sys.stderr)
        raise


def _engine(options: RunOptions) -> Engine:
    if options.engine == "local":
        return LocalEngine()
    from boundarygeo.runs.ray import RayEngine  # Ray is an extra

    device = "auto" if options.device == "auto" else options.device.partition(":")[0]
    return RayEngine(options.address, workers=options.workers, device=device)
