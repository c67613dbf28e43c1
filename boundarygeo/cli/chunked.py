"""Commands whose results are kept chunk by chunk, so that the same command goes on where it was stopped."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import EngineName, RunOptions
from boundarygeo.cli.outputs import named_stores
from boundarygeo.cli.sources import Examples
from boundarygeo.cli.words import at_least
from boundarygeo.results import Result, check_free, load
from boundarygeo.runs import Engine, Job, LocalEngine, begun, run_jobs


@dataclass(frozen=True, eq=False)
class Problem:
    """What an analysis is called with, besides the examples.

    Attributes:
        clf: the classifier.
        settings: everything else that it is told.
        store: where its result is kept, or None.
    """

    clf: Classifier
    settings: Mapping[str, Any] = field(default_factory=dict)
    store: Path | None = None


def resumable_stores(options: RunOptions, **parts: Sequence[str]) -> list[Path]:
    """The stores that `--out` names; one that exists is refused, unless it is that of a run, which may go on.

    Args:
        options: of the command.
        **parts: as in `check_stores`.

    Returns:
        The stores, as `check_stores` gives them.

    Raises:
        ValueError: as `check_stores`; or if options ask for a run and there is no `--out`.
    """
    for number, name in ((options.chunk_size, "--chunk-size"), (options.workers, "--workers")):
        if number is not None:
            at_least(number, 1, name)
    if options.engine is EngineName.LOCAL and (options.workers is not None or options.address is not None):
        raise ValueError("--workers and --address must be given with --engine ray")
    if options.out is None and (options.engine is not EngineName.LOCAL or options.chunk_size is not None):
        raise ValueError("--engine and --chunk-size must be given with --out: they are about what is kept")
    stores = named_stores(options, **parts)
    for store in stores:
        if not begun(store):
            check_free(store, overwrite=options.overwrite)
    return stores


def results_of(
    analysis: Callable[..., Result], problems: Sequence[Problem], examples: Examples, options: RunOptions
) -> list[Any]:
    """The results of an analysis: those with a store chunk by chunk, the others at once.

    Args:
        analysis: called as `analysis(clf, x, y, index=..., **settings)`.
        problems: what it is called with.
        examples: all examples.
        options: of the command.

    Returns:
        One result per problem.
    """
    run_stores(analysis, problems, examples, options)
    return [
        load(problem.store)
        if problem.store is not None
        else analysis(problem.clf, examples.x, examples.y, index=examples.index, **problem.settings)
        for problem in problems
    ]


def run_stores(
    analysis: Callable[..., Result], problems: Sequence[Problem], examples: Examples, options: RunOptions
) -> None:
    """Fill the stores of the problems that have one.

    Args:
        analysis: as in `results_of`.
        problems: as in `results_of`.
        examples: as in `results_of`.
        options: of the command.
    """
    jobs = [
        Job(
            analysis=analysis,
            classifiers=problem.clf,
            x=examples.inputs,
            y=examples.y,
            index=examples.index,
            settings=problem.settings,
            out=problem.store,
        )
        for problem in problems
        if problem.store is not None
    ]
    if not jobs:
        return
    try:
        paths = run_jobs(jobs, chunk_size=options.chunk_size, engine=_engine(options), overwrite=options.overwrite)
    except KeyboardInterrupt:
        print("boundarygeo: finished chunks are kept; the same command goes on from there", file=sys.stderr)
        raise
    for path in paths:
        print(f"saved {path}")


def _engine(options: RunOptions) -> Engine:
    if options.engine is EngineName.LOCAL:
        return LocalEngine()
    from boundarygeo.runs.cluster import RayEngine  # Ray is an extra

    device = "auto" if options.device == "auto" else options.device.partition(":")[0]
    return RayEngine(options.address, workers=options.workers, device=device)
