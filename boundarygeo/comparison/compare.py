"""All instruments on all classifiers."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import INSTRUMENTS, Found, curves_of
from boundarygeo.comparison.journal import Part, check_names, finish, open_parts, plan_of, read_part, write_part
from boundarygeo.comparison.notes import NOTES
from boundarygeo.comparison.rows import Comparison, Measurement, Row
from boundarygeo.comparison.settings import Settings
from boundarygeo.comparison.subjects import Subject, check_subjects, standard_partners, subjects_of
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis, progress_bar
from boundarygeo.results.statistics import Estimate
from boundarygeo.runs.job import FIRST_INPUTS, steady
from boundarygeo.transfer.matrix import TransferMatrix


@analysis
def compare(
    classifiers: Mapping[str, Classifier] | Sequence[Subject],
    x: Tensor,
    y: Tensor,
    *,
    settings: Settings,
    instruments: Sequence[str] | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare classifiers with all instruments, on the same examples with the same settings.

    If an instrument does not apply to a classifier (e.g. because it is not piecewise affine), the table has no number
    there and says why; the other instruments are not affected.

    With `out`, each instrument's result on each classifier is saved atomically when it is finished. Re-running resumes
    an unfinished comparison, with bit-identical results on one kind of device except for wall-clock times; a call with
    other settings is rejected. Damaged parts are measured again. An unfinished comparison is in a folder `out` +
    `".partial"`.

    Args:
        classifiers: by name, with the same bounds and classes; or each as a `Subject`, which also says what groups it,
            whether it is standard, and which layers to look at.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        settings: settings of the instruments.
        instruments: names, keys of `INSTRUMENTS`; by default all that are applicable: `"transfer"` needs a standard
            classifier among others, `"certified"` the `sigma` of the settings.
        seed: seed of everything random.
        index: number of each example, which determines its random draws; by default 0, 1, 2, ….
        out: folder for table.csv, table.md and all results as Zarr stores; or a .csv file for the table alone; or None
            to save nothing. With `out`, batch sizes are fixed, as in `boundarygeo.run`.
        overwrite: whether existing results may be replaced, once the comparison is complete. Other files in the folder
            stay.
        progress: whether to show progress bars after two seconds.

    Returns:
        The comparison.

    Raises:
        TypeError: if an input is not a tensor of the right kind.
        ValueError: if the classifiers do not match each other or the examples, an instrument is unknown or lacks what
            it needs, or a classifier returns no finite logits; if `out` was started with other settings, is being
            written by another process, or is something else.
        OSError: if `out` cannot be written; finished parts are safe.
    """
    subjects = subjects_of(classifiers)
    chosen = check_instruments(subjects, settings, instruments)
    numbers = numbers_of(index, len(x))
    check_subjects(subjects, x, y)
    if out is not None:
        check_names(subjects)
        subjects = tuple(_with_steady_batches(subject, x) for subject in subjects)
    bench = Bench(subjects=subjects, x=x, y=y, index=numbers, settings=settings, seed=seed, progress=progress)
    todo = list(_todo(chosen, subjects))
    measured: list[Part] = []
    with contextlib.ExitStack() as stack:
        parts = None
        if out is not None:
            parts = stack.enter_context(open_parts(Path(out), plan_of(bench, chosen), overwrite=overwrite))
        bar = stack.enter_context(
            progress_bar(len(todo), description="compare", unit="measurements", progress=progress)
        )
        for number, (name, subject) in enumerate(todo):
            part = read_part(parts, number) if parts else None
            if part is not None:
                _reuse(bench, part)
            else:
                part = _part(bench, name, subject)
                if parts:
                    write_part(parts, number, part)
            measured.append(part)
            bar.update()
        whole = _together(bench, chosen, measured)
        if parts and out is not None:
            finish(parts, Path(out), whole)
    return whole


