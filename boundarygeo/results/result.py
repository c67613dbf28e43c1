"""What all results share: named dimensions and units, conversion to and from xarray, concatenation of parts.

A result is a frozen dataclass of detached CPU tensors derived from `Result`. Each array field names its dimensions with
`array(...)`; everything else is stored as JSON attributes.
"""

import dataclasses
import itertools
import json
import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from boundarygeo.results.files import plain_number
from boundarygeo.results.provenance import Provenance, sum_of_provenances
from boundarygeo.results.upgrade import RENAMED

OWNER = "owner"
"""Field with the example of each entry of a list; lists are the fields with the same dimension."""

FORMAT_VERSION = 2  # 2: other names of fields, see `upgrade`
"""Version of the layout of the stores. Stores with a higher number are rejected."""


def array(*dims: str, unit: str = "", coordinate: bool = False, padding: float | None = None) -> Any:
    """A dataclass field that holds a tensor (or None) with the named dimensions.

    A last name with a star, such as `"*input"`, stands for all remaining dimensions. Where the size of the dimension
    after `"example"` depends on the examples, `padding` is the value beyond the last entry of an example.
    """
    return dataclasses.field(metadata={"dims": dims, "unit": unit, "coordinate": coordinate, "padding": padding})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Base class of all results: a provenance, `to_xarray()`, `save()`, and a short `repr`."""

    registry: ClassVar[dict[str, type["Result"]]] = {}
    pooled: ClassVar[tuple[str, ...]] = ()
    """Fields computed over all examples together: those of a part do not apply to the whole."""
    joint: ClassVar[str] = ""
    """Why results of parts of the examples cannot be joined; empty where they can."""

    provenance: Provenance

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result.registry[cls.__name__] = cls

    @staticmethod
    def named(name: str) -> type["Result"]:
        """The result type with a given name, importing types of the package on demand.

        Raises:
            KeyError: if there is no such type.
        """
        package = import_module("boundarygeo")
        if name not in Result.registry and name in package.__all__:
            getattr(package, name)
        return Result.registry[name]

    def __getattr__(self, name: str) -> Any:
        """Fields by the names that they had in version 0.1, with a warning."""
        new = RENAMED.get(type(self).__name__, {}).get(name)
        if new is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        warnings.warn(f"{type(self).__name__}.{name} is {new!r} since version 0.2", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

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
                values = value.detach().cpu().numpy()
                attributes = {"units": field.metadata["unit"]} if field.metadata["unit"] else {}
                variable = xr.Variable(_expand(field.metadata["dims"], values.ndim), values, attributes)
                (coordinates if field.metadata["coordinate"] else variables)[field.name] = variable
        attributes = {"boundarygeo_type": type(self).__name__, "boundarygeo_format": FORMAT_VERSION}
        attributes |= {name: json.dumps(value, default=plain_number) for name, value in plain.items()}
        return xr.Dataset(variables, coordinates, attributes)

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset) -> Self:
        """The inverse of `to_xarray`.

        Args:
            dataset: result of `to_xarray` or `xarray.open_zarr`.

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
            parts: results with equal settings, in the order of their examples.

        Returns:
            The result: examples concatenated, costs added up, pooled fields recomputed.

        Raises:
            ValueError: if there are no parts, they have another type, or differ in more than their examples.
        """
        if not parts or any(type(part) is not cls for part in parts):
            raise ValueError(f"parts must be one {cls.__name__} or more, got {[type(part).__name__ for part in parts]}")
        if cls.joint:
            raise ValueError(f"parts of a {cls.__name__} cannot be joined: {cls.joint}")
        values: dict[str, Any] = {}
        lists = list_dimension(cls)
        for field in dataclasses.fields(cls):
            given = [getattr(part, field.name) for part in parts]
            axis = 0 if lists in field.metadata.get("dims", ())[:1] else example_axis(field)
            if field.name == "provenance":
                values[field.name] = sum_of_provenances(given)
            elif axis is not None and given[0] is not None:
                if any(one is None or one.ndim != given[0].ndim for one in given):
                    raise ValueError(f"parts must all have {field.name!r} of the same dimensions")
                if field.name == OWNER:
                    before = itertools.accumulate((_count(part) for part in parts), initial=0)
                    given = [one + first for one, first in zip(given, before, strict=False)]
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

        The store is written next to its final path and moved there once complete: a failed write never destroys an
        existing result.

        Args:
            path: folder of the store; the suffix `.zarr` is usual.
            overwrite: whether an existing store may be replaced; other files never are.

        Returns:
            The path of the store.

        Raises:
            ValueError: if the path exists and `overwrite` is false or it is not a store of this package.
        """
        from boundarygeo.results.storage import save  # imports this module

        return save(self, Path(path), overwrite=overwrite)


def example_axis(field: dataclasses.Field[Any]) -> int | None:
    """Position of the example dimension of a field, or None."""
    dims = field.metadata.get("dims", ())
    return dims.index("example") if "example" in dims else None


def list_dimension(kind: type[Result]) -> str | None:
    """The dimension of list entries: that of the `OWNER` field, or None without one."""
    return next((field.metadata["dims"][0] for field in dataclasses.fields(kind) if field.name == OWNER), None)


def paddings(kind: type[Result]) -> dict[str, tuple[str, float]]:
    """Fields with a dimension whose size depends on the examples: that dimension, and the padding value."""
    return {
        field.name: (field.metadata["dims"][field.metadata["dims"].index("example") + 1], field.metadata["padding"])
        for field in dataclasses.fields(kind)
        if field.metadata.get("padding") is not None
    }


def _count(result: Result) -> int:
    """Number of examples of a result."""
    fields = ((getattr(result, field.name), example_axis(field)) for field in dataclasses.fields(result))
    return next(value.shape[axis] for value, axis in fields if axis is not None and value is not None)


def _of_one_size(parts: list[Tensor], field: dataclasses.Field[Any]) -> list[Tensor]:
    """Parts of a field, padded to a common size if sizes may differ."""
    if field.metadata["padding"] is None:
        return parts
    axis = field.metadata["dims"].index("example") + 1
    longest = max(part.shape[axis] for part in parts)
    behind = [0, 0] * (parts[0].ndim - 1 - axis)
    return [
        functional.pad(part, [*behind, 0, longest - part.shape[axis]], value=field.metadata["padding"])
        for part in parts
    ]


def equal_values(one: Any, other: Any) -> bool:
    """Whether two values of a field are equal; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and np.array_equal(
            one.numpy(), other.numpy(), equal_nan=one.is_floating_point()
        )
    return type(one) is type(other) and one == other


def _expand(dims: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Names of all dimensions: a final starred name becomes name_0, name_1, ...."""
    if not dims or not dims[-1].startswith("*"):
        return dims
    named = dims[:-1]
    return (*named, *(f"{dims[-1][1:]}_{number}" for number in range(ndim - len(named))))


def _values(dataset: xr.Dataset, name: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(dataset[name].values))
    except (RuntimeError, OSError, ValueError) as error:  # raised by Zarr's decoders
        raise ValueError(f"the store is damaged: {name!r} cannot be read ({error})") from error
