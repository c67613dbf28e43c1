"""Saved state of an unfinished comparison: each instrument on each classifier is a part, as in a long run.

Next to `results`, the stores of all parts, the folder has a folder `journal`: see `boundarygeo.runs.parts`. Until all
parts are finished, the folder is called `NAME.partial`; if only a table is written, it is deleted afterwards.

Two comparisons with the same plan differ in timings only: `seconds` in the parts, and in the provenance of the results
(in their `zarr.json`), and the SHA-256 of these files.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import Found
from boundarygeo.comparison.rows import Comparison, Measurement
from boundarygeo.comparison.tables import csv_text, markdown
from boundarygeo.results import load
from boundarygeo.results.overwriting import check_free
from boundarygeo.results.statistics import Estimate
from boundarygeo.results.storage import move_into_place, unfinished
from boundarygeo.runs import Plan
from boundarygeo.runs.lock import writing
from boundarygeo.runs.parts import DamageError, Parts, clear, delete, write_whole
from boundarygeo.runs.plan import digest_of_tensors

JOURNAL, RESULTS = "journal", "results"


@dataclasses.dataclass(frozen=True)
class Part:
    """One instrument on one classifier, or a shared computation for all of them.

    Attributes:
        instrument: name of the instrument.
        name: name of the classifier, or `"all"`.
        found: result of the instrument.
        forwards: examples sent forward by all classifiers together.
        backwards: examples sent backward.
        seconds: wall-clock time in s.
    """

    instrument: str
    name: str
    found: Found
    forwards: int
    backwards: int
    seconds: float


def read_part(parts: Parts, number: int) -> Part | None:
    """A part, or None if it is unfinished or, with a warning, damaged."""
    if number not in parts.done:
        return None
    try:
        facts = parts.check(number)
    except DamageError as error:
        warnings.warn(f"{str(parts.root)!r} is damaged ({error}): measuring that part again", stacklevel=3)
        return None
    del facts["files"]
    stores = {word: parts.root / _store(facts["instrument"], facts["name"], word) for word in facts.pop("results")}
    measurements = [_measurement(values) for values in facts.pop("measurements")]
    return Part(found=Found(measurements, {word: load(store) for word, store in stores.items()}), **facts)


def write_part(parts: Parts, number: int, part: Part) -> None:
    """Write a part.

    Raises:
        OSError: if it cannot be written; earlier parts are safe.
    """
    facts = dataclasses.asdict(dataclasses.replace(part, found=Found(part.found.measurements, {})))
    facts |= {"measurements": facts.pop("found")["measurements"], "results": list(part.found.results)}
    stores = {_store(part.instrument, part.name, word): result for word, result in part.found.results.items()}
    parts.write(number, stores, **facts)


def finish(parts: Parts, out: Path, comparison: Comparison) -> None:
    """Write the table, and move everything to its final path.

    Raises:
        ValueError: if something else is at that path by now; everything stays where it is.
    """
    root = parts.root
    if root != out:
        check_free(out, overwrite=True, kind=_kind(out))
    for left in (*root.glob(f"{JOURNAL}/.*"), *root.glob(f"{RESULTS}/.*")):
        delete(left)  # left by killed processes
    write_whole(root / "table.csv", csv_text(comparison).encode())
    if is_table(out):
        move_into_place(root / "table.csv", out)
        clear(root, JOURNAL)
        return
    write_whole(root / "table.md", markdown(comparison).encode())
    (root / RESULTS).mkdir(exist_ok=True)  # even for instruments without results
    if root != out:
        for theirs in out.iterdir() if out.is_dir() else ():
            if theirs.name not in (JOURNAL, RESULTS, "table.csv", "table.md"):  # keep other files, such as figures
                theirs.rename(root / theirs.name)
        move_into_place(root, out)


@contextlib.contextmanager
def open_parts(out: Path, plan: Plan, *, overwrite: bool) -> Iterator[Parts]:
    """Open an unfinished comparison, or a new one, locked against other processes.

    Args:
        out: the folder, or the .csv file of the table.
        plan: what to measure.
        overwrite: whether existing results may be replaced, once the comparison is complete.

    Yields:
        Its parts.

    Raises:
        ValueError: if the comparison was started with another plan, another process is writing it, or something else is
            there.
    """
    check_out(out, overwrite=overwrite)
    with writing(out):
        finished = not overwrite and (out / JOURNAL / "plan.json").is_file()
        yield Parts(out if finished else unfinished(out), plan, folder=JOURNAL, overwrite=overwrite)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Check that a comparison can be written; an unfinished one will be resumed.

    Raises:
        ValueError: if the path exists and is not a comparison (or table of one), or is a table and `overwrite` is
            false.
    """
    if overwrite or not (out / JOURNAL / "plan.json").is_file():
        check_free(out, overwrite=overwrite, kind=_kind(out))


def _kind(out: Path) -> Literal["table", "comparison"]:
    return "table" if is_table(out) else "comparison"


def is_table(out: Path) -> bool:
    """Whether only the table is written, not a folder."""
    return out.suffix.lower() == ".csv"


def plan_of(bench: Bench, instruments: tuple[str, ...]) -> Plan:
    """Everything that determines what a comparison measures, as values that survive JSON unchanged."""
    described = {
        subject.name: {
            "group": subject.group,
            "seed": subject.seed,
            "family": subject.family,
            "standard": subject.standard,
            "layers": list(subject.layers),
        }
        for subject in bench.subjects
    }
    return Plan(
        analysis="boundarygeo.comparison.compare",
        result=0,
        settings={
            **dataclasses.asdict(bench.settings),
            "seed": bench.seed,
            "instruments": list(instruments),
            "names": list(described),
            "subjects": described,
        },
        classifiers={
            subject.name: {**subject.classifier.identity(), **subject.classifier.settings()}
            for subject in bench.subjects
        },
        examples=len(bench.x),
        data={"inputs": digest_of_tensors(bench.index, bench.y, bench.x)},
        chunk_size=len(bench.x),
        device=", ".join(sorted({subject.classifier.device.type for subject in bench.subjects})),
    )


def _measurement(values: dict[str, Any]) -> Measurement:
    return Measurement(**{**values, "estimate": Estimate(**values["estimate"])})


def _store(instrument: str, name: str, word: str) -> str:
    """Path of a result in the folder."""
    return f"{RESULTS}/{instrument}-{name}-{word}.zarr"
