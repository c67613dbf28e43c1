"""Checks before overwriting: only what this package wrote may be replaced.

Every writer calls `check_free` before any work. Stores are recognised by their attributes or their plan, checkpoints
and states by their JSON, tables by their heading, figures and pages by a mark. A folder that also holds other files is
not replaced, because those would be deleted with it.
"""

import csv
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from boundarygeo._version import __version__
from boundarygeo.results.files import read_json

Kind = Literal["store", "run", "comparison", "table", "figure", "page", "checkpoint", "training state"]
"""Kinds of output."""

MARK = f"boundarygeo {__version__}"
"""Mark of figures and pages, naming their producer."""

TABLE_START = ("level", "name", "group", "seed", "instrument", "quantity")
"""First columns of the tables of comparisons."""

_MARKED = b"boundarygeo "
_HEAD = 1 << 16  # the mark is within this many bytes
_DEBRIS = frozenset({".DS_Store", "Thumbs.db"})  # created by file browsers
_NOTES = re.compile(
    r"chunks/(zarr|plan|parts|layout|lists|\d{6,})\.json|chunks/log\.jsonl|chunks/lists/\d{6,}\.npz"
    r"|(.*/)?\.[^/]+\.partial|.*\.partial"  # the last two: left by killed processes
)
_CHUNK = re.compile(r"[^/]+/(zarr\.json|c(/\d+)*|\.z(array|attrs)|\d+(\.\d+)*)")
_PLAN_FIELDS = {"analysis", "settings", "chunk_size"}


def check_free(path: str | os.PathLike[str], *, overwrite: bool, kind: Kind | None = None) -> Path:
    """The path, if it can be written and may be replaced; ValueError before any work if not.

    `overwrite` allows to replace an output of this `kind` (by default any kind of this package), and nothing else.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise ValueError(f"path must end in the name of a file or folder, got {str(path)!r}")
    if path.is_symlink():
        raise ValueError(f"path must not be a symbolic link, got {str(path)!r}: pass the path that it points to")
    if path.exists():
        fault = foreign(path, kind)
        if fault is not None:
            raise ValueError(f"path must not exist yet, got {str(path)!r}, which {fault} and is not replaced")
        if not overwrite:
            raise ValueError(f"path must not exist yet (or pass overwrite), got {str(path)!r}")
    check_writable(path)
    return path


def check_writable(path: Path) -> None:
    """Raise if a parent of a path is a file, or may not be written to; creates nothing."""
    parent = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not parent.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: {str(parent)!r} is not a folder")
    blocked = path if path.is_file() and not os.access(path, os.W_OK) else parent
    if blocked is path or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{str(path)!r} cannot be written: no permission to write to {str(blocked)!r}")


def foreign(path: Path, kind: Kind | None = None) -> str | None:
    """Why an existing path may not be replaced, to follow "which"; None if this package wrote all of it."""
    if path.is_dir() and not any(path.iterdir()):
        return None if kind in (None, "store", "run", "comparison") else "is a folder"
    kinds: list[Kind] = [kind] if kind is not None else ["store"] if path.is_dir() else list(_FAULTS)
    faults = [_FAULTS[each](path) for each in kinds]
    if None in faults:
        return None
    holding = [fault for fault in faults if fault is not None and fault.startswith("holds ")]
    return holding[0] if holding else faults[0] if kind is not None else "boundarygeo did not write"


def arrays_written(store: Path) -> list[str] | None:
    """Names of a store's arrays whose chunks were all written; None if the store does not record them."""
    inline = (read_json(store / "zarr.json").get("consolidated_metadata") or {}).get("metadata", {})
    group = inline.get("chunks") or read_json(store / "chunks" / "zarr.json")
    return group.get("attributes", {}).get("arrays")


def _files(folder: Path) -> Iterator[str]:
    """Relative paths of all files, links and empty folders in a folder."""
    for root, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*files, *linked):
            if name not in _DEBRIS:
                yield (Path(root) / name).relative_to(folder).as_posix()


