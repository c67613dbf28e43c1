"""What a comparison keeps while it is made, so that one that is killed loses nothing that was finished.

Beside `results`, the folder has a folder `journal`: `plan.json` (what is measured) and one `000012.json` for each
finished part (its measurements, its cost, and the SHA-256 of every file of its results; written last, and moved into
place whole). Until all parts are there, the folder is called `NAME.partial`; of a table alone nothing else remains.

Two comparisons with one plan differ in the clock's readings alone: `seconds` in the parts, and in the provenance of the
results (in their `zarr.json`), with the SHA-256 of these files.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import Found
from boundarygeo.comparison.rows import Comparison, Measurement
from boundarygeo.comparison.tables import csv_text, markdown
from boundarygeo.results import load
from boundarygeo.results.overwriting import check_free
from boundarygeo.results.result import check_format, move_into_place, unfinished
from boundarygeo.results.statistics import Estimate
from boundarygeo.runs import Plan
from boundarygeo.runs.files import digest_of, digest_of_file, write_json, write_whole
from boundarygeo.runs.lock import writing

JOURNAL, RESULTS = "journal", "results"
PLAN = f"{JOURNAL}/plan.json"

_OWN = (JOURNAL, RESULTS, "table.csv", "table.md")
"""What a comparison has in its folder; anything else there is somebody's."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What is kept whole or not at all: one instrument on one classifier, or what it needs of all of them.

    Attributes:
        instrument: name of the instrument.
        name: of the classifier, or `"all"`.
        found: what the instrument gave.
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


class Journal:
    """The finished parts of a comparison, by their numbers.

    Args:
        root: folder that they are in now, or will be in from the first one on.
        out: the folder's final path, or that of the table.
        plan: what is measured.
        anew: whether it begins empty: what is in the folder goes when the first part is put, and not before.

    Raises:
        ValueError: if it begins empty, and the folder holds what is no comparison.
    """

    def __init__(self, root: Path, out: Path, plan: Plan, *, anew: bool) -> None:
        self.root = root
        self.out = out
        self.plan = plan
        self._anew = anew
        if anew:
            check_free(root, overwrite=True, kind="comparison")

    def get(self, number: int) -> Part | None:
        """A part, or None where it is not finished, or damaged: of that there is a warning.

        Args:
            number: its position in the comparison.

        Returns:
            The part.
        """
        entry = self._entry(number)
        if self._anew or not entry.exists():
            return None
        try:
            return self._read(entry)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            told = str(error) if isinstance(error, _DamageError) else entry.name
            warnings.warn(f"{str(self.root)!r} is damaged ({told}): this is measured again", stacklevel=3)
            return None

    def put(self, number: int, part: Part) -> None:
        """Keep a part; it counts from the moment its entry has its name.

        Args:
            number: its position in the comparison.
            part: what was measured.

        Raises:
            OSError: if it cannot be written; what was put before is safe.
        """
        try:
            if self._anew:
                self._begin()
            files: dict[str, str | None] = {}
            for word, result in part.found.results.items():
                store = self._store(part.instrument, part.name, word)
                _delete(store)  # one that was damaged, or has no entry yet
                files |= _digests(result.save(store))
            content = dataclasses.asdict(dataclasses.replace(part, found=Found(part.found.measurements, {})))
            content |= {"results": list(part.found.results), "files": files}
            write_json(self._entry(number), {"sha256": digest_of(content), "content": content})
        except OSError as error:
            raise type(error)(
                f"{str(self.root)!r} could not be written ({error.strerror or error}): measurements that were finished "
                "are safe, and the same call goes on from there"
            ) from error

    def finish(self, comparison: Comparison) -> None:
        """Write the table, and give everything its final name.

        Args:
            comparison: all parts.

        Raises:
            ValueError: if something else has come to stand there; everything stays where it is.
        """
        if self.root != self.out:
            check_free(self.out, overwrite=True, kind=_kind(self.out))
        for left in (*self.root.glob(f"{JOURNAL}/.*"), *self.root.glob(f"{RESULTS}/.*")):
            _delete(left)  # by processes that were killed while they wrote
        table = self.root / "table.csv"
        write_whole(table, csv_text(comparison).encode())
        if is_table(self.out):
            move_into_place(table, self.out)
            shutil.rmtree(self.root)
            return
        write_whole(self.root / "table.md", markdown(comparison).encode())
        if self.root != self.out:
            for theirs in self.out.iterdir() if self.out.is_dir() else ():
                if theirs.name not in _OWN:  # figures, say: to replace a comparison is not to delete them
                    theirs.rename(self.root / theirs.name)
            move_into_place(self.root, self.out)

    def _read(self, entry: Path) -> Part:
        read = json.loads(entry.read_text())
        content: dict[str, Any] = read["content"]
        if read["sha256"] != digest_of(content):
            raise _DamageError(entry.name)
        files, words = content.pop("files"), content.pop("results")
        stores = {word: self._store(content["instrument"], content["name"], word) for word in words}
        now = {file: digest for store in stores.values() for file, digest in _digests(store).items()}
        for file in files | now:
            if files.get(file) != now.get(file):
                raise _DamageError(f"{RESULTS}/{file}")
        measurements = [_measurement(values) for values in content.pop("found")["measurements"]]
        found = Found(measurements, {word: load(store) for word, store in stores.items()})
        return Part(found=found, **content)

    def _begin(self) -> None:
        for name in _OWN:
            _delete(self.root / name)
        for name in (JOURNAL, RESULTS):
            (self.root / name).mkdir(parents=True)
        write_json(self.root / PLAN, dataclasses.asdict(self.plan))
        self._anew = False

    def _entry(self, number: int) -> Path:
        return self.root / JOURNAL / f"{number:06d}.json"

    def _store(self, instrument: str, name: str, word: str) -> Path:
        return self.root / RESULTS / f"{instrument}-{name}-{word}.zarr"