def check_instruments(
    subjects: Sequence[Subject], settings: Settings, instruments: Sequence[str] | None
) -> tuple[str, ...]:
    """The instruments to use, in the order of the table, checked before any work; by default all that apply."""
    partners = any(partner is not None for partner in standard_partners(subjects))
    lacking = {
        "transfer": "" if partners else "a standard model among the others",
        "certified": "" if settings.sigma is not None else "the standard deviation of the noise, sigma",
    }
    if instruments is None:
        return tuple(name for name in INSTRUMENTS if not lacking.get(name))
    unknown = [name for name in instruments if name not in INSTRUMENTS]
    if unknown or not instruments:
        raise ValueError(f"instruments must be any of {', '.join(INSTRUMENTS)}, got {', '.join(unknown) or 'none'}")
    for name in instruments:
        if lacking.get(name):
            raise ValueError(f"instrument {name!r} needs {lacking[name]}")
    return tuple(name for name in INSTRUMENTS if name in instruments)


def _todo(chosen: Sequence[str], subjects: Sequence[Subject]) -> Iterator[tuple[str, Subject | None]]:
    """Instruments and classifiers in order; None for the matrix of all classifiers, before the instruments using it."""
    matrix = len(subjects) > 1
    for name in chosen:
        if matrix and name in ("masking", "transfer"):
            yield "transfer", None
            matrix = False
        for subject in subjects:
            yield name, subject


def _part(bench: Bench, name: str, subject: Subject | None) -> Part:
    """Results and cost of an instrument."""
    counts = [subject.classifier.counts for subject in bench.subjects]
    forwards, backwards = sum(each.forwards for each in counts), sum(each.backwards for each in counts)
    started = time.perf_counter()
    found = Found([], {"matrix": bench.matrix}) if subject is None else _measure(name, bench, subject)
    return Part(
        instrument=name,
        name="all" if subject is None else subject.name,
        measurements=found.measurements,
        results=found.results,
        forwards=sum(each.forwards for each in counts) - forwards,
        backwards=sum(each.backwards for each in counts) - backwards,
        seconds=time.perf_counter() - started,
    )


def _measure(name: str, bench: Bench, subject: Subject) -> Found:
    """The result of an instrument; if it does not apply, a row without a number that says why."""
    try:
        return INSTRUMENTS[name](bench, subject)
    except ValueError as error:
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        return Found([Measurement(name, "", "", "", nothing, main=False, note=str(error))], {})


def _reuse(bench: Bench, part: Part) -> None:
    """Give a bench the attacks of a finished part, so that they are not computed again."""
    matrix = part.results.get("matrix")
    if isinstance(matrix, TransferMatrix):
        bench.matrix = matrix
    elif part.instrument == "accuracy" and part.results:
        bench.curves |= {(part.name, attack): curve for attack, curve in curves_of(bench, part.results).items()}


def _together(bench: Bench, chosen: Sequence[str], parts: Sequence[Part]) -> Comparison:
    """The comparison assembled from all parts; costs are added up."""
    subjects = {subject.name: subject for subject in bench.subjects}
    return Comparison(
        rows=tuple(
            Row(name=part.name, group=subjects[part.name].group, seed=subjects[part.name].seed, measured=measured)
            for part in parts
            for measured in part.measurements
        ),
        names=tuple(subjects),
        groups=tuple(subject.group for subject in bench.subjects),
        settings=bench.settings,
        notes={name: NOTES[name](bench) for name in chosen},
        results={(part.instrument, part.name, word): found for part in parts for word, found in part.results.items()},
        n=len(bench.x),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
        seconds=sum(part.seconds for part in parts),
    )


def _with_steady_batches(subject: Subject, x: Tensor) -> Subject:
    """The subject with a batch size that does not depend on timing, and its classifier ready.

    The first inputs seen decide how a module is rearranged to run fast: they must be the same when a comparison
    resumes.
    """
    clf = steady(subject.classifier, x[:FIRST_INPUTS])
    clf.predict(x[:FIRST_INPUTS])
    return replace(subject, classifier=clf)
