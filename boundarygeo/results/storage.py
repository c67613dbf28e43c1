"""Results on disk: plain Zarr written by xarray, moved into place when it is whole, and refused where it is not.

`xarray.open_zarr(path)` reads a store without this package. Its group `chunks` says of which arrays every chunk was
written, so that a store that was copied in part is noticed: Zarr would read zeros in place of what is missing. What
the clock said can be in a file of its own, `chunks/log.jsonl`, so that all other files are the same for equal results.
A folder `parts` with stores in it, `000000.zarr` and so on, is read as the one result that they are parts of.
"""

import contextlib
import json
import math
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from boundarygeo.results.overwriting import arrays_written, check_free, read_json
from boundarygeo.results.result import FORMAT_VERSION, OWNER, Result
from boundarygeo.results.upgrade import upgraded

UNFINISHED = ".partial"
"""Ending of the name of what is not whole yet."""

PARTS = "parts"
"""Folder with the stores of the parts of a result."""

LOG = "chunks/log.jsonl"
"""How long the parts of a result took, one JSON object with `seconds` per line."""


def unfinished(path: Path) -> Path:
    """Where the parts of a store are before it is whole."""
    return path.with_name(path.name + UNFINISHED)


def save(result: Result, path: Path, *, overwrite: bool = False) -> Path:
    """As `Result.save`."""
    path = check_free(path, overwrite=overwrite, kind="store")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        write(result.to_xarray(), partial)
        consolidate(partial)
        move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def write(dataset: xr.Dataset, folder: Path, *, encoding: Mapping[str, Any] | None = None) -> None:
    """Write a new store, with every chunk and what says so, but without consolidated metadata."""
    dataset.to_zarr(
        folder, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True, encoding=dict(encoding or {})
    )
    # Not attributes of the data set: xarray would copy them to what others write with holes.
    arrays = sorted(str(name) for name in dataset.variables)
    zarr.open_group(folder, mode="r+", use_consolidated=False).create_group("chunks", attributes={"arrays": arrays})


