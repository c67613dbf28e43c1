"""A comparison on disk: each instrument on each classifier is a part, as in a long run (`boundarygeo.runs.parts`).

The folder holds `results`, the stores of all parts, and `journal`, their plan and entries. Until all parts are
finished, it is called `NAME.partial`; if only a table is written, it is deleted afterwards.

Two comparisons with the same plan differ in timings only: `seconds` in the parts, and in the provenance of the results
(in their `zarr.json`), and the SHA-256 of these files.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.rows import Comparison, Measurement
from boundarygeo.comparison.subjects import Subject
from boundarygeo.comparison.tables import csv_text, markdown
from boundarygeo.results import Result, load
from boundarygeo.results.files import unfinished
from boundarygeo.results.overwriting import check_free
from boundarygeo.results.provenance import software_versions
from boundarygeo.results.statistics import Estimate
from boundarygeo.results.storage import move_into_place
from boundarygeo.runs import Plan
from boundarygeo.runs.job import digest_of_tensors
from boundarygeo.runs.lock import writing
from boundarygeo.runs.parts import DamageError, Parts, clear, delete, write_whole

JOURNAL, RESULTS = "journal", "results"
_OWN = (JOURNAL, RESULTS, "table.csv", "table.md")


@dataclasses.dataclass(frozen=True)
class Part:
    """One instrument on one classifier, or the matrix of all of them (`name` is `"all"`), with its cost; time in s."""

    instrument: str
    name: str
    measurements: list[Measurement]
    results: dict[str, Result]
    forwards: int
    backwards: int
    seconds: float

    def store(self, word: str) -> str:
        """Path of a result in the folder."""
        return f"{RESULTS}/{self.instrument}-{self.name}-{word}.zarr"


def write_part(parts: Parts, number: int, part: Part) -> None:
    """Write a part; an `OSError` if it cannot be written, and earlier parts are safe."""
    facts = dataclasses.asdict(dataclasses.replace(part, results={})) | {"results": list(part.results)}
    parts.write(number, {part.store(word): result for word, result in part.results.items()}, **facts)


def read_part(parts: Parts, number: int) -> Part | None:
    """A part, or None if it is unfinished or, with a warning, damaged."""
    if number not in parts.done:
        return None
    try:
        facts = parts.check(number)
    except DamageError as error:
        warnings.warn(f"{str(parts.root)!r} is damaged ({error}): measuring that part again", stacklevel=3)
        return None
    words = facts.pop("results")
    measurements = [Measurement(**each | {"estimate": Estimate(**each["estimate"])}) for each in facts["measurements"]]
    del facts["files"]
    part = Part(**facts | {"measurements": measurements, "results": {}})
    return dataclasses.replace(part, results={word: load(parts.root / part.store(word)) for word in words})


@contextlib.contextmanager
def open_parts(out: Path, plan: Plan, *, overwrite: bool) -> Iterator[Parts]:
    """The parts of an unfinished comparison, or of a new one, locked against other processes.

    A `ValueError` if it was started with another plan, another process is writing it, or something else is there.
    """
    check_out(out, overwrite=overwrite)
    with writing(out):
        finished = not overwrite and (out / JOURNAL / "plan.json").is_file()
        yield Parts(out if finished else unfinished(out), plan, folder=JOURNAL, overwrite=overwrite)


def finish(parts: Parts, out: Path, comparison: Comparison) -> None:
    """Write the table, and move everything to its final path; if something else is there by now, all stays."""
    root = parts.root
    if root != out:
        check_free(out, overwrite=True, kind=_kind(out))
    for left in (*root.glob(f"{JOURNAL}/.*"), *root.glob(f"{RESULTS}/.*")):
        delete(left)  # left by killed processes
    write_whole(root / "table.csv", csv_text(comparison).encode())
    if _kind(out) == "table":
        move_into_place(root / "table.csv", out)
        clear(root, JOURNAL)
        return
    write_whole(root / "table.md", markdown(comparison).encode())
    (root / RESULTS).mkdir(exist_ok=True)  # even for instruments without results
    if root != out:
        for theirs in out.iterdir() if out.is_dir() else ():
            if theirs.name not in _OWN:  # keep other files, such as figures
                theirs.rename(root / theirs.name)
        move_into_place(root, out)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Check that a comparison can be written to a path, or resumed there."""
    if overwrite or not (out / JOURNAL / "plan.json").is_file():
        check_free(out, overwrite=overwrite, kind=_kind(out))


def check_names(subjects: Sequence[Subject]) -> None:
    """Raise if a name cannot be part of a file name."""
    for subject in subjects:
        if not subject.name or set(subject.name) & set("/\\\0"):
            raise ValueError(f"subject {subject.name!r} cannot be saved: its name must be usable in a file name")


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
        versions=software_versions(),
    )


def _kind(out: Path) -> Literal["table", "comparison"]:
    """What is written: the table alone, or a folder."""
    return "table" if out.suffix.lower() == ".csv" else "comparison"
