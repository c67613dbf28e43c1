"""Names and small files of stores and unfinished runs. Loads no heavy package, so that their status is read at once."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

UNFINISHED = ".partial"
"""Suffix of unfinished stores."""

PARTS = "parts"
"""Folder with the stores of a result's parts."""

LOG = "chunks/log.jsonl"
"""Computing time of the parts of a result: one JSON object with `seconds` per line."""


def unfinished(path: Path) -> Path:
    """Path of the unfinished store."""
    return path.with_name(path.name + UNFINISHED)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file, empty if there is none."""
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def plain_number(value: Any) -> Any:
    """NumPy numbers as JSON types, for `json.dumps(..., default=plain_number)`."""
    import numpy as np  # which few who read these files need

    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a result must hold plain values besides its arrays, got {type(value).__name__}")


def read_log(store: Path) -> list[dict[str, Any]]:
    """The undamaged lines of a store's log, empty without a log."""
    entries = []
    for line in (store / LOG).read_text().splitlines() if (store / LOG).is_file() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def check_format(path: str | os.PathLike[str], found: int, known: int) -> None:
    """Raise if a format is newer than the newest one known here."""
    if found > known:
        raise ValueError(
            f"{str(path)!r} has format {found}, and this version of boundarygeo reads formats up to {known}: upgrade it"
        )
