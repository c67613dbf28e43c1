"""Which parts of a run have files that changed after they were written."""

import itertools
from pathlib import Path
from typing import Any

from boundarygeo.results.files import read_json
from boundarygeo.runs.parts import DamageError, Parts, digest_of_file, read_sealed
from boundarygeo.runs.plan import Plan

PLAN, SEAL = "chunks/plan.json", "chunks/parts.json"
"""Origin of a finished store: what was computed, and the cost, contents and files of each part."""


def damaged_parts(parts: Parts) -> dict[int, str]:
    """The finished parts whose files have changed, each with the first such file."""
    found = {}
    for part in sorted(parts.done):
        try:
            parts.check(part)
        except DamageError as error:
            found[part] = str(error)
    return found


def damage(path: Path, plan: Plan) -> dict[int, str]:
    """The parts of a finished store with a damaged file, which is named; all parts, if they share it."""
    everything = range(plan.parts)
    try:
        sealed = read_sealed(path / SEAL, path)
    except DamageError as error:
        return dict.fromkeys(everything, str(error))
    found: dict[int, str] = {}
    for file, digest in sorted(sealed["files"].items(), key=lambda each: not each[0].endswith("zarr.json")):
        if digest_of_file(path / file) != digest:
            name, *place = file.split("/")
            for part in everything if place[:1] != ["c"] else _parts_in(path / name, place[1:], sealed, plan):
                found.setdefault(part, file)
            if len(found) == plan.parts:
                break
    return found


def _parts_in(array: Path, place: list[str], sealed: dict[str, Any], plan: Plan) -> list[int]:
    """The parts that have entries in a chunk of an array."""
    metadata = read_json(array / "zarr.json")
    for axis, dim in enumerate(metadata["dimension_names"]):
        if dim in ("example", sealed["lists"]):
            counts = [each["sizes"].get(dim, 0) for each in sealed["parts"]]
            step = metadata["chunk_grid"]["configuration"]["chunk_shape"][axis]
            low = int(place[axis]) * step
            spans = enumerate(itertools.pairwise(itertools.accumulate(counts, initial=0)))
            return [part for part, (start, end) in spans if start < end and end > low and start < low + step]
    return list(range(plan.parts))
