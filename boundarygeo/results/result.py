"""What every result shares: provenance, conversion to xarray, saving to Zarr and loading.

A result is a frozen dataclass of detached CPU tensors that derives from `Result`. Each field that is an array
names its dimensions with `array(...)`; everything else travels as JSON attributes. A store is plain Zarr written
by xarray, so that `xarray.open_zarr(path)` reads it without this package.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import platform
import shutil
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor

from boundarygeo._version import __version__
from boundarygeo.results.overwriting import arrays_written, check_free, read_json

COSTS = ("seconds", "forwards", "backwards")
"""What a provenance counts; everything else in it is the same for all parts of an analysis."""

UNFINISHED = ".partial"
"""Ending of the folder in which a long run collects what will be a store."""

PLAN = "chunks/plan.json"
"""Where in a store a long run writes down what it computes."""

LOG = "chunks/log.jsonl"
"""Where in a store a long run writes down when, where and how long each chunk was computed."""

OWNER = "owner"
"""Field with the example that each entry of a list belongs to; the lists are all fields with its dimension."""

FORMAT_VERSION = 1
"""Version of the layout of the stores. A store with a higher number is refused, never guessed at."""


def array(*dims: str, unit: str = "", coordinate: bool = False, padding: float | None = None) -> Any:
    """A dataclass field that holds a tensor (or None) with the named dimensions.

    Args:
        *dims: name of each dimension, in order; a last name that begins with a star, such as `"*input"`, stands for
            all the dimensions that are left.
        unit: unit of the values, written to the store.
        coordinate: whether it is written as a coordinate of the data set and not as a variable.
        padding: where the size of the dimension after `"example"` depends on the examples: what stands beyond the last
            entry of one that has fewer.

    Returns:
        The dataclass field, without a default.
    """
    return dataclasses.field(metadata={"dims": dims, "unit": unit, "coordinate": coordinate, "padding": padding})


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a result came from and what it cost.

    Attributes:
        command: call that made the result, with the settings that decide it.
        seed: seed of its random draws, or None where nothing was drawn.
        model: 16 hex digits that change with the module's weights, layers, attributes, hooks and code
            (`Classifier.identity`).
        device: name of the device.
        precision: arithmetic used, fastest first, e.g. `"bfloat16, float32, float64"`.
        seconds: wall-clock time in s.
        forwards: number of examples sent forward through the module (in any precision).
        backwards: number of examples sent backward.
        versions: versions of boundarygeo, Python, torch and numpy.
    """

    command: str
    seed: int | None = None
    model: str = ""
    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: software_versions())


