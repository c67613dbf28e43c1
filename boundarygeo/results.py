"""What every result shares: provenance, conversion to xarray, saving to Zarr and loading.

A result is a frozen dataclass of detached CPU tensors that derives from `Result`. Each field that is an array
names its dimensions with `array(...)`; everything else travels as JSON attributes. A store is plain Zarr written
by xarray, so that `xarray.open_zarr(path)` reads it without this package.
"""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from boundarygeo._version import __version__

FORMAT_VERSION = 1
"""Version of the layout of the stores. A store with a higher number is refused, never guessed at."""


def array(*dims: str, unit: str = "", coordinate: bool = False) -> Any:
    """A dataclass field that holds a tensor (or None) with the named dimensions.

    Args:
        *dims: name of each dimension, in order; a last name that begins with a star, such as `"*input"`, stands for
            all the dimensions that are left.
        unit: unit of the values, written to the store.
        coordinate: whether it is written as a coordinate of the data set and not as a variable.

    Returns:
        The dataclass field, without a default.
    """
    return dataclasses.field(metadata={"dims": dims, "unit": unit, "coordinate": coordinate})


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a result came from and what it cost.

    Attributes:
        command: call that made the result, with the settings that decide it.
        seed: seed of its random draws, or None where nothing was drawn.
        model: first 16 hex digits of the SHA-256 of the module's parameters and buffers.
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


def module_hash(module: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over names, dtypes, shapes and values of parameters and buffers.

    Args:
        module: any module; it is only read.

    Returns:
        The digest. Two modules with equal state dicts have equal digests, on whatever device they are.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous()
            digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}".encode())
            digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Base of all results: a provenance, `to_xarray()`, `save()`, and a short `repr`."""

    registry: ClassVar[dict[str, type["Result"]]] = {}
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
                attributes = {"units": field.metadata["unit"]} if field.metadata["unit"] else {}
                variable = xr.Variable(
                    _expand(field.metadata["dims"], value.ndim), value.detach().cpu().numpy(), attributes
                )
                (coordinates if field.metadata["coordinate"] else variables)[field.name] = variable
        attributes = {"boundarygeo_type": type(self).__name__, "boundarygeo_format": FORMAT_VERSION}
        attributes |= {name: json.dumps(value) for name, value in plain.items()}
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
                present = field.name in dataset.variables
                values[field.name] = torch.from_numpy(np.array(dataset[field.name].values)) if present else None
            elif field.name in dataset.attrs or field.default is dataclasses.MISSING:
                value = json.loads(dataset.attrs[field.name])
                values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the result to a Zarr store.

        The store is written beside its final place and moved there when it is whole, so that a failed write never
        destroys a result that exists.

        Args:
            path: folder of the store; the suffix `.zarr` is usual.
            overwrite: whether an existing store may be replaced.

        Returns:
            The path of the store.

        Raises:
            ValueError: if the path exists and `overwrite` is false.
        """
        path = check_free(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            with warnings.catch_warnings():
                # Zarr 3 warns that consolidated metadata is not in its specification yet; without it, however,
                # a plain `xarray.open_zarr(path)` warns the reader instead.
                warnings.filterwarnings("ignore", message="Consolidated metadata")
                self.to_xarray().to_zarr(partial, mode="w", consolidated=True)
            if path.exists():
                retired = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
                path.rename(retired)
                partial.rename(path)
                shutil.rmtree(retired) if retired.is_dir() else retired.unlink()
            else:
                partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return path


def _expand(dims: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Names of all dimensions: a starred name at the end becomes name_0, name_1, ...."""
    if not dims or not dims[-1].startswith("*"):
        return dims
    named = dims[:-1]
    return (*named, *(f"{dims[-1][1:]}_{number}" for number in range(ndim - len(named))))


def check_free(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Refuse a path that exists, before any work is done.

    Args:
        path: where a result is to be written.
        overwrite: whether it may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the path exists and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"path must not exist yet (or pass overwrite), got {str(path)!r}")
    return path


def load(path: str | os.PathLike[str]) -> Result:
    """Read whichever result was saved at a path.

    Args:
        path: folder of a store that `Result.save` wrote.

    Returns:
        The result, of the type that was saved.

    Raises:
        ValueError: if there is no store, it is not one of ours, or its format is newer than this version reads.
    """
    if not Path(path).is_dir():
        raise ValueError(f"path must be a Zarr store, got {str(path)!r}, which is not a folder")
    try:
        dataset = xr.open_zarr(path, chunks=None)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"path must be a Zarr store, got {str(path)!r}: {reason}") from error
    kind = dataset.attrs.get("boundarygeo_type")
    if kind not in Result.registry:
        raise ValueError(f"path must hold a result of boundarygeo, got {str(path)!r} of type {kind!r}")
    if dataset.attrs["boundarygeo_format"] > FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} has format {dataset.attrs['boundarygeo_format']}, newer than this version of "
            f"boundarygeo reads ({FORMAT_VERSION}): please upgrade"
        )
    return Result.registry[kind].from_xarray(dataset)
