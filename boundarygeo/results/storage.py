"""Results on disk: plain Zarr written by xarray, moved into place once complete, and rejected if incomplete.

`xarray.open_zarr(path)` reads a store without this package. Its group `chunks` lists the arrays whose chunks were all
written, so that an incomplete copy is noticed: Zarr would read missing chunks as zeros. Timings may be in a separate
file, `chunks/log.jsonl`, so that all other files are identical for equal results. A folder `parts` with stores
`000000.zarr` and so on is read as the single result that they are parts of.
"""

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

from boundarygeo.results.files import LOG, PARTS, UNFINISHED, check_format, read_json, read_log, unfinished
from boundarygeo.results.overwriting import arrays_written, check_free
from boundarygeo.results.result import FORMAT_VERSION, OWNER, Result
from boundarygeo.results.upgrade import upgraded


def save(result: Result, path: Path, *, overwrite: bool = False) -> Path:
    """See `Result.save`."""
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
    """Write a new store with all chunks and a record of them, but without consolidated metadata."""
    dataset.to_zarr(
        folder, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True, encoding=dict(encoding or {})
    )
    # Not attributes of the data set: xarray would copy them to derived data sets, which may lack chunks.
    arrays = sorted(str(name) for name in dataset.variables)
    zarr.open_group(folder, mode="r+", use_consolidated=False).create_group("chunks", attributes={"arrays": arrays})


def consolidate(folder: Path) -> None:
    """Consolidate the metadata of a store.

    Zarr 3 warns that consolidated metadata is not in its specification yet; but without it, a plain
    `xarray.open_zarr(path)` warns the reader instead.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(folder)
    file = folder / "zarr.json"
    metadata = json.loads(file.read_text())
    arrays = metadata["consolidated_metadata"]["metadata"]
    if list(arrays) != sorted(arrays):  # before version 3.1, zarr lists them as they were read
        metadata["consolidated_metadata"]["metadata"] = dict(sorted(arrays.items()))
        file.write_text(json.dumps(metadata, indent=2))


def move_into_place(store: Path, path: Path) -> None:
    """Move a complete store to its final path; an existing one is deleted afterwards."""
    if path.exists():
        retired = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        path.rename(retired)
        store.rename(path)
        shutil.rmtree(retired) if retired.is_dir() else retired.unlink()
    else:
        store.rename(path)


def load(path: str | os.PathLike[str], *, examples: slice | Sequence[int] | None = None) -> Result:
    """Load a result of any type.

    Args:
        path: folder of a store written by `Result.save` or `boundarygeo.run`; of an unfinished run (whose name ends in
            `.partial`), the finished examples are loaded.
        examples: positions of the examples to load; by default all.

    Returns:
        The result, with its original type. With `examples`, pooled fields are computed from these examples.

    Raises:
        ValueError: if there is no store, it is not a store of boundarygeo or is unfinished, its format is newer than
            this version reads, or it has no such examples.
    """
    dataset = open_store(path)
    kind = Result.named(dataset.attrs["boundarygeo_type"])
    if (Path(path) / LOG).is_file():
        seconds = sum(line["seconds"] for line in read_log(Path(path)))
        dataset.attrs["provenance"] = json.dumps(json.loads(dataset.attrs["provenance"]) | {"seconds": seconds})
    if examples is None:
        return kind.from_xarray(dataset)
    if "example" not in dataset.dims:
        raise ValueError(f"{kind.__name__} has no examples to select: leave out examples, got {examples!r}")
    count = dataset.sizes["example"]
    chosen = range(count)[examples] if isinstance(examples, slice) else list(examples)
    if not len(chosen) or not all(0 <= number < count for number in chosen):
        raise ValueError(f"examples must be some of the {count} in {str(path)!r}, got {examples!r}")
    return kind.from_xarray(select(dataset, examples)).pool()


def open_store(path: str | os.PathLike[str], *, chunks: Any = None) -> xr.Dataset:
    """Open the data set of a store lazily.

    Args:
        path: folder of a store written by `Result.save` or `boundarygeo.run`; the finished part of an unfinished run is
            read at once.
        chunks: as in `xarray.open_zarr`: `{}` for Dask arrays with the stored chunks.

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
    if path.name.endswith(UNFINISHED) and not read_json(path / "zarr.json").get("consolidated_metadata"):
        raise ValueError(f"{str(path)!r} has no finished part yet, or was written by an earlier version")
    try:
        dataset = xr.open_zarr(path, chunks=chunks)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"path must be a Zarr store, got {str(path)!r}: {reason}") from error
    kind = dataset.attrs.get("boundarygeo_type")
    try:
        Result.named(str(kind))
    except KeyError:
        raise ValueError(f"path must hold a result of boundarygeo, got {str(path)!r} of type {kind!r}") from None
    check_format(path, dataset.attrs["boundarygeo_format"], FORMAT_VERSION)
    for name in arrays_written(path) or ():
        if not _has_all_chunks(path / name, dataset, name):
            raise ValueError(
                f"{str(path)!r} lacks files of {name!r}, perhaps after an incomplete copy: copy or compute it again"
            )
    return upgraded(dataset)


def select(dataset: xr.Dataset, examples: slice | Sequence[int]) -> xr.Dataset:
    """Some examples of a data set, with the list entries that belong to them, in the order of the examples."""
    if OWNER in dataset:
        chosen = np.arange(dataset.sizes["example"])[examples if isinstance(examples, slice) else list(examples)]
        owner = dataset[OWNER].values
        order = np.argsort(owner, kind="stable")
        low, high = (np.searchsorted(owner, chosen, side, sorter=order) for side in ("left", "right"))
        entries = np.concatenate([order[start:stop] for start, stop in zip(low, high, strict=True)])
        dataset = dataset.isel({dataset[OWNER].dims[0]: entries})
        dataset = dataset.assign({OWNER: (dataset[OWNER].dims, np.repeat(np.arange(len(chosen)), high - low))})
    return dataset.isel(example=examples if isinstance(examples, slice) else list(examples))


def _has_all_chunks(folder: Path, dataset: xr.Dataset, name: str) -> bool:
    """Whether a variable's folder holds as many chunk files (Zarr 3: below `c`) as its shape needs."""
    if name not in dataset.variables:
        return False
    variable = dataset.variables[name]
    if not variable.ndim:
        return (folder / "c").is_file()
    sizes = zip(variable.shape, variable.encoding["chunks"], strict=True)
    expected = math.prod(-(-size // max(1, chunk)) for size, chunk in sizes)
    return sum(not file.startswith(".") for _, _, files in os.walk(folder / "c") for file in files) >= expected
