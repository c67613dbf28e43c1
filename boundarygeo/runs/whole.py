"""The store of a run: separate parts while unfinished, then one store joined from them.

Parts are separate stores, `NAME.partial/parts/000012.zarr`. When all are finished, the sizes of the whole are known,
and the parts are read one after another into `NAME.partial/whole.zarr`, whose arrays have one chunk per part along
`example`. It is moved into place with a folder `chunks` that records its origin: `plan.json`, `parts.json` (cost and
contents of each part, and the SHA-256 of every file) and `log.jsonl` (when, where and how long: the only file in which
two runs differ). If a finished store is damaged, the parts in the damaged files are computed again, the others are read
from it, and a new store is joined from all of them.
"""

import ctypes
import dataclasses
import functools
import hashlib
import json
import math
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from boundarygeo.results import Result, open_store
from boundarygeo.results.files import LOG, PARTS, read_json, read_log, unfinished
from boundarygeo.results.overwriting import check_free
from boundarygeo.results.provenance import COSTS
from boundarygeo.results.result import OWNER, list_dimension, paddings
from boundarygeo.results.storage import consolidate, move_into_place, select, write
from boundarygeo.runs.damage import PLAN, SEAL, damage, damaged_parts
from boundarygeo.runs.parts import (
    DamageError,
    Parts,
    clear,
    delete,
    digests,
    read_sealed,
    write_json,
    write_sealed,
    write_whole,
)
from boundarygeo.runs.plan import Plan, read_plan

COLUMNS = 1024
"""Entries per chunk along a dimension whose length depends on the examples."""

BYTES_PER_CHUNK = 1 << 24
"""Bytes per chunk of a list whose number of entries differs between examples."""

_OPENING = threading.Lock()


