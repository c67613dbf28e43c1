"""A small problem for long runs, runs of it, and what becomes of them: some are stopped, and some are damaged."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.runs import Job, LocalEngine
from boundarygeo.runs.local import Done, Task

EXAMPLES, CHUNK, PARTS = 23, 4, 6
TRACE = "BOUNDARYGEO_TEST_TRACE"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def problem(examples: int = EXAMPLES) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(network(), device="cpu")
    x = torch.rand(examples, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    return clf, x, clf.predict(x)


def traced_maps(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, **settings: Any) -> bg.BoundaryMaps:
    """Maps; every beginning of a chunk is written down."""
    if TRACE in os.environ:
        with Path(os.environ[TRACE]).open("a") as trace:
            trace.write(f"{int(index[0])}\n")
    return bg.example_maps(clf, x, y, index=index, progress=False, **settings)


SETTINGS: dict[str, Any] = {
    "extent": 0.5, "resolution": 17, "method": "dense", "keep": ("margin", "planes"),
    "chunk_size": CHUNK, "progress": False,
}  # fmt: skip


def whole_run(out: Path, **changes: Any) -> Path:
    clf, x, y = problem()
    return bg.run(traced_maps, clf, x, y, out=out, **(SETTINGS | changes))


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the log."""
    files = {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert files.pop("chunks/log.jsonl", b"") or store.name.endswith(".partial")
    return files


def interrupted(out: Path, chunks: int, **changes: Any) -> None:
    """Leave a run after some chunks."""

    class Impatient(LocalEngine):
        def compute(self, jobs, tasks):
            yield from super().compute(jobs, tasks[:chunks])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole_run(out, engine=Impatient(), **changes)


def killed(*arguments: Any) -> None:
    """In place of what a run is killed at."""
    raise KeyboardInterrupt


def damage(file: Path, how: str) -> None:
    if how == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "changed":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    else:
        file.unlink()


class Slow(LocalEngine):
    """Takes ten seconds for every chunk, or says so."""

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        return (done._replace(seconds=10.0) for done in super().compute(jobs, tasks))


class Backwards(LocalEngine):
    """Computes the last chunk first."""

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        return super().compute(jobs, tasks[::-1])