def software_versions() -> dict[str, str]:
    """Versions of the software that decides numbers."""
    return {
        "boundarygeo": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Base of all results: a provenance, `to_xarray()`, `save()`, and a short `repr`."""

    registry: ClassVar[dict[str, type["Result"]]] = {}
    pooled: ClassVar[tuple[str, ...]] = ()
    """Fields computed over all examples together: those of a part say nothing of the whole."""

    provenance: Provenance

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result.registry[cls.__name__] = cls

    def __repr__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                parts.append(f"{field.name}={list(value.shape)}")
            elif field.repr and value is not None and not isinstance(value, Provenance):
                parts.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def to_xarray(self) -> xr.Dataset:
        """The result as a data set with named dimensions, coordinates with units, and provenance attributes."""
        variables: dict[str, xr.Variable] = {}
        coordinates: dict[str, xr.Variable] = {}
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "dims" not in field.metadata:
                plain[field.name] = dataclasses.asdict(value) if isinstance(value, Provenance) else value
            elif value is not None:
                variable = variable_of(type(self), field.name, value.detach().cpu().numpy())
                (coordinates if field.metadata["coordinate"] else variables)[field.name] = variable
        attributes = {"boundarygeo_type": type(self).__name__, "boundarygeo_format": FORMAT_VERSION}
        attributes |= {name: json.dumps(value, default=plain_number) for name, value in plain.items()}
        return xr.Dataset(variables, coordinates, attributes)

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset) -> Self:
        """The inverse of `to_xarray`.

        Args:
            dataset: what `to_xarray` or `xarray.open_zarr` gave.

        Returns:
            The result, its arrays loaded into memory.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name == "provenance":
                values["provenance"] = Provenance(**json.loads(dataset.attrs["provenance"]))
            elif "dims" in field.metadata:
                values[field.name] = _values(dataset, field.name) if field.name in dataset.variables else None
            elif field.name in dataset.attrs or field.default is dataclasses.MISSING:
                value = json.loads(dataset.attrs[field.name])
                values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One result of the same analysis on several sets of examples.

        Args:
            parts: results with equal settings, in the order in which their examples are to stand.

        Returns:
            The result: examples one after another, costs added up, pooled fields computed again.

        Raises:
            ValueError: if there is no part, they are of another type, or differ in more than their examples.
        """
        if not parts or any(type(part) is not cls for part in parts):
            raise ValueError(f"parts must be one {cls.__name__} or more, got {[type(part).__name__ for part in parts]}")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            given = [getattr(part, field.name) for part in parts]
            axis = 0 if _is_list(cls, field) else example_axis(field)
            if field.name == OWNER and all(one is not None for one in given):
                before = itertools.accumulate((_count(part) for part in parts), initial=0)
                given = [one + first for one, first in zip(given, before, strict=False)]
            if field.name == "provenance":
                values[field.name] = sum_of_provenances(given)
            elif axis is not None and given[0] is not None:
                if any(one is None or one.ndim != given[0].ndim for one in given):
                    raise ValueError(f"parts must all have {field.name!r} of the same dimensions")
                values[field.name] = torch.cat(_of_one_size(given, field), axis)
            else:
                values[field.name] = given[0]
                if field.name not in cls.pooled and not all(equal_values(given[0], one) for one in given):
                    raise ValueError(f"parts must have the same {field.name!r}, got different ones")
        return cls(**values).pool()

    def pool(self) -> Self:
        """The result with the pooled fields computed from its examples."""
        return self

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the result to a Zarr store.

        The store is written beside its final place and moved there when it is whole, so that a failed write never
        destroys a result that exists.

        Args:
            path: folder of the store; the suffix `.zarr` is usual.
            overwrite: whether an existing store may be replaced; anything else never is.

        Returns:
            The path of the store.

        Raises:
            ValueError: if the path exists and `overwrite` is false or it is not a store of this package.
        """
        path = check_free(path, overwrite=overwrite, kind="store")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            with warnings.catch_warnings():
                # Zarr 3 warns that consolidated metadata is not in its specification yet; without it, however,
                # a plain `xarray.open_zarr(path)` warns the reader instead.
                warnings.filterwarnings("ignore", message="Consolidated metadata")
                dataset = self.to_xarray()
                dataset.to_zarr(partial, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True)
                group = zarr.open_group(partial, mode="r+", use_consolidated=False)
                group.create_group("chunks", attributes=mark_of(dataset))
                zarr.consolidate_metadata(partial)
            move_into_place(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return path


def mark_of(dataset: xr.Dataset) -> dict[str, Any]:
    """Attributes of the group `chunks`, which say that every chunk of these arrays is written, see `arrays_written`."""
    return {"arrays": sorted(str(name) for name in dataset.variables)}


def plain_number(value: Any) -> Any:
    """NumPy's numbers as JSON has them, for `json.dumps(..., default=plain_number)`."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a result must hold plain values besides its arrays, got {type(value).__name__}")


def move_into_place(store: Path, path: Path) -> None:
    """Rename a whole store to its final path; what is there is deleted once the new one has its place."""
    if path.exists():
        retired = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        path.rename(retired)
        store.rename(path)
        shutil.rmtree(retired) if retired.is_dir() else retired.unlink()
    else:
        store.rename(path)


def example_axis(field: dataclasses.Field[Any]) -> int | None:
    """Which dimension of a field counts examples, or None."""
    dims = field.metadata.get("dims", ())
    return dims.index("example") if "example" in dims else None


def variable_of(kind: type[Result], name: str, values: np.ndarray) -> xr.Variable:
    """A field of a result as xarray has it: with the names of its dimensions, and its unit.

    Args:
        kind: type of the result.
        name: of the field.
        values: its values.

    Returns:
        The variable.
    """
    metadata = next(field for field in dataclasses.fields(kind) if field.name == name).metadata
    attributes = {"units": metadata["unit"]} if metadata["unit"] else {}
    return xr.Variable(_expand(metadata["dims"], values.ndim), values, attributes)


def lists_in(result: Result) -> list[str]:
    """Names of the fields with one entry for each of the `OWNER` field, as far as the result has them."""
    kind = type(result)
    return [
        each.name
        for each in dataclasses.fields(kind)
        if _is_list(kind, each) and getattr(result, each.name) is not None
    ]


def _is_list(kind: type[Result], field: dataclasses.Field[Any]) -> bool:
    """Whether a field has one entry for each of the `OWNER` field."""
    dims = {each.name: each.metadata.get("dims", ()) for each in dataclasses.fields(kind)}
    return OWNER in dims and dims[field.name][:1] == dims[OWNER]


def _count(result: Result) -> int:
    """Number of examples of a result."""
    fields = ((getattr(result, field.name), example_axis(field)) for field in dataclasses.fields(result))
    return next(value.shape[axis] for value, axis in fields if axis is not None and value is not None)


def _entries_of(dataset: xr.Dataset, chosen: Sequence[int]) -> xr.Dataset:
    """A data set with the lists' entries that belong to some examples, in the order of these, and their new numbers."""
    if OWNER not in dataset:
        return dataset
    owner = dataset[OWNER].values
    order = np.argsort(owner, kind="stable")
    low, high = (np.searchsorted(owner, chosen, side, sorter=order) for side in ("left", "right"))
    entries = np.concatenate([order[start:stop] for start, stop in zip(low, high, strict=True)])
    kept = dataset.isel({dataset[OWNER].dims[0]: entries})
    return kept.assign({OWNER: (kept[OWNER].dims, np.repeat(np.arange(len(chosen)), high - low))})


def growing_axis(field: dataclasses.Field[Any]) -> int | None:
    """Which dimension of a field is as long as the examples need, or None where its size does not depend on them."""
    axis = example_axis(field)
    return None if axis is None or field.metadata["padding"] is None else axis + 1


def _of_one_size(parts: list[Tensor], field: dataclasses.Field[Any]) -> list[Tensor]:
    """Parts of a field, padded where that is how they differ."""
    axis = growing_axis(field)
    if axis is None:
        return parts
    longest = max(part.shape[axis] for part in parts)
    padded = []
    for part in parts:
        more = list(part.shape)
        more[axis] = longest - part.shape[axis]
        padded.append(torch.cat([part, torch.full(more, field.metadata["padding"], dtype=part.dtype)], axis))
    return padded


def equal_values(one: Any, other: Any) -> bool:
    """Whether two values of a field are the same; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and np.array_equal(
            one.numpy(), other.numpy(), equal_nan=one.is_floating_point()
        )
    return type(one) is type(other) and one == other


def sum_of_provenances(parts: Sequence[Provenance]) -> Provenance:
    """What parts of one analysis cost together.

    Args:
        parts: provenances that differ in their costs alone.

    Returns:
        The first, with the costs of all.

    Raises:
        ValueError: if they differ in more.
    """
    first = parts[0]
    for field in dataclasses.fields(Provenance):
        if field.name not in COSTS and any(getattr(part, field.name) != getattr(first, field.name) for part in parts):
            raise ValueError(f"parts must have the same {field.name!r} in their provenance, got different ones")
    return dataclasses.replace(first, **{cost: sum(getattr(part, cost) for part in parts) for cost in COSTS})


def _expand(dims: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Names of all dimensions: a starred name at the end becomes name_0, name_1, ...."""
    if not dims or not dims[-1].startswith("*"):
        return dims
    named = dims[:-1]
    return (*named, *(f"{dims[-1][1:]}_{number}" for number in range(ndim - len(named))))


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
    kind = Result.registry[dataset.attrs["boundarygeo_type"]]
    if (Path(path) / LOG).is_file():  # of a long run: the clock's readings are kept apart from what can be repeated
        seconds = sum(line["seconds"] for line in read_log(Path(path)))
        dataset.attrs["provenance"] = json.dumps(json.loads(dataset.attrs["provenance"]) | {"seconds": seconds})
    if examples is None:
        whole = kind.from_xarray(dataset)
        return whole.pool() if Path(path).name.endswith(UNFINISHED) else whole
    if "example" not in dataset.dims:
        raise ValueError(f"examples must be left out for {kind.__name__}, which has none, got {examples!r}")
    chosen = range(dataset.sizes["example"])[examples] if isinstance(examples, slice) else list(examples)
    if not len(chosen) or not all(0 <= number < dataset.sizes["example"] for number in chosen):
        raise ValueError(f"examples must be some of the {dataset.sizes['example']} in {str(path)!r}, got {examples!r}")
    rows = examples if isinstance(examples, slice) else list(chosen)
    return kind.from_xarray(_entries_of(dataset, chosen).isel(example=rows)).pool()


def open_store(path: str | os.PathLike[str], *, chunks: Any = None) -> xr.Dataset:
    """The data set of a store, none of whose arrays is read before it is used.

    Args:
        path: folder of a store that `Result.save` or `boundarygeo.run` wrote.
        chunks: as in `xarray.open_zarr`: `{}` for Dask arrays, chunk by chunk as they are stored.

    Returns:
        The data set.

    Raises:
        ValueError: as in `load`.
    """
    if not Path(path).is_dir():
        started = unfinished(Path(path))
        hint = f", but {str(started)!r} has been begun: the command that did goes on where it stopped"
        raise ValueError(
            f"path must be a Zarr store, got {str(path)!r}, which is not a folder{hint if started.is_dir() else ''}"
        )
    partial = Path(path).name.endswith(UNFINISHED)
    try:
        dataset = xr.open_zarr(path, chunks=chunks, consolidated=False if partial else None)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"path must be a Zarr store, got {str(path)!r}: {reason}") from error
    kind = dataset.attrs.get("boundarygeo_type")
    if kind not in Result.registry:
        raise ValueError(f"path must hold a result of boundarygeo, got {str(path)!r} of type {kind!r}")
    check_format(path, dataset.attrs["boundarygeo_format"])
    _check_whole(Path(path), dataset, partial=partial)
    return dataset.isel(example=_finished_examples(Path(path))) if partial else dataset


def _check_whole(store: Path, dataset: xr.Dataset, *, partial: bool) -> None:
    """Refuse a store that lacks files, as after a copy that was stopped: Zarr would read zeros in their place."""
    if partial:
        entries = (store / PLAN).parent.glob("[0-9]*.json")
        files = [(key, digest) for entry in entries for key, digest in read_json(entry).get("files", {}).items()]
        missing = [key.split("/")[0] for key, digest in files if digest is not None and not (store / key).is_file()]
        missing = [name for name in missing if name != "chunks"]  # lists: a part's file is deleted when they are joined
    else:
        missing = [name for name in arrays_written(store) or () if not _has_all_chunks(store / name, dataset, name)]
    if missing:
        raise ValueError(
            f"{str(store)!r} lacks files of {missing[0]!r}, as if it was not copied whole: copy it again, or compute "
            "it again"
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


def _values(dataset: xr.Dataset, name: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(dataset[name].values))
    except (RuntimeError, OSError, ValueError) as error:  # as the decoders of Zarr say it
        raise ValueError(f"the store must be whole, got {name!r} that cannot be read: {error}") from error


def unfinished(path: Path) -> Path:
    """Where a long run collects a store before it is whole.

    Args:
        path: final path of the store.

    Returns:
        The folder.
    """
    return path.with_name(path.name + UNFINISHED)


def read_log(store: Path) -> list[dict[str, Any]]:
    """The log of a long run, less lines that were cut off when it was killed.

    Args:
        store: folder of the store.

    Returns:
        One entry per chunk that was computed, in this order; none where there is no log.
    """
    entries = []
    for line in (store / LOG).read_text().splitlines() if (store / LOG).is_file() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def _finished_examples(store: Path) -> list[int]:
    """Positions of the examples that a run has finished so far."""
    plan = json.loads((store / PLAN).read_text())
    size, total = plan["chunk_size"], plan["examples"]
    done = sorted(int(entry.stem) for entry in (store / PLAN).parent.glob("[0-9]*.json"))
    return [number for chunk in done for number in range(chunk * size, min((chunk + 1) * size, total))]


def check_format(path: str | os.PathLike[str], found: int) -> None:
    """Refuse a store of a later version of the format.

    Args:
        path: of the store.
        found: the version that the store names.

    Raises:
        ValueError: if it is newer than this version of the package reads.
    """
    if found > FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} has format {found}, newer than this version of boundarygeo reads ({FORMAT_VERSION}): "
            "please upgrade"
        )
