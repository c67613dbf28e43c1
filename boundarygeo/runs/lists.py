"""Lists, such as directions, of which every example has another number.

Where the entries of a chunk belong is known when all chunks are there. Until then those of each chunk are in a file of
their own in the folder `chunks/lists`; then they are one array, and `chunks/lists.json` says how many are of each chunk
and what the SHA-256 of the array's files is.
"""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from boundarygeo.results import Result
from boundarygeo.results.overwriting import read_json
from boundarygeo.results.result import OWNER, lists_in, variable_of
from boundarygeo.runs.arrays import open_array
from boundarygeo.runs.files import digest_of_file, write_json, write_whole

FOLDER = "chunks/lists"
INDEX = "chunks/lists.json"
BYTES_PER_FILE = 1 << 24


class ChunkLists:
    """The lists of a store that is being filled, or is full.

    Args:
        root: folder of the store.
        chunk_size: examples per chunk.
    """

    def __init__(self, root: Path, chunk_size: int) -> None:
        self._root = root
        self._chunk_size = chunk_size

    @property
    def joined(self) -> bool:
        """Whether there is one array of each list."""
        return (self._root / INDEX).is_file()

    def write(self, chunk: int, result: Result) -> dict[str, str]:
        """Write the lists of a chunk.

        Args:
            chunk: its number.
            result: of its examples.

        Returns:
            SHA-256 of the file that is there until all chunks are, or was, by its path; none where there are no lists.

        Raises:
            ValueError: if there are more or fewer entries than there were before.
            OSError: if they cannot be written.
        """
        lists = {name: getattr(result, name).detach().cpu().numpy() for name in lists_in(result)}
        if not lists:
            return {}
        packed = io.BytesIO()
        np.savez(packed, **lists)
        key = f"{FOLDER}/{chunk:06d}.npz"
        if self.joined:
            self._write_again(chunk, lists)
        else:
            write_whole(self._root / key, packed.getbuffer())
        return {key: hashlib.sha256(packed.getbuffer()).hexdigest()}

    def join(self, kind: type[Result]) -> None:
        """Make one array of each list, when all chunks are there.

        Args:
            kind: type of the result.

        Raises:
            OSError: if that cannot be written; the parts stay until it is.
        """
        files = sorted((self._root / FOLDER).glob("*.npz"))
        if files and not self.joined:
            counts = [len(part[OWNER]) for part in _parts(files)]
            first = next(_parts(files))
            group = zarr.open_group(self._root, mode="r+", use_consolidated=False)
            for name in first:
                variable = variable_of(kind, name, first[name])
                rows = max(1, BYTES_PER_FILE // max(1, variable.dtype.itemsize * int(np.prod(variable.shape[1:]))))
                group.create_array(
                    name,
                    shape=(sum(counts), *variable.shape[1:]),
                    dtype=variable.dtype,
                    chunks=(rows, *(max(1, size) for size in variable.shape[1:])),
                    dimension_names=[str(dim) for dim in variable.dims],
                    attributes=dict(variable.attrs),
                    overwrite=True,
                )
            for chunk, part in enumerate(_parts(files)):
                self._put(chunk, sum(counts[:chunk]), part)
            keys = [file for name in first for file in sorted((self._root / name).rglob("*")) if file.is_file()]
            digests = {file.relative_to(self._root).as_posix(): digest_of_file(file) for file in keys}
            write_json(self._root / INDEX, {"counts": counts, "files": digests})
        shutil.rmtree(self._root / FOLDER, ignore_errors=True)

    def damaged(self) -> dict[int, str]:
        """The chunks of which an entry is in a file that is not what was written, each with the first such file."""
        found: dict[int, str] = {}
        counts = np.array(self._index.get("counts", []), dtype=np.int64)
        ends = counts.cumsum()
        for key in self._damaged_files():
            name, *place = key.split("/")
            if len(place) < 2:  # what Zarr says of the whole array
                return dict.fromkeys(range(len(counts)), key)
            rows = read_json(self._root / name / "zarr.json")["chunk_grid"]["configuration"]["chunk_shape"][0]
            low = int(place[1]) * rows
            for chunk in np.flatnonzero((counts > 0) & (ends > low) & (ends - counts < low + rows)).tolist():
                found.setdefault(chunk, key)
        return found

    def forget(self) -> None:
        """Delete files that are damaged: what belongs there is written again, entry by entry."""
        for key in self._damaged_files():
            (self._root / key).unlink(missing_ok=True)

    @property
    def _index(self) -> dict[str, Any]:
        return read_json(self._root / INDEX)

    def _damaged_files(self) -> list[str]:
        """Files of the arrays that are not what was written, those of the arrays as a whole first."""
        damaged = [
            key for key, digest in self._index.get("files", {}).items() if digest_of_file(self._root / key) != digest
        ]
        return sorted(damaged, key=lambda key: not key.endswith("zarr.json"))

    def _write_again(self, chunk: int, lists: dict[str, np.ndarray]) -> None:
        counts = self._index["counts"]
        if len(lists[OWNER]) != counts[chunk]:
            raise ValueError(
                f"analysis must give chunk {chunk} as many entries as before ({counts[chunk]}), got {len(lists[OWNER])}"
            )
        self._put(chunk, sum(counts[:chunk]), lists)

    def _put(self, chunk: int, start: int, lists: dict[str, np.ndarray]) -> None:
        """Write a chunk's entries to the arrays, from some row on; its examples get their numbers in the whole."""
        for name, values in lists.items():
            if len(values):
                stored = open_array(self._root, name)
                shift = chunk * self._chunk_size if name == OWNER else 0
                stored[start : start + len(values)] = values + shift if shift else values


def _parts(files: list[Path]) -> Iterator[dict[str, np.ndarray]]:
    """What is in the files, one after another."""
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            yield {name: part[name] for name in part.files}