class _DamageError(ValueError):
    """What is not what was written, by its name."""


@contextlib.contextmanager
def open_journal(out: Path, plan: Plan, *, overwrite: bool) -> Iterator[Journal]:
    """What there is of a comparison, or a new one; no other process can write it meanwhile.

    Args:
        out: its folder, or its table, a file that ends in .csv.
        plan: what is measured.
        overwrite: whether what exists may be replaced, once the comparison is whole.

    Yields:
        The journal.

    Raises:
        ValueError: if the comparison was begun with another plan, another process is writing it, or there is something
            else.
    """
    check_out(out, overwrite=overwrite)
    with writing(out):
        places = [unfinished(out)] if overwrite else [out, unfinished(out)]
        root = next((place for place in places if (place / PLAN).is_file()), None)
        if root is None:
            yield Journal(unfinished(out), out, plan, anew=True)
            return
        try:
            begun = _plan_in(root)
        except ValueError:
            if not overwrite:
                raise
            yield Journal(root, out, plan, anew=True)
            return
        yield Journal(root, out, plan, anew=not begun.continues(plan, root, overwrite=overwrite))


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse what a comparison cannot be written to; a comparison of before may be gone on with.

    Args:
        out: as in `open_journal`.
        overwrite: as in `open_journal`.

    Raises:
        ValueError: if it exists and is no comparison (or table of one), or is a table and `overwrite` is false.
    """
    if overwrite or not (out / PLAN).is_file():
        check_free(out, overwrite=overwrite, kind=_kind(out))


def _kind(out: Path) -> Literal["table", "comparison"]:
    return "table" if is_table(out) else "comparison"


def is_table(out: Path) -> bool:
    """Whether the table alone is written, and not a folder."""
    return out.suffix.lower() == ".csv"


def plan_of(bench: Bench, instruments: tuple[str, ...]) -> Plan:
    """Everything that decides what a comparison measures.

    Args:
        bench: classifiers, examples and settings.
        instruments: names of those that are used.

    Returns:
        The plan, which travels through JSON unchanged.
    """
    digest = hashlib.sha256()
    for tensor in (bench.index, bench.y, bench.x):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    known = {
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
        part=0,
        settings={
            **dataclasses.asdict(bench.settings),
            "seed": bench.seed,
            "instruments": list(instruments),
            "names": list(known),
            "subjects": known,
        },
        classifiers={
            subject.name: {**subject.classifier.identity(), **subject.classifier.settings()}
            for subject in bench.subjects
        },
        examples=len(bench.x),
        data={"inputs": digest.hexdigest()[:16]},
        chunk_size=len(bench.x),
        device=", ".join(sorted({subject.classifier.device.type for subject in bench.subjects})),
    )


def _plan_in(root: Path) -> Plan:
    file = root / PLAN
    try:
        read = json.loads(file.read_text())
        check_format(root, read.get("format", 0))
        return Plan(**read)
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{str(file)!r} must hold the plan of a comparison, got something else: pass overwrite to begin anew"
        ) from error


def _measurement(values: dict[str, Any]) -> Measurement:
    return Measurement(**{**values, "estimate": Estimate(**values["estimate"])})


def _digests(store: Path) -> dict[str, str | None]:
    """SHA-256 of all files of a store, by their paths in the folder of stores."""
    return {
        file.relative_to(store.parent).as_posix(): digest_of_file(file)
        for file in sorted(store.rglob("*"))
        if file.is_file()
    }


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
