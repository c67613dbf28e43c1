"""A Zarr store that is filled chunk by chunk, so that a killed run loses no chunk that was finished.

Beside the arrays, each in pieces of one chunk along `example`, the store has a folder `chunks`: `plan.json` (what is
computed), `layout.json` (what all chunks have in common), one `000012.json` per finished chunk (its cost, and the
SHA-256 of every file it wrote; written last, and moved into place whole), and `log.jsonl` (when, where and how long:
the one file in which two runs differ). Until all chunks are there, the store is called `NAME.partial`.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import xarray as xr
from torch import Tensor

from boundarygeo.results import Provenance, Result
from boundarygeo.results.overwriting import check_free, read_json
from boundarygeo.results.result import (
    COSTS,
    LOG,
    PLAN,
    UNFINISHED,
    check_format,
    lists_in,
    mark_of,
    move_into_place,
    plain_number,
    unfinished,
)
from boundarygeo.runs.arrays import ChunkArray, arrays_of, open_array
from boundarygeo.runs.files import digest_of, digest_of_file, write_json
from boundarygeo.runs.lists import FOLDER, ChunkLists
from boundarygeo.runs.plan import Plan

JOURNAL = "chunks"


class ChunkStore:
    """A store that is being filled, or is full.

    Args:
        root: folder that it is in now, or will be in from the first chunk on.
        plan: what it is to hold.
        anew: whether it begins empty: what is in the folder goes when the first chunk is written, and not before.

    Attributes:
        done: numbers of the finished chunks.

    Raises:
        ValueError: if it begins empty, and something that is no store is in its way.
    """

    def __init__(self, root: Path, plan: Plan, *, anew: bool = False) -> None:
        self.root = root
        self.plan = plan
        self.journal = root / JOURNAL
        self.done = set() if anew else {int(entry.stem) for entry in self.journal.glob("[0-9]*.json")}
        self._anew = anew
        if anew:
            for way in (root, root.with_name(root.name.removesuffix(UNFINISHED))):
                check_free(way, overwrite=True, kind="store")
        self._lists = ChunkLists(root, plan.chunk_size)

    @classmethod
    def at(cls, root: Path) -> "ChunkStore | None":
        """The store in a folder; None where there is none that a run has begun.

        Args:
            root: the folder.

        Returns:
            The store.

        Raises:
            ValueError: if its format is newer than this version reads, or its plan is no plan.
        """
        file = root / PLAN
        if not file.is_file():
            return None
        read = read_json(file)
        check_format(root, read.get("format", 0))
        if set(read) != {field.name for field in dataclasses.fields(Plan)}:
            raise ValueError(f"{str(file)!r} must hold the plan of a run, got {sorted(read)}")
        return cls(root, Plan(**read))

    @classmethod
    def find(cls, path: Path) -> "ChunkStore | None":
        """The store of a run, finished or not; None where none has begun.

        Args:
            path: its final path.

        Returns:
            The store.

        Raises:
            ValueError: as `at`.
        """
        return cls.at(path) or cls.at(unfinished(path))

    @property
    def finished(self) -> bool:
        """Whether all chunks are there and the store has its final name."""
        return not self.root.name.endswith(UNFINISHED)

    @property
    def missing(self) -> list[int]:
        """Numbers of the chunks that are not there."""
        return [chunk for chunk in range(self.plan.chunks) if chunk not in self.done]

    def write(self, chunk: int, result: Result, *, worker: str, seconds: float) -> None:
        """Write a chunk; it counts from the moment its entry in the journal has its name.

        Args:
            chunk: its number.
            result: of its examples.
            worker: who computed it, for the log.
            seconds: how long that took, in s.

        Raises:
            ValueError: if the result does not go with the other chunks.
            OSError: if it cannot be written.
        """
        start, stop = self.plan.rows(chunk)
        varying = arrays_of(result)
        if not varying or any(each.values.shape[each.axis] != stop - start for each in varying.values()):
            raise ValueError(f"analysis must give one entry per example ({stop - start}), got {result!r}")
        if self._anew:
            self._begin()
        layout = self._layout(result, varying)
        files: dict[str, str | None] = {}
        for name, each in varying.items():
            stored = open_array(self.root, name)
            if each.growing is not None and stored.shape[each.growing] < each.longest:
                stored.resize(each.sized(self.plan.examples, each.longest))
            stored[each.region(start, stop)] = each.values
            for key in each.keys(name, chunk):
                files[key] = digest_of_file(self.root / key)
        entry = {cost: getattr(result.provenance, cost) for cost in COSTS if cost != "seconds"}
        files |= self._lists.write(chunk, result)
        longest = {f"{name}/zarr.json": [each.growing, each.longest] for name, each in varying.items() if each.grows}
        write_json(self._entry(chunk), {**entry, "layout": layout, "longest": longest, "files": files})
        self.done.add(chunk)
        line = {"chunk": chunk, "worker": worker, "seconds": round(seconds, 3), "at": round(time.time(), 3)}
        with (self.root / LOG).open("a") as log:
            log.write("\n" * self._log_is_cut() + json.dumps(line) + "\n")

    def damaged(self) -> dict[int, str]:
        """The finished chunks whose files are not those that were written, each with the first such file.

        What all chunks have in common is checked, too: where that is damaged, so are all of them.
        """
        if not self.done:
            return {}
        if "boundarygeo_type" not in read_json(self.root / "zarr.json").get("attributes", {}):
            return dict.fromkeys(sorted(self.done), "zarr.json")
        layout = read_json(self.journal / "layout.json")
        expected = layout.get("fields")
        for key, digest in layout.get("files", {}).items():
            if digest_of_file(self.root / key) != digest:
                return {chunk: str(key) for chunk in sorted(self.done)}
        shapes: dict[str, list[int]] = {}
        for key, digest in layout.get("growing", {}).items():
            metadata = read_json(self.root / key)
            if _digest_but_shape(metadata) != digest:
                return {chunk: str(key) for chunk in sorted(self.done)}
            shapes[key] = metadata["shape"]
        found = self._lists.damaged()
        for chunk in sorted(self.done):
            entry = read_json(self._entry(chunk))
            if not entry or expected is None or entry["layout"] != digest_of(expected):
                found[chunk] = self._entry(chunk).name
                continue
            short = [key for key, (axis, size) in entry["longest"].items() if shapes[key][axis] < size]
            other = [
                key
                for key, digest in entry["files"].items()
                if digest_of_file(self.root / key) != digest and not (self._lists.joined and key.startswith(FOLDER))
            ]
            if short or other:
                found[chunk] = (short + other)[0]
        return found

    def forget(self, chunks: list[int]) -> None:
        """Take chunks out of the journal, so that they are computed again."""
        for chunk in chunks:
            self._entry(chunk).unlink(missing_ok=True)
            self.done.discard(chunk)
        if chunks:
            self._lists.forget()

    def finish(self, path: Path) -> None:
        """Write what is known of all chunks together and give the store its final name.

        Args:
            path: the final path; a store that is there is replaced.

        Raises:
            ValueError: if anything else is there by now; this store stays where it is.
        """
        if self.root != path:
            check_free(path, overwrite=True, kind="store")
        for left in self.root.rglob("*"):  # by processes that were killed while they wrote
            if left.name.endswith(UNFINISHED):  # as zarr calls them, too
                left.unlink()
        file = self.root / "zarr.json"
        metadata = read_json(file)
        attributes = metadata["attributes"]
        kind = Result.registry[attributes["boundarygeo_type"]]
        self._lists.join(kind)
        parts = [read_json(self._entry(chunk)) for chunk in range(self.plan.chunks)]
        self._fill_growing(parts)
        counted = {cost: sum(part[cost] for part in parts) for cost in parts[0] if cost in COSTS}
        attributes["provenance"] = json.dumps(json.loads(attributes["provenance"]) | counted)
        if kind.pooled:
            attributes |= self._pool(kind)
        # What zarr calls consolidated metadata, in one write that is there whole or not at all, and in a fixed order.
        arrays = {each.parent.name: read_json(each) for each in sorted(self.root.glob("*/zarr.json"))}
        inline = {"kind": "inline", "must_understand": False, "metadata": arrays}
        write_json(file, {**metadata, "attributes": attributes, "consolidated_metadata": inline})
        if self.root != path:
            move_into_place(self.root, path)

    def _fill_growing(self, entries: list[dict[str, Any]]) -> None:
        """Write the padding beyond what any example of a chunk needs, so that a whole store lacks no file."""
        written = {key for entry in entries for key in entry["files"]}
        for name in sorted({key.split("/")[0] for entry in entries for key in entry["longest"]}):
            stored = open_array(self.root, name)
            grid = [range(0, size, step) for size, step in zip(stored.shape, stored.chunks, strict=True)]
            for corner in itertools.product(*grid):
                place = [at // step for at, step in zip(corner, stored.chunks, strict=True)]
                key = "/".join([name, "c", *map(str, place)])
                if key not in written and not (self.root / key).is_file():
                    region = tuple(slice(at, at + step) for at, step in zip(corner, stored.chunks, strict=True))
                    stored[region] = stored[region]

    def _pool(self, kind: type[Result]) -> dict[str, str]:
        """Compute fields over all examples together: arrays are written, the attributes of the others returned."""
        whole = kind.from_xarray(xr.open_zarr(self.root, chunks=None, consolidated=False)).pool()
        attributes = {}
        for name in kind.pooled:
            value = getattr(whole, name)
            if isinstance(value, Tensor):
                open_array(self.root, name)[...] = value.numpy()
            else:
                attributes[name] = json.dumps(value, default=plain_number)
        return attributes

    def _layout(self, result: Result, varying: dict[str, ChunkArray]) -> str:
        """Make the arrays with the first chunk; later ones must fit. Gives the layout's digest."""
        file = self.journal / "layout.json"
        lists = lists_in(result)
        common = {
            field.name: _common(getattr(result, field.name))
            for field in dataclasses.fields(result)
            if field.name not in varying and field.name not in (*result.pooled, *lists, "provenance")
        }
        arrays = {name: [str(each.values.dtype), each.fixed] for name, each in varying.items()}
        arrays |= {name: [str(getattr(result, name).dtype), list(getattr(result, name).shape[1:])] for name in lists}
        provenance = dataclasses.asdict(dataclasses.replace(result.provenance, **dict.fromkeys(COSTS, 0)))
        fields = {"type": type(result).__name__, **common, **arrays, "provenance": provenance}
        if not file.is_file():
            self._create(result, varying, provenance)
            # No chunk is written yet: all that is there, but for the group's own file, stays as it is.
            changing = {JOURNAL, "zarr.json", *result.pooled}
            growing = [f"{name}/zarr.json" for name, each in varying.items() if each.grows]
            files = {
                key: digest_of_file(each)
                for each in sorted(self.root.rglob("*"))
                if each.is_file()
                and (key := each.relative_to(self.root).as_posix()) not in growing
                and key.split("/")[0] not in changing
            }
            shapes = {key: _digest_but_shape(read_json(self.root / key)) for key in growing}
            write_json(file, {"fields": fields, "files": files, "growing": shapes})
        else:
            expected = read_json(file)["fields"]
            now = json.loads(json.dumps(fields, default=plain_number))
            differing = [name for name in {**expected, **now} if expected.get(name) != now.get(name)]
            if differing:
                before, here = expected.get(differing[0]), now.get(differing[0])
                either = ", or have one entry of it per example" if isinstance(before, list) else ""
                raise ValueError(
                    f"analysis must give every chunk the same {differing[0]!r}{either}, got {before} and {here}"
                )
        return digest_of(fields)

    def _create(self, result: Result, varying: dict[str, ChunkArray], provenance: dict[str, Any]) -> None:
        """The arrays, empty: xarray writes them without examples, then they are stretched."""
        without = dict.fromkeys(lists_in(result))
        template = dataclasses.replace(result, provenance=Provenance(**provenance), **without).to_xarray()
        encoding = {name: each.encoding(self.plan.chunk_size) for name, each in varying.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            template.isel(example=slice(0)).to_zarr(
                self.root, mode="a", consolidated=False, encoding=encoding, zarr_format=3, write_empty_chunks=True
            )
        for name, each in varying.items():
            open_array(self.root, name).resize(each.sized(self.plan.examples, each.longest))
        self._write_group(mark_of(result.to_xarray()))

    def _log_is_cut(self) -> bool:
        """Whether the log's last line was not written whole."""
        log = self.root / LOG
        if not log.is_file() or not log.stat().st_size:
            return False
        with log.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            return written.read() != b"\n"

    def _begin(self) -> None:
        # What says that chunks are done goes first, and the plan last: a folder without one would be taken for somebody
        # else's, and not be replaced, by the run that comes after one that is killed here.
        for entry in (*self.journal.glob("*"), *self.root.glob("*")):
            if entry not in (self.journal, self.root / PLAN):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        self.journal.mkdir(parents=True)
        self._write_group({})
        write_json(self.root / PLAN, dataclasses.asdict(self.plan))
        self._anew = False

    def _write_group(self, attributes: dict[str, Any]) -> None:
        """What Zarr says of the journal's folder."""
        write_json(self.journal / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})

    def _entry(self, chunk: int) -> Path:
        return self.journal / f"{chunk:06d}.json"


def _common(value: Any) -> Any:
    """What all chunks have in common, as JSON; tensors by their digest."""
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().numpy()
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    return list(value) if isinstance(value, tuple) else value


def _digest_but_shape(metadata: dict[str, Any]) -> str:
    """Digest of what Zarr's file of an array says of it, except how large it is so far."""
    return digest_of(metadata | {"shape": None})
