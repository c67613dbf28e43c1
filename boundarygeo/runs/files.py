"""Files of a store: JSON that is there whole or not at all, and what files are compared by."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from boundarygeo.results import UNFINISHED


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_whole(file, json.dumps(value, indent=1).encode())


def write_whole(file: Path, content: bytes | memoryview) -> None:
    """Write a file that is there whole or not at all; its folder is made where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}{UNFINISHED}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_json(file: Path) -> dict[str, Any]:
    """An object in a file; empty where it cannot be read."""
    try:
        read = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def digest_of(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of_file(file: Path) -> str | None:
    """SHA-256 of a file; None where there is none, as for parts of arrays that hold nothing but the fill value."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
