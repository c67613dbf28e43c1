"""How far a long run is."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from boundarygeo.results.result import read_log
from boundarygeo.runs.store import ChunkStore


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run is.

    Attributes:
        root: folder that the store is in now.
        analysis: full name of the function that is run.
        finished: whether the store is whole.
        chunks: number of chunks.
        done: how many of them are finished.
        examples: number of examples.
        examples_done: how many of them are finished.
        seconds: time that was spent computing, by all workers together, in s.
        workers: number of processes that have taken part so far.
        remaining: seconds of computing that are left for one worker, at the pace so far; None before the first chunk.
        last: when the last chunk was finished, or None.
        damaged: the finished chunks whose files have changed since, each with the first such file, and those that a
            finished store lacks; None where that was not looked at.
    """

    root: Path
    analysis: str
    finished: bool
    chunks: int
    done: int
    examples: int
    examples_done: int
    seconds: float
    workers: int
    remaining: float | None
    last: datetime | None
    damaged: dict[int, str] | None

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        lines = [
            f"{self.root}: {state}, {self.done} of {self.chunks} chunks, {self.examples_done:,} of "
            f"{self.examples:,} examples of {self.analysis}"
        ]
        if self.last is not None:
            lines.append(
                f"{self.seconds:.1f} s of computing by {self.workers} process{'es' * (self.workers != 1)}, the last "
                f"chunk finished {self.last:%Y-%m-%d %H:%M:%S} UTC"
            )
        if self.remaining:
            lines.append(f"about {self.remaining:.0f} s of computing are left")
        if self.damaged is not None:
            told = [f"chunk {chunk} ({file})" for chunk, file in self.damaged.items()]
            lines.append(f"damaged: {', '.join(told)}" if told else "no chunk is damaged")
        return "\n".join(lines)


def run_status(path: str | os.PathLike[str], *, verify: bool = False) -> RunStatus:
    """How far the run of a store is; it may be running.

    Args:
        path: path of the store, as it was given to `run`.
        verify: whether to read all finished chunks and compare them with their checksums.

    Returns:
        The status.

    Raises:
        ValueError: if there is no store of a run, or its format is newer than this version reads.
    """
    store = ChunkStore.find(Path(path))
    if store is None:
        raise ValueError(f"path must be the store of a run, got {str(path)!r}")
    lines = read_log(store.root)
    done = sum(store.plan.size(chunk) for chunk in store.done)
    seconds = sum(line["seconds"] for line in lines)
    lost = {chunk: f"{chunk:06d}.json" for chunk in store.missing} if store.finished else {}
    computed = sum(store.plan.size(line["chunk"]) for line in lines)
    return RunStatus(
        root=store.root,
        analysis=store.plan.analysis,
        finished=store.finished,
        chunks=store.plan.chunks,
        done=len(store.done),
        examples=store.plan.examples,
        examples_done=done,
        seconds=seconds,
        workers=len({line["worker"] for line in lines}),
        remaining=seconds / computed * (store.plan.examples - done) if lines else None,
        last=datetime.fromtimestamp(max(line["at"] for line in lines), UTC) if lines else None,
        damaged=store.damaged() | lost if verify else None,
    )
