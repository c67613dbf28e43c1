"""All instruments on all classifiers."""

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from boundarygeo.attacks.examples import labels_of
from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import INSTRUMENTS, Found
from boundarygeo.comparison.rows import Comparison, Measurement, Row
from boundarygeo.comparison.settings import Settings
from boundarygeo.comparison.subjects import Subject, standard_partners
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import progress_bar
from boundarygeo.results import Result
from boundarygeo.statistics import Estimate


def compare(
    subjects: Sequence[Subject],
    x: Tensor,
    y: Tensor,
    *,
    settings: Settings,
    instruments: Sequence[str] | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> Comparison:
    """Put classifiers under instruments, on the same examples with the same settings.

    Where an instrument cannot be used on a classifier (no piecewise affine network, say), the table has no number there
    and says why; the others go on.

    Args:
        subjects: classifiers with the same bounds and classes.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        settings: of the instruments.
        instruments: names, keys of `INSTRUMENTS`; by default all for which there is what they need: `"transfer"` needs
            a standard classifier among others, `"certified"` the `sigma` of the settings.
        seed: decides everything random.
        index: number of each example, which decides what is drawn for it; by default 0, 1, 2, ….
        progress: whether to show bars when it takes more than two seconds.

    Returns:
        The comparison.

    Raises:
        TypeError: if an input is not a tensor of the right kind.
        ValueError: if classifiers do not fit together or to the examples, an instrument is unknown or lacks what it
            needs, or a classifier does not give finite logits.
    """
    chosen = check_instruments(subjects, settings, instruments)
    numbers = numbers_of(index, len(x))
    _check_subjects(subjects, x, y)
    counts = [(s.classifier, s.classifier.counts.forwards, s.classifier.counts.backwards) for s in subjects]
    began = time.perf_counter()
    bench = Bench(subjects, x, y, settings, seed=seed, index=numbers, progress=progress)
    rows: list[Row] = []
    results: dict[tuple[str, str, str], Result] = {}
    with progress_bar(
        len(chosen) * len(subjects), description="compare", unit="measurements", progress=progress
    ) as bar:
        for name in chosen:
            for subject in subjects:
                found = _measure(name, bench, subject)
                rows += [
                    Row(name=subject.name, group=subject.group, seed=subject.seed, measured=measured)
                    for measured in found.measurements
                ]
                results |= {(name, subject.name, word): result for word, result in found.results.items()}
                bar.update()
    if len(subjects) > 1 and {"masking", "transfer"} & set(chosen):
        results["transfer", "all", "matrix"] = bench.matrix
    return Comparison(
        rows=tuple(rows),
        names=tuple(subject.name for subject in subjects),
        groups=tuple(subject.group for subject in subjects),
        settings=settings,
        notes={name: INSTRUMENTS[name].note(bench) for name in chosen},
        results=results,
        n=len(x),
        forwards=sum(clf.counts.forwards - before for clf, before, _ in counts),
        backwards=sum(clf.counts.backwards - before for clf, _, before in counts),
        seconds=time.perf_counter() - began,
    )


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
            labels_of(clf.logits(x))
            clf.check_labels(y, len(x))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (model {subject.name!r})") from error
        classes[subject.name] = clf.num_classes
    for what, values in (("bounds", bounds), ("number of classes", classes)):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} ({name!r})" for name, value in values.items())
            raise ValueError(f"models must have the same {what}, got {listed}")
