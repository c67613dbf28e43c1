"""Progress of a long run."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from boundarygeo.results.files import PARTS, read_json, read_log, unfinished
from boundarygeo.runs.damage import PLAN, damage, damaged_parts
from boundarygeo.runs.parts import Parts
from boundarygeo.runs.plan import read_plan


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Progress of a run.

    Attributes:
        root: current folder of the store.
        analysis: full name of the analysis.
        finished: whether the store is complete.
        parts: number of parts.
        done: number of finished parts.
        examples: number of examples.
        examples_done: number of examples in finished parts.
        seconds: computing time so far, over all workers, in s.
        workers: number of processes that computed parts.
        remaining: computing time left for one worker, in s, at the pace so far; None before the first part.
        last: time when the last part was finished, or None.
        damaged: finished parts whose files have changed, each with its first such file; None if not checked.
    """

    root: Path
    analysis: str
    finished: bool
    parts: int
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
            f"{self.root}: {state}, {self.done} of {self.parts} parts, {self.examples_done:,} of "
            f"{self.examples:,} examples of {self.analysis}"
        ]
        if self.last is not None:
            lines.append(
                f"{self.seconds:.1f} s of computing by {self.workers} process{'es' * (self.workers != 1)}, the last "
                f"part finished {self.last:%Y-%m-%d %H:%M:%S} UTC"
            )
        if self.remaining:
            lines.append(f"about {self.remaining:.0f} s of computing are left")
        if self.damaged is not None:
            named = [f"part {part} ({file})" for part, file in self.damaged.items()]
            lines.append(f"damaged: {', '.join(named)}" if named else "no part is damaged")
        return "\n".join(lines)


def run_status(path: str | os.PathLike[str], *, verify: bool = False) -> RunStatus:
    """Progress of the run of a store, even while it is running.

    Args:
        path: path of the store, as passed to `run`.
        verify: whether to check all finished parts against their checksums.

    Returns:
        The status.

    Raises:
        ValueError: if there is no run at the path, or its format is not that of this version.
    """
    root = path = Path(path)
    plan = read_plan(path / PLAN)
    if plan is not None:
        done = set(range(plan.parts))
        lines = read_log(path)
        damaged = damage(path, plan) if verify else None
    else:
        root = unfinished(path)
        plan = read_plan(root / PARTS / "plan.json") or read_plan(root / PLAN)
        if plan is None:
            raise ValueError(f"there is no run at {str(path)!r}: pass the path given to run or --out")
        parts = Parts(root, plan)
        done = parts.done
        lines = [log for part in sorted(done) if (log := read_json(parts.entry(part)).get("content", {}).get("log"))]
        damaged = damaged_parts(parts) if verify else None
    examples = sum(plan.size(part) for part in done)
    seconds = sum(line["seconds"] for line in lines)
    return RunStatus(
        root=root,
        analysis=plan.analysis,
        finished=root == path,
        parts=plan.parts,
        done=len(done),
        examples=plan.examples,
        examples_done=examples,
        seconds=seconds,
        workers=len({line["worker"] for line in lines}),
        remaining=seconds / examples * (plan.examples - examples) if lines else None,
        last=datetime.fromtimestamp(max(line["at"] for line in lines), UTC) if lines else None,
        damaged=damaged,
    )
