"""A lock: one process at a time writes to a path."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Lock a path against other processes, creating its folder if needed; ValueError if another is writing to it."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is writing {str(path)!r}: wait for it to finish") from None
    except OSError as error:
        raise type(error)(f"out must be in a writable folder, got {str(path)!r} ({error})") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
