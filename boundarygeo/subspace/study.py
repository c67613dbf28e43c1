"""The search for frames around examples: first-order frames, then optimised ones."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from boundarygeo.attacks.norms import NORMS
from boundarygeo.checks import check_choice, check_count, check_positive, plain
from boundarygeo.choices import BOXES, FRAME_METHODS, RULES, Box, FrameMethod, Norm, Rule
from boundarygeo.evaluation import progress_bar
from boundarygeo.subspace.frames.gaas import GaasFrames
from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS
from boundarygeo.subspace.frames.jobs import Failures, Frames, rows_of, successes, successes_until_failure
from boundarygeo.subspace.frames.optimised import optimised_frames
from boundarygeo.subspace.frames.partition import PartitionFrames
from boundarygeo.subspace.frames.search import best_attempt, close_gaps, default_grid, dimension_of, try_sizes
from boundarygeo.subspace.frames.signs import SignFrames
from boundarygeo.subspace.goal import Opponent
from boundarygeo.subspace.verification import chunks

DEFAULT_CAP = 200
FRAME_STEPS = 40


@dataclass(frozen=True)
class Settings:
    """Checked settings of a search; see `boundarygeo.subspace.dimension.adversarial_dimension`."""

    eps: float
    norm: Norm
    method: FrameMethod
    rule: Rule
    box: Box
    cap: int
    grid: tuple[int, ...]
    restarts: int
    steps: int
    seed: int
    full: bool = False

    @property
    def resolved(self) -> dict[str, Any]:
        """Arguments that were filled in by default, for the recorded command of a result."""
        return {"max_dimension": self.cap, "grid": "full" if self.full else self.grid}


def check_settings(
    dimension: int,
    *,
    eps: float,
    norm: Norm,
    method: FrameMethod,
    rule: Rule,
    box: Box,
    max_dimension: int | None,
    grid: Sequence[int] | Literal["full"] | None,
    restarts: int,
    steps: int,
    seed: int,
) -> Settings:
    """Check settings of `adversarial_dimension` for inputs of a number of dimensions, and fill in defaults."""
    for name, value, known in (
        ("norm", norm, NORMS),
        ("method", method, FRAME_METHODS),
        ("rule", rule, RULES),
        ("box", box, BOXES),
    ):
        check_choice(value, name, known)
    eps, max_dimension, restarts, steps, seed = plain(eps, max_dimension, restarts, steps, seed)
    if method == "frame" and norm != "l2":
        raise ValueError(f"method='frame' works in L2 only: pass norm='l2', got {norm!r}")
    check_positive(eps, "eps")
    check_count(restarts, "restarts")
    check_count(steps, "steps")
    cap = min(DEFAULT_CAP, dimension) if max_dimension is None else max_dimension
    check_count(cap, "max_dimension")
    if cap > dimension:
        raise ValueError(f"max_dimension must be at most the number of input dimensions, {dimension}, got {cap}")
    orders = tuple(order for order in REGULAR_ORDERS if order <= cap)
    full = isinstance(grid, str) and grid == "full"
    if grid is None or full:
        sizes = orders if norm == "linf" else default_grid(cap)
    else:
        sizes = _whole_numbers(grid)
        if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= cap:
            raise ValueError(
                f"grid must be 'full' or ascending whole numbers from 1 to max_dimension ({cap}), got {_line(grid)}"
            )
        if norm == "linf" and not set(sizes) <= set(orders):
            raise ValueError(
                f"in L∞, grid must be orders of regular Hadamard matrices, {list(orders)}, got {_line(grid)}"
            )
        if norm == "linf":  # few exist, so all are tried
            sizes = tuple(order for order in orders if order <= sizes[-1])
    if method == "gaas":  # no frame larger than the last size is tried
        cap = sizes[-1]
    return Settings(float(eps), norm, method, rule, box, cap, sizes, restarts, steps, seed, full)


def _whole_numbers(values: object) -> tuple[int, ...]:
    """Whole numbers of any kind of sequence; empty if there is anything else."""
    listed = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    if not isinstance(listed, Iterable) or isinstance(listed, str):
        return ()
    sizes = tuple(listed)
    whole = all(isinstance(size, int | np.integer) and not isinstance(size, bool) for size in sizes)
    return tuple(int(size) for size in sizes) if whole else ()


def _line(value: object) -> str:
    return " ".join(repr(value).split())


@dataclass(frozen=True, eq=False)
class Best:
    """What a search found, and how to rebuild its perturbations.

    Attributes:
        tried: sizes of frames, int64 `[example, attempt]`, padded with 0.
        hits: successes of each, same shape.
        parts: yields the perturbations of the best frames and their examples, in parts.
    """

    tried: Tensor
    hits: Tensor
    parts: Callable[[], Iterator[tuple[Tensor, Tensor]]]

    def dimension(self, rule: Rule) -> Tensor:
        """Dimension of each example by a rule, int64 `[example]`."""
        return dimension_of(self.tried, self.hits, rule)


class Study:
    """The search on examples that are correctly classified and have a gradient, with which frames are aligned.

    Every direction has to fool all opponents.
    """

    def __init__(
        self, opponents: Sequence[Opponent], x: Tensor, gradient: Tensor, settings: Settings, index: Tensor
    ) -> None:
        self._opponents, self._x, self._gradient = opponents, x, gradient
        self._settings, self._index = settings, index
        self._held: dict[int, list[Frames]] = {}

    def first_order(self, progress: bool) -> Best:
        """First-order frames: the best draw per example."""
        settings = self._settings
        if not len(self._x):
            empty = torch.zeros(0, 1, dtype=torch.int64)
            return Best(empty, empty, lambda: iter(()))
        tables = [self._searched(draw, progress) for draw in range(settings.restarts)]
        width = max(tried.shape[1] for tried, _ in tables)
        padded = torch.stack(
            [torch.stack([torch.nn.functional.pad(v, (0, width - v.shape[1])) for v in table]) for table in tables]
        )
        dimension = torch.stack([dimension_of(tried, hits, settings.rule) for tried, hits in tables])
        best = dimension.argmax(0)
        tried, hits = padded[best, :, torch.arange(len(self._x))].unbind(1)

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            chosen = tried.gather(1, best_attempt(tried, hits, settings.rule)[:, None])[:, 0]
            for draw in best.unique().flip(0).tolist():  # the last draw is often still in memory
                mine = ((best == draw) & (dimension.amax(0) > 0)).nonzero()[:, 0]
                for example in mine.split(1024):
                    for start, stop in chunks(chosen[example], self._x[0].numel()):
                        who = example[start:stop]
                        job, row = rows_of(chosen[who])
                        yield self._families(draw)[0].perturbations(who, chosen[who], job, row), who[job]

        return Best(tried, hits, parts)

    def beyond(self, first: Best, progress: bool) -> Best:
        """Optimised frames, or first-order ones where they are better."""
        settings = self._settings
        if not len(self._x):
            return first
        with progress_bar(len(self._x), description="frames", unit="examples", progress=progress) as bar:
            found = optimised_frames(
                self._opponents,
                self._x,
                self._gradient,
                eps=settings.eps,
                box=settings.box,
                cap=settings.cap,
                steps=settings.steps,
                seed=settings.seed,
                advance=bar.update,
            )
        better = found.hits.amax(1) >= first.dimension(settings.rule)

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            for delta, owner in first.parts():
                other = ~better[owner]
                if bool(other.any()):
                    yield delta[other], owner[other]
            mine = better.nonzero()[:, 0]
            size = torch.tensor([len(rows) for rows in found.rows])[mine]
            for start, stop in chunks(size, self._x[0].numel()):
                who = mine[start:stop]
                rows = torch.cat([found.rows[number] for number in who.tolist()])
                if len(rows):
                    yield rows.view(-1, *self._x.shape[1:]), who.repeat_interleave(size[start:stop])

        return Best(found.tried, found.hits, parts)

    def _searched(self, draw: int, progress: bool) -> tuple[Tensor, Tensor]:
        """Sizes tried with the frames of one draw, and their successes."""
        rule = self._settings.rule
        common = {"input_size": self._x[0].numel(), "progress": progress}
        known = Failures(len(self._x), self._settings.grid[-1])

        def attempt(example: Tensor, sizes: Tensor) -> Tensor:
            frames = self._families(draw)
            if rule == "count":
                return successes(self._opponents, frames, example, sizes, **common)
            return successes_until_failure(self._opponents, frames, example, sizes, known=known, **common)

        tried, hits = try_sizes(attempt, len(self._x), self._settings.grid)
        if self._settings.norm == "linf":  # the grid has all orders
            return tried, hits
        return close_gaps(attempt, tried, hits, rule=rule, spare=math.inf if self._settings.full else None)

    def _families(self, draw: int) -> list[Frames]:
        """One family of frames per network. Only one draw is held in memory, because frames are large."""
        if draw not in self._held:
            self._held.clear()  # free memory before building the next
            self._held[draw] = self._made(draw)
        return self._held[draw]

    def _made(self, draw: int) -> list[Frames]:
        s = self._settings
        common = {"eps": s.eps, "seed": s.seed, "draw": draw}

        def frames(opponent: Opponent) -> Frames:
            clf = opponent.clf
            if s.norm == "linf":
                return SignFrames(clf, self._x, self._gradient, box=s.box, index=self._index, **common)
            if s.box == "feasible":
                return PartitionFrames(clf, self._x, self._gradient, index=self._index, **common)
            largest, clip = max(s.grid), s.box == "clip"
            return GaasFrames(clf, self._x, self._gradient, largest=largest, clip=clip, turn=opponent.turn, **common)

        return [frames(opponent) for opponent in self._opponents]
