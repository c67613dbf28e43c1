"""Files of a store: JSON that is there whole or not at all, and what files are compared by."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from boundarygeo.results.result import UNFINISHED, plain_number


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_whole(file, json.dumps(value, indent=1, default=plain_number).encode())


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


def digest_of(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain_number).encode()).hexdigest()


def digest_of_file(file: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
