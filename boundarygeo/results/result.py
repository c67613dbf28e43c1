"""What every result shares: named dimensions and units, conversion to xarray and back, joining of parts.

A result is a frozen dataclass of detached CPU tensors that derives from `Result`. Each field that is an array
names its dimensions with `array(...)`; everything else travels as JSON attributes.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from boundarygeo.results.provenance import Provenance, sum_of_provenances

OWNER = "owner"
"""Field with the example that each entry of a list belongs to; the lists are all fields with its dimension."""

FORMAT_VERSION = 2  # 2: other names of fields, see `upgrade`
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

    @staticmethod
    def kind(name: str) -> type["Result"]:
        """The type of result with a name; types of the package are imported when they are needed.

        Raises:
            KeyError: if there is none.
        """
        package = import_module("boundarygeo")
        if name not in Result.registry and name in package.__all__:
            getattr(package, name)
        return Result.registry[name]

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

        The store is written beside its final place and moved there when it is whole: a failed write never destroys a
        result that exists.

        Args:
            path: folder of the store; the suffix `.zarr` is usual.
            overwrite: whether an existing store may be replaced; anything else never is.

        Returns:
            The path of the store.

        Raises:
            ValueError: if the path exists and `overwrite` is false or it is not a store of this package.
        """
        from boundarygeo.results.storage import save  # which imports this module

        return save(self, Path(path), overwrite=overwrite)


def plain_number(value: Any) -> Any:
    """NumPy's numbers as JSON has them, for `json.dumps(..., default=plain_number)`."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a result must hold plain values besides its arrays, got {type(value).__name__}")


def example_axis(field: dataclasses.Field[Any]) -> int | None:
    """Which dimension of a field counts examples, or None."""
    dims = field.metadata.get("dims", ())
    return dims.index("example") if "example" in dims else None


def list_dimension(kind: type[Result]) -> str | None:
    """The dimension that counts the entries of lists: that of the `OWNER` field; None where there is none."""
    return next((field.metadata["dims"][0] for field in dataclasses.fields(kind) if field.name == OWNER), None)


def paddings(kind: type[Result]) -> dict[str, tuple[str, float]]:
    """For each field with a dimension that is as long as the examples need: that dimension, and what pads it."""
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
    """Parts of a field, padded where that is how they differ."""
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
    """Whether two values of a field are the same; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and np.array_equal(
            one.numpy(), other.numpy(), equal_nan=one.is_floating_point()
        )
    return type(one) is type(other) and one == other


def _expand(dims: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Names of all dimensions: a starred name at the end becomes name_0, name_1, ...."""
    if not dims or not dims[-1].startswith("*"):
        return dims
    named = dims[:-1]
    return (*named, *(f"{dims[-1][1:]}_{number}" for number in range(ndim - len(named))))


def _values(dataset: xr.Dataset, name: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(dataset[name].values))
    except (RuntimeError, OSError, ValueError) as error:  # as the decoders of Zarr say it
        raise ValueError(f"the store must be whole, got {name!r} that cannot be read: {error}") from error
