"""All instruments on all classifiers."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import INSTRUMENTS, Found, hold_curves
from boundarygeo.comparison.journal import Part, finish, open_parts, plan_of, read_part, write_part
from boundarygeo.comparison.rows import Comparison, Measurement, Row
from boundarygeo.comparison.settings import Settings
from boundarygeo.comparison.subjects import Subject, standard_partners
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import progress_bar
from boundarygeo.results.statistics import Estimate
from boundarygeo.runs.plan import FIRST_INPUTS, steady
from boundarygeo.transfer.matrix import TransferMatrix


def compare(
    subjects: Sequence[Subject],
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
    """Put classifiers under instruments, on the same examples with the same settings.

    Where an instrument cannot be used on a classifier (no piecewise affine network, say), the table has no number there
    and says why; the others go on.

    With `out`, each instrument on each classifier is saved, whole or not at all, when it is finished. Re-running
    resumes a comparison that was killed and gives what one that was not gives, to the last bit on one kind of device,
    in all but wall-clock times; a call that differs is refused. What is damaged is measured again. Until it is whole,
    all of it is in a folder `out` + `".partial"`.

    Args:
        subjects: classifiers with the same bounds and classes.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        settings: of the instruments.
        instruments: names, keys of `INSTRUMENTS`; by default all for which there is what they need: `"transfer"` needs
            a standard classifier among others, `"certified"` the `sigma` of the settings.
        seed: decides everything random.
        index: number of each example, which decides what is drawn for it; by default 0, 1, 2, ….
        out: folder for table.csv, table.md and all results as Zarr stores; or a .csv file, the table alone; or None,
            and nothing is saved. With it, batches are of fixed sizes, as in `boundarygeo.run`.
        overwrite: whether what exists may be replaced; it is, once the comparison is whole. What else is in a folder
            stays.
        progress: whether to show bars when it takes more than two seconds.

    Returns:
        The comparison.

    Raises:
        TypeError: if an input is not a tensor of the right kind.
        ValueError: if classifiers do not fit together or to the examples, an instrument is unknown or lacks what it
            needs, or a classifier does not give finite logits; if `out` was started with other settings, is being
            written by another process, or is something else.
        OSError: if `out` cannot be written; what is finished is safe.
    """
    chosen = check_instruments(subjects, settings, instruments)
    numbers = numbers_of(index, len(x))
    _check_subjects(subjects, x, y)
    if out is not None:
        _check_names(subjects)
        subjects = [_with_steady_batches(subject, x) for subject in subjects]
    bench = Bench(subjects, x, y, settings, seed=seed, index=numbers, progress=progress)
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
                _hold(bench, subject, part)
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


def _todo(chosen: Sequence[str], subjects: Sequence[Subject]) -> Iterator[tuple[str, Subject | None]]:
    """Instruments and classifiers in order; None for the matrix of all classifiers, before what looks into it."""
    matrix = len(subjects) > 1
    for name in chosen:
        if matrix and name in ("masking", "transfer"):
            yield "transfer", None
            matrix = False
        for subject in subjects:
            yield name, subject


def _part(bench: Bench, name: str, subject: Subject | None) -> Part:
    """What an instrument gives, and what it costs."""
    classifiers = [subject.classifier for subject in bench.subjects]
    before = [(clf.counts.forwards, clf.counts.backwards) for clf in classifiers]
    started = time.perf_counter()
    found = Found([], {"matrix": bench.matrix}) if subject is None else _measure(name, bench, subject)
    return Part(
        instrument=name,
        name="all" if subject is None else subject.name,
        found=found,
        forwards=sum(clf.counts.forwards - old for clf, (old, _) in zip(classifiers, before, strict=True)),
        backwards=sum(clf.counts.backwards - old for clf, (_, old) in zip(classifiers, before, strict=True)),
        seconds=time.perf_counter() - started,
    )


def _hold(bench: Bench, subject: Subject | None, part: Part) -> None:
    """Give a bench the attacks of a part that is finished, so that they are not made again."""
    if subject is None:
        matrix = part.found.results["matrix"]
        assert isinstance(matrix, TransferMatrix)
        bench.matrix = matrix
    elif part.instrument == "accuracy" and part.found.results:
        hold_curves(bench, subject, part.found)


def _together(bench: Bench, chosen: Sequence[str], parts: Sequence[Part]) -> Comparison:
    """The comparison of all parts; costs are added up."""
    subjects = {subject.name: subject for subject in bench.subjects}
    return Comparison(
        rows=tuple(
            Row(name=part.name, group=subjects[part.name].group, seed=subjects[part.name].seed, measured=measured)
            for part in parts
            for measured in part.found.measurements
        ),
        names=tuple(subjects),
        groups=tuple(subject.group for subject in bench.subjects),
        settings=bench.settings,
        notes={name: INSTRUMENTS[name].note(bench) for name in chosen},
        results={
            (part.instrument, part.name, word): result for part in parts for word, result in part.found.results.items()
        },
        n=len(bench.x),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
        seconds=sum(part.seconds for part in parts),
    )


def _with_steady_batches(subject: Subject, x: Tensor) -> Subject:
    """The subject with a batch size that no clock decides, and its classifier ready.

    How a module is rearranged to run fast is decided with the inputs that are seen first: these must be the same ones
    where a comparison resumes in its middle.
    """
    clf = steady(subject.classifier, x[:FIRST_INPUTS])
    clf.predict(x[:FIRST_INPUTS])
    return replace(subject, classifier=clf)


def check_instruments(
    subjects: Sequence[Subject], settings: Settings, instruments: Sequence[str] | None
) -> tuple[str, ...]:
    """The instruments to use, in the order of the table; refused before any work.

    Args:
        subjects: what is compared.
        settings: of the instruments.
        instruments: as in `compare`.

    Returns:
        Their names.

    Raises:
        ValueError: if there are none, one is unknown, or lacks what it needs.
    """
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
            raise ValueError(f"instrument {name!r} needs {lacking[name]}, got none")
    return tuple(name for name in INSTRUMENTS if name in instruments)


def _measure(name: str, bench: Bench, subject: Subject) -> Found:
    """What an instrument gives; where it cannot be used, a row without a number that says why."""
    try:
        return INSTRUMENTS[name].measure(bench, subject)
    except ValueError as error:
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        failed = Measurement(
            instrument=name, quantity="", unit="", statistic="", estimate=nothing, main=False, note=str(error)
        )
        return Found([failed], {})


def _check_subjects(subjects: Sequence[Subject], x: Tensor, y: Tensor) -> None:
    """Refuse what cannot be compared, by name."""
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"subjects must be at least one, with different names, got {names}")
    bounds = {subject.name: subject.classifier.bounds for subject in subjects}
    classes: dict[str, int | None] = {}
    for subject in subjects:
        clf = subject.classifier
        try:
            clf.check_inputs(x)
            clf.predict(x)
            clf.check_labels(y, len(x))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (model {subject.name!r})") from error
        classes[subject.name] = clf.num_classes
    for what, values in (("bounds", bounds), ("number of classes", classes)):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} ({name!r})" for name, value in values.items())
            raise ValueError(f"models must have the same {what}, got {listed}")


def _check_names(subjects: Sequence[Subject]) -> None:
    """Refuse names that cannot be part of a file's name."""
    for subject in subjects:
        if not subject.name or set(subject.name) & set("/\\\0"):
            raise ValueError(f"names of subjects must be parts of file names, to be saved, got {subject.name!r}")
