"""Finished parts on disk, each written atomically, so that a killed run keeps all of them.

A folder (`parts` of a run, `journal` of a comparison) holds `plan.json`, which says what is computed, and one entry
such as `000012.json` per finished part: facts about it and the SHA-256 of every file of its stores. The entry is
written last and moved into place atomically: only then does the part count as finished.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boundarygeo.results.files import PARTS, UNFINISHED, plain_number, read_json
from boundarygeo.results.overwriting import check_free
from boundarygeo.runs.plan import Plan, read_plan

if TYPE_CHECKING:
    from boundarygeo.results import Result

_OWN = {PARTS: ("whole.zarr", PARTS), "journal": ("results", "table.csv", "table.md", "journal")}
"""Contents of the folder of a run or a comparison, the plan last; anything else was put there by somebody else."""


class DamageError(ValueError):
    """A file has changed since it was written; the message is its path."""


class Parts:
    """The finished parts of a run or comparison, in a folder `root` that the first part creates.

    Parts of another plan may be replaced with `overwrite`, once the first new part is written. `done` holds the numbers
    of the finished ones, and `folder` is where their entries are, in `root`.
    """

    def __init__(self, root: Path, plan: Plan, *, folder: str = PARTS, overwrite: bool = False) -> None:
        self.root, self.plan, self.folder = root, plan, root / folder
        found = None
        try:
            found = read_plan(self.folder / "plan.json") or read_plan(root / "chunks" / "plan.json")
            if found is not None:
                found.check_same(plan, root)
        except ValueError:
            if not overwrite:
                raise
        self._started = found == plan
        self.done = {int(entry.stem) for entry in self.folder.glob("[0-9]*.json")} if self._started else set()
        if not self._started:
            check_free(root, overwrite=True, kind="run" if folder == PARTS else "comparison")

    def entry(self, part: int) -> Path:
        """The entry of a part, which marks it as finished."""
        return self.folder / f"{part:06d}.json"

    def facts(self, part: int) -> dict[str, Any]:
        """The facts recorded about a finished part; DamageError if its entry is damaged."""
        return read_sealed(self.entry(part), self.root)

    def check(self, part: int) -> dict[str, Any]:
        """The facts about a finished part whose files all match their checksums; DamageError if one does not."""
        facts = self.facts(part)
        for file, digest in facts["files"].items():
            if digest_of_file(self.root / file) != digest:
                raise DamageError(file)
        return facts

    def write(self, part: int, stores: "Mapping[str, Result]", **facts: Any) -> None:
        """Write a part: its results, by the paths of their stores in the root, and further facts, as JSON."""
        with self.writing():
            if not self._started:
                clear(self.root, self.folder.name)
                write_json(self.folder / "plan.json", dataclasses.asdict(self.plan))
                self._started = True
            files = {}
            for name, result in stores.items():
                delete(self.root / name)  # left over if damaged or without an entry
                files |= digests(result.save(self.root / name), self.root)
            write_sealed(self.entry(part), {**facts, "files": files})
        self.done.add(part)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Add to write errors that the finished parts are safe."""
        try:
            yield
        except OSError as error:
            raise type(error)(
                f"{str(self.root)!r} could not be written ({error.strerror or error}): {len(self.done)} finished parts "
                "are safe, and re-running resumes from there"
            ) from error

    def forget(self, part: int) -> None:
        """Mark a part as not computed."""
        self.entry(part).unlink(missing_ok=True)
        self.done.discard(part)


def clear(root: Path, folder: str = PARTS) -> None:
    """Delete a run or a comparison in a folder, and the folder if nothing else is in it.

    The plan is deleted last: if this process is killed, the next run still recognises the folder as one it may replace.
    """
    if (root / "chunks").is_dir():  # from an earlier version
        delete(root)
    for name in _OWN[folder][:-1]:
        delete(root / name)
    for entry in (root / folder).glob("*"):
        if entry.name != "plan.json":
            delete(entry)
    (root / folder / "plan.json").unlink(missing_ok=True)
    for emptied in (root / folder, root):
        with contextlib.suppress(OSError):  # missing, or holds other files
            emptied.rmdir()


def delete(path: Path) -> None:
    """Delete a file or folder, if it exists; under its name it never exists in part."""
    hidden = path.with_name(f".{path.name}{UNFINISHED}")
    shutil.rmtree(hidden, ignore_errors=True)
    if path.is_dir():
        path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_whole(file, json.dumps(value, indent=1, default=plain_number).encode())


def write_sealed(file: Path, content: dict[str, Any]) -> None:
    """Write facts together with their digest."""
    write_json(file, {"sha256": _digest(content), "content": content})


def read_sealed(file: Path, root: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote; DamageError, with the path in `root`, if the digest does not match."""
    read = read_json(file)
    if "content" not in read or read.get("sha256") != _digest(read["content"]):
        raise DamageError(file.relative_to(root).as_posix())
    return read["content"]


def write_whole(file: Path, content: bytes) -> None:
    """Write a file atomically, creating its folder if needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}{UNFINISHED}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def digests(folder: Path, root: Path) -> dict[str, str | None]:
    """SHA-256 of all files in a folder, by their paths in `root`."""
    return {
        file.relative_to(root).as_posix(): digest_of_file(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


def digest_of_file(file: Path) -> str | None:
    """SHA-256 of a file, or None if it does not exist."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _digest(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain_number).encode()).hexdigest()