def consolidate(folder: Path) -> None:
    """Consolidate the metadata of a store.

    Zarr 3 warns that they are not in its specification yet; without them, however, a plain `xarray.open_zarr(path)`
    warns the reader instead.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(folder)


def move_into_place(store: Path, path: Path) -> None:
    """Rename a whole store to its final path; what is there is deleted once the new one has its place."""
    if path.exists():
        retired = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        path.rename(retired)
        store.rename(path)
        shutil.rmtree(retired) if retired.is_dir() else retired.unlink()
    else:
        store.rename(path)


def load(path: str | os.PathLike[str], *, examples: slice | Sequence[int] | None = None) -> Result:
    """Read whichever result was saved at a path.

    Args:
        path: folder of a store that `Result.save` or `boundarygeo.run` wrote; of an unfinished run (its name ends in
            `.partial`) the examples that are finished are read.
        examples: positions of the examples to read, and no others; by default all.

    Returns:
        The result, of the type that was saved. With `examples`, pooled fields are those of these examples.

    Raises:
        ValueError: if there is no store, it is not one of ours or not finished, its format is newer than this version
            reads, or it has no such examples.
    """
    dataset = open_store(path)
    kind = Result.kind(dataset.attrs["boundarygeo_type"])
    if (Path(path) / LOG).is_file():
        seconds = sum(line["seconds"] for line in read_log(Path(path)))
        dataset.attrs["provenance"] = json.dumps(json.loads(dataset.attrs["provenance"]) | {"seconds": seconds})
    if examples is None:
        return kind.from_xarray(dataset)
    if "example" not in dataset.dims:
        raise ValueError(f"examples must be left out for {kind.__name__}, which has none, got {examples!r}")
    count = dataset.sizes["example"]
    chosen = range(count)[examples] if isinstance(examples, slice) else list(examples)
    if not len(chosen) or not all(0 <= number < count for number in chosen):
        raise ValueError(f"examples must be some of the {count} in {str(path)!r}, got {examples!r}")
    return kind.from_xarray(select(dataset, examples)).pool()


def open_store(path: str | os.PathLike[str], *, chunks: Any = None) -> xr.Dataset:
    """The data set of a store, none of whose arrays is read before it is used.

    Args:
        path: folder of a store that `Result.save` or `boundarygeo.run` wrote; what is finished of an unfinished run is
            read at once.
        chunks: as in `xarray.open_zarr`: `{}` for Dask arrays, chunk by chunk as they are stored.

    Returns:
        The data set.

    Raises:
        ValueError: as in `load`.
    """
    path = Path(path)
    parts = sorted((path / PARTS).glob("[0-9]*.zarr"), key=lambda part: int(part.stem))
    if parts:
        results = [load(part) for part in parts]
        return type(results[0]).concatenate(results).to_xarray()
    if not path.is_dir():
        hint = f"; {str(unfinished(path))!r} is unfinished: re-running the command resumes it"
        raise ValueError(
            f"path must be a Zarr store, got {str(path)!r}, which is not a folder"
            f"{hint if unfinished(path).is_dir() else ''}"
        )
    if path.name.endswith(UNFINISHED) and "consolidated_metadata" not in read_json(path / "zarr.json"):
        raise ValueError(f"{str(path)!r} has no finished part yet, or is of an earlier version that cannot be read")
    try:
        dataset = xr.open_zarr(path, chunks=chunks)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"path must be a Zarr store, got {str(path)!r}: {reason}") from error
    kind = dataset.attrs.get("boundarygeo_type")
    try:
        Result.kind(str(kind))
    except KeyError:
        raise ValueError(f"path must hold a result of boundarygeo, got {str(path)!r} of type {kind!r}") from None
    check_format(path, dataset.attrs["boundarygeo_format"], FORMAT_VERSION)
    for name in arrays_written(path) or ():
        if not _has_all_chunks(path / name, dataset, name):
            raise ValueError(
                f"{str(path)!r} lacks files of {name!r}, as if it was not copied whole: copy it again, or compute it "
                "again"
            )
    return upgraded(dataset) if dataset.attrs["boundarygeo_format"] < FORMAT_VERSION else dataset


def select(dataset: xr.Dataset, examples: slice | Sequence[int]) -> xr.Dataset:
    """Some examples of a data set, with the entries of lists that belong to them, in the order of the examples."""
    if OWNER in dataset:
        chosen = np.arange(dataset.sizes["example"])[examples if isinstance(examples, slice) else list(examples)]
        owner = dataset[OWNER].values
        order = np.argsort(owner, kind="stable")
        low, high = (np.searchsorted(owner, chosen, side, sorter=order) for side in ("left", "right"))
        entries = np.concatenate([order[start:stop] for start, stop in zip(low, high, strict=True)])
        dataset = dataset.isel({dataset[OWNER].dims[0]: entries})
        dataset = dataset.assign({OWNER: (dataset[OWNER].dims, np.repeat(np.arange(len(chosen)), high - low))})
    return dataset.isel(example=examples if isinstance(examples, slice) else list(examples))


def read_log(store: Path) -> list[dict[str, Any]]:
    """The lines of a store's log, less those that are damaged; none where there is no log."""
    entries = []
    for line in (store / LOG).read_text().splitlines() if (store / LOG).is_file() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def check_format(path: str | os.PathLike[str], found: int, known: int) -> None:
    """Refuse what a later version wrote: a format that is newer than the last one that is known here.

    Raises:
        ValueError: if it is newer.
    """
    if found > known:
        raise ValueError(
            f"{str(path)!r} has format {found}, newer than this version of boundarygeo reads ({known}): please upgrade"
        )


def _has_all_chunks(folder: Path, dataset: xr.Dataset, name: str) -> bool:
    if name not in dataset.variables:
        return False
    variable = dataset.variables[name]
    if not variable.ndim:
        return (folder / "c").is_file()
    sizes = zip(variable.shape, variable.encoding["chunks"], strict=True)
    expected = math.prod(-(-size // max(1, chunk)) for size, chunk in sizes)
    return sum(not file.startswith(".") for _, _, files in os.walk(folder / "c") for file in files) >= expected