class RunStore:
    """A store of a run on its way to `path`: its finished parts, and the numbers of the `missing` ones.

    With `overwrite`, an existing store is replaced once this one is complete; one of another plan is refused without.
    """

    def __init__(self, path: Path, plan: Plan, *, overwrite: bool) -> None:
        self.path, self.plan = path, plan
        self._sealed: dict[str, Any] | None = None
        self._common: dict[str, Any] | None = None
        lost: dict[int, str] = dict.fromkeys(range(plan.parts), "")
        found = None if overwrite else read_plan(path / PLAN)
        if found is not None:
            found.check_same(plan, path)
            lost = damage(path, plan)
            if len(lost) < plan.parts:
                self._sealed = read_sealed(path / SEAL, path)
                self._common = self._sealed["common"]
        else:
            check_free(path, overwrite=overwrite, kind="store")
        self.parts = Parts(unfinished(path), plan, overwrite=overwrite) if lost else None
        if self.parts is not None:
            damaged = damaged_parts(self.parts)
            _warn(damaged, self.parts.root, plan)
            for part in damaged:
                self.parts.forget(part)
            lost = {part: file for part, file in lost.items() if part not in self.parts.done}
        if found is not None:
            _warn(lost, path, plan)
        self.missing = sorted(lost)

    def write(self, part: int, result: Result, *, worker: str, seconds: float) -> None:
        """Write a part, with who computed it and how long it took, in s."""
        assert self.parts is not None
        result = dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, seconds=seconds))
        dataset = result.to_xarray()
        if dataset.sizes.get("example") != self.plan.size(part):
            raise ValueError(f"analysis must return one entry per example ({self.plan.size(part)}), got {result!r}")
        sizes = {str(dim): size for dim, size in dataset.sizes.items()}
        before = self._sealed["parts"][part]["sizes"] if self._sealed else sizes
        if sizes != before:
            raise ValueError(f"analysis must return the same sizes for part {part} as before ({before}), got {sizes}")
        common = _common(dataset)
        self._check_common(common)
        self.parts.write(
            part,
            {f"{PARTS}/{part:06d}.zarr": result},
            common=common,
            sizes=sizes,
            forwards=result.provenance.forwards,
            backwards=result.provenance.backwards,
            log={"part": part, "worker": worker, "seconds": round(seconds, 3), "at": round(time.time(), 3)},
        )

    def finish(self) -> None:
        """Join the parts into a store at its final path, and delete them; does nothing if already done.

        Where that fails (something else is there, a part is damaged, the disk is full), the parts stay.
        """
        if self.parts is not None:
            check_free(self.path, overwrite=True, kind="store")
            whole = self.parts.root / "whole.zarr"
            with self.parts.writing():
                try:
                    self._join(whole)
                    move_into_place(whole, self.path)
                except DamageError as error:
                    raise ValueError(
                        f"{str(self.parts.root)!r} is damaged ({error}): re-running computes that part again"
                    ) from error
                finally:
                    delete(whole)
        if read_json(unfinished(self.path) / PARTS / "plan.json") == dataclasses.asdict(self.plan):
            clear(unfinished(self.path))

    def _join(self, folder: Path) -> None:
        """Write the joined store, one part after another."""
        assert self.parts is not None
        delete(folder)
        facts = [self._facts(part) for part in range(self.plan.parts)]
        first = self._dataset(0).load()
        kind = Result.named(first.attrs["boundarygeo_type"])
        padded = paddings(kind)
        start: dict[Any, int] = {dim: 0 for dim in ("example", list_dimension(kind)) if dim in first.dims}
        sizes = {dim: (sum if dim in start else max)(each["sizes"][dim] for each in facts) for dim in first.sizes}
        arrays = self._create(folder, first, sizes, padded)
        for part in range(self.plan.parts):
            dataset = self._dataset(part)
            for name, variable in dataset.variables.items():
                if set(variable.dims) & set(start) and variable.size:
                    values = variable.values + (start["example"] if name == OWNER else 0)
                    more = [(0, 0 if dim in start else sizes[dim] - size) for dim, size in variable.sizes.items()]
                    if np.any(more):
                        values = np.pad(values, more, constant_values=padded[str(name)][1])
                    place = [slice(start.get(dim, 0), start.get(dim, 0) + size)
                             for dim, size in zip(variable.dims, values.shape, strict=True)]  # fmt: skip
                    arrays[str(name)][tuple(place)] = values
            start = {dim: offset + dataset.sizes[dim] for dim, offset in start.items()}
            give_memory_back()
        counted = {cost: sum(each[cost] for each in facts) for cost in COSTS if cost != "seconds"}
        attributes = {"provenance": json.dumps(json.loads(first.attrs["provenance"]) | {"seconds": 0.0} | counted)}
        if kind.pooled:
            pooled = kind.from_xarray(xr.open_zarr(folder, chunks=None, consolidated=False)).pool().to_xarray()
            for name in kind.pooled:
                if name in arrays:
                    arrays[name][...] = pooled[name].values
                else:
                    attributes[name] = pooled.attrs[name]
        zarr.open_group(folder, mode="r+", use_consolidated=False).attrs.update(attributes)
        consolidate(folder)
        write_json(folder / PLAN, dataclasses.asdict(self.plan))
        lasting = [{key: each[key] for key in ("sizes", "forwards", "backwards")} for each in facts]
        common = self._sealed["common"] if self._sealed else self.parts.facts(0)["common"]
        lists = list_dimension(kind)
        sealed = {"parts": lasting, "lists": lists, "common": common, "files": digests(folder, folder)}
        write_sealed(folder / SEAL, sealed)
        log = {line["part"]: line for line in read_log(self.path)} if self._sealed else {}
        log |= {each["log"]["part"]: each["log"] for each in facts if "log" in each}
        write_whole(folder / LOG, "".join(json.dumps(log[part]) + "\n" for part in sorted(log)).encode())

    def _create(
        self, folder: Path, first: xr.Dataset, sizes: dict[Any, int], padded: dict[str, tuple[str, float]]
    ) -> dict[str, zarr.Array]:
        """The empty arrays: xarray writes those of the first part without entries, then they are enlarged."""
        lists = sizes.keys() & {first[OWNER].dims[0]} if OWNER in first else set()
        encoding = {}
        for name, variable in first.variables.items():
            chunks = {dim: max(1, sizes[dim]) for dim in variable.dims}
            if str(name) in padded:
                chunks[padded[str(name)][0]] = min(COLUMNS, chunks[padded[str(name)][0]])
            for dim in lists & chunks.keys():
                row = variable.dtype.itemsize * math.prod(size for each, size in chunks.items() if each != dim)
                chunks[dim] = max(1, BYTES_PER_CHUNK // row)
            if "example" in chunks:
                chunks["example"] = self.plan.chunk_size
            encoding[name] = {"chunks": tuple(chunks.values())}
        empty = first.drop_encoding().isel({dim: slice(0) for dim in {"example", *lists}})
        write(empty, folder, encoding=encoding)
        # Chunks that hold only the fill value are written, too, so that a missing file is noticed.
        with _OPENING, zarr.config.set({"array.write_empty_chunks": True}):  # a global setting of Zarr
            group = zarr.open_group(folder, mode="r+", use_consolidated=False)
            arrays = dict(group.arrays())
        for name, array in arrays.items():
            array.resize(tuple(sizes[dim] for dim in first[name].dims))
        return arrays

    def _dataset(self, part: int) -> xr.Dataset:
        """The data set of a part: from its own store, or from the finished store."""
        assert self.parts is not None
        if part in self.parts.done:
            return open_store(self.parts.root / PARTS / f"{part:06d}.zarr")
        return select(xr.open_zarr(self.path, chunks=None), self.plan.rows(part))

    def _facts(self, part: int) -> dict[str, Any]:
        """Content and cost of a part and, if it was recomputed, its line of the log."""
        assert self.parts is not None
        if part in self.parts.done:
            facts = self.parts.check(part)
            return {key: facts[key] for key in ("sizes", "forwards", "backwards", "log")}
        assert self._sealed is not None
        return self._sealed["parts"][part]

    def _check_common(self, common: dict[str, Any]) -> None:
        """Raise if a part differs from the others in more than its examples."""
        assert self.parts is not None
        expected = self._common or (self.parts.facts(min(self.parts.done))["common"] if self.parts.done else common)
        self._common = expected
        for name in expected | common:
            before, here = expected.get(name), common.get(name)
            if before != here:
                either = ", or have one entry of it per example" if isinstance(before, list) else ""
                raise ValueError(
                    f"analysis must return the same {name!r} for every part{either}, got {before} and {here}"
                )


def _common(dataset: xr.Dataset) -> dict[str, Any]:
    """What all parts have in common, as JSON; arrays without an example dimension by their digest."""
    kind = Result.named(dataset.attrs["boundarygeo_type"])
    varying = {"example", list_dimension(kind), *(dim for dim, _ in paddings(kind).values())}
    common: dict[str, Any] = {"type": kind.__name__}
    common |= {name: value for name, value in dataset.attrs.items() if name not in (*kind.pooled, "provenance")}
    for name, variable in dataset.variables.items():
        if name not in kind.pooled:
            fixed = [size for dim, size in variable.sizes.items() if dim not in varying]
            digest = [hashlib.sha256(variable.values.tobytes()).hexdigest()] if len(fixed) == variable.ndim else []
            common[str(name)] = [str(variable.dtype), fixed, *digest]
    provenance = json.loads(dataset.attrs["provenance"])
    return common | {"provenance": {name: value for name, value in provenance.items() if name not in COSTS}}


def _warn(damaged: dict[int, str], root: Path, plan: Plan) -> None:
    for part, file in damaged.items():
        rows = plan.rows(part)
        warnings.warn(
            f"part {part} (examples {rows.start} to {rows.stop - 1}) of {str(root)!r} is damaged ({file}): it is "
            "computed again",
            stacklevel=2,
        )


def give_memory_back() -> None:
    """Return freed memory to the system, if the C library can: otherwise the heap grows from part to part.

    This is not a leak: arrays of one part leave holes in the heap that do not quite fit those of the next.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C function that returns memory, or None if there is none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