def _store_fault(path: Path) -> str | None:
    if not path.is_dir():
        return "is not a store of boundarygeo"
    metadata, plan = read_json(path / "zarr.json"), read_json(path / "chunks" / "plan.json")
    attributes = metadata.get("attributes") or read_json(path / ".zattrs")
    files, written = list(_files(path)), arrays_written(path)
    ours = "boundarygeo_type" in attributes or written is not None or plan.keys() >= _PLAN_FIELDS
    if not ours:
        return "is not a store of boundarygeo"
    for file in files:
        name = file.partition("/")[0]
        known = written is None or name in written
        if not (
            file in ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
            or _NOTES.fullmatch(file)
            or (known and _CHUNK.fullmatch(file))
        ):
            return f"holds {file!r} that boundarygeo did not write,"
    return None


def _run_fault(path: Path) -> str | None:
    if (path / "parts").is_dir():
        return _parts_fault(path, "parts", "parts", "run")
    return _store_fault(path)  # from an earlier version


def _parts_fault(path: Path, folder: str, stores: str, kind: str) -> str | None:
    """Fault of a folder with finished parts, of which other contents would stay."""
    entries = path / folder
    starting = entries.is_dir() and all(entry.name.startswith(".") for entry in entries.iterdir())
    if not starting and not (entries / "plan.json").is_file():  # its content may be damaged
        return f"is not a {kind} of boundarygeo"
    for place in (entries, path / stores):
        for entry in sorted(place.iterdir()) if place.is_dir() else ():
            known = entry.name in _DEBRIS or re.fullmatch(r"(plan|\d{6,})\.json|\..*\.(partial|old)", entry.name)
            if not known and _store_fault(entry) is not None:
                return f"holds '{place.name}/{entry.name}' that boundarygeo did not write,"
    return None


def _table_fault(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            heading = next(csv.reader(lines), [])
    except (OSError, ValueError, csv.Error):
        heading = []
    return None if tuple(heading[: len(TABLE_START)]) == TABLE_START else "is not a table of boundarygeo"


def _figure_fault(path: Path) -> str | None:
    if not path.is_file():
        return "is not a figure of boundarygeo"
    content = path.read_bytes()
    head = content[:_HEAD]
    marked = (
        (head.startswith(b"\x89PNG") and b"Software\0" + _MARKED in head)
        or (head.startswith(b"%PDF") and b"/Creator (" + _MARKED in content)  # near the end
        or (b"<svg" in head and b"<dc:title>" + _MARKED in head)
    )
    return None if marked else "is not a figure that boundarygeo saved"


def _page_fault(path: Path) -> str | None:
    mark = b'<meta name="generator" content="' + _MARKED
    marked = path.is_file() and mark in path.read_bytes()[:_HEAD]
    return None if marked else "is not a page of boundarygeo"


def _checkpoint_fault(path: Path) -> str | None:
    described = _json_in(path, "json")
    return None if {"architecture", "num_classes"} <= described.keys() else "is not a checkpoint of boundarygeo"


def _state_fault(path: Path) -> str | None:
    described = _json_in(path, "training_state")
    return None if {"progress", "config"} <= described.keys() else "is not a training state of boundarygeo"


def _json_in(path: Path, key: str) -> dict[str, Any]:
    """The JSON object that a file of tensors holds under a key, empty if there is none."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return {}
    import torch  # the command line checks paths before it needs torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        read = json.loads(content[key])
    except Exception:  # torch's readers raise many types for other files
        return {}
    return read if isinstance(read, dict) else {}


_FAULTS: dict[Kind, Callable[[Path], str | None]] = {
    "store": _store_fault,
    "run": _run_fault,
    "comparison": lambda path: _parts_fault(path, "journal", "results", "comparison"),
    "table": _table_fault,
    "figure": _figure_fault,
    "page": _page_fault,
    "checkpoint": _checkpoint_fault,
    "training state": _state_fault,
}
