"""How the arrays of a result lie in a store that is written chunk by chunk."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from boundarygeo.results import Result
from boundarygeo.results.result import example_axis, growing_axis

COLUMNS = 1024
"""Entries per file along a dimension whose size is not known before all examples are."""

_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkArray:
    """A field of one chunk that has an entry for each of its examples.

    Attributes:
        values: the entries.
        axis: which dimension counts examples.
        growing: which is as long as the examples need, or None.
        padding: what stands beyond the last entry of examples that need less.
    """

    values: np.ndarray
    axis: int
    growing: int | None
    padding: float | None

    @property
    def grows(self) -> bool:
        """Whether there is a growing dimension."""
        return self.growing is not None

    @property
    def longest(self) -> int:
        """Its size; 1 where there is none."""
        return 1 if self.growing is None else self.values.shape[self.growing]

    @property
    def fixed(self) -> list[int]:
        """Sizes of the dimensions that are the same in every chunk."""
        return [size for axis, size in enumerate(self.values.shape) if axis not in (self.axis, self.growing)]

    def sized(self, examples: int, longest: int) -> tuple[int, ...]:
        """Shape with so many examples, and so many entries along the growing dimension, if there is one."""
        shape = list(self.values.shape)
        shape[self.axis] = examples
        if self.growing is not None:
            shape[self.growing] = longest
        return tuple(shape)

    def region(self, start: int, stop: int) -> tuple[slice, ...]:
        """Where the values belong, in an array of all examples."""
        rows = {self.axis: slice(start, stop)}
        return tuple(rows.get(axis, slice(size)) for axis, size in enumerate(self.values.shape))

    def encoding(self, examples: int) -> dict[str, Any]:
        """How xarray is to write the array, with so many examples per file."""
        pieces = tuple(max(size, 1) for size in self.sized(examples, COLUMNS))
        return {"chunks": pieces} | ({} if self.padding is None else {"fill_value": self.padding})

    def keys(self, name: str, chunk: int) -> list[str]:
        """The files of a chunk: one, or as many as its growing dimension needs."""
        many = -(-self.longest // COLUMNS)
        numbers = [{self.axis: chunk, self.growing: part} for part in range(many)]
        return ["/".join([name, "c", *(str(each.get(i, 0)) for i in range(self.values.ndim))]) for each in numbers]


def open_array(root: Path, name: str) -> zarr.Array:
    """An array of a store, to write to it: also chunks of nothing but the fill value, so that a lost file is noticed.

    Args:
        root: folder of the store.
        name: of the array.

    Returns:
        The array.
    """
    with _OPENING, zarr.config.set({"array.write_empty_chunks": True}):  # Zarr's setting of all threads
        stored = zarr.open_group(root, mode="r+", use_consolidated=False)[name]
    assert isinstance(stored, zarr.Array)
    return stored


def arrays_of(result: Result) -> dict[str, ChunkArray]:
    """The fields of a result that have an entry per example, by name.

    Args:
        result: of one chunk.

    Returns:
        The arrays.
    """
    found = {}
    for field in dataclasses.fields(result):
        axis, value = example_axis(field), getattr(result, field.name)
        if axis is not None and value is not None:
            values = value.detach().cpu().numpy()
            found[field.name] = ChunkArray(values, axis, growing_axis(field), field.metadata["padding"])
    return found
