"""Beyond first order: the whole frame is optimised, all margins at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.choices import Box
from boundarygeo.subspace.frames.jobs import applied
from boundarygeo.subspace.frames.stiefel import BoxWalk, SphereWalk, Walk
from boundarygeo.subspace.goal import Opponent

_GROWTH = 1.4  # factor from one frame size to the next; at least one more
_REACH = 2.5  # largest size tried, as a multiple of the most successes so far plus one
_LAST_STEP = 0.1  # of a search, as a share of the first
_SLACK = 0.1  # how far beyond the boundary a direction should be, in margins of the example
_COPIES = 8  # of a frame that a search holds in memory
_WORKING_BYTES = 1 << 29


@dataclass(frozen=True, eq=False)
class FoundFrames:
    """Results of optimised frames.

    Attributes:
        tried: sizes of the frames, int64 `[example, attempt]`, 0 after an example was done.
        hits: most successes at any step of each, same shape.
        rows: perturbations that succeeded in the best attempt of each example, float32 `[direction, dimension]`.
    """

    tried: Tensor
    hits: Tensor
    rows: list[Tensor]


def sizes_of(cap: int) -> tuple[int, ...]:
    """Frame sizes to try, ascending.

    Examples:
        >>> sizes_of(20)
        (1, 2, 3, 4, 5, 7, 9, 12, 16, 20)
    """
    sizes = [1]
    while sizes[-1] < cap:
        sizes.append(min(cap, max(sizes[-1] + 1, int(_GROWTH * sizes[-1]))))
    return tuple(sizes)


def optimised_frames(
    opponents: Sequence[Opponent],
    x: Tensor,
    gradient: Tensor,
    *,
    eps: float,
    box: Box,
    cap: int,
    steps: int,
    seed: int,
    advance: Callable[[int], object],
) -> FoundFrames:
    """Optimise frames of growing size. The opponents' sessions must be open.

    Each frame starts as that of the first-order theory, aligned with `gradient`. Every step takes one forward and one
    backward pass per direction: directions that have not crossed the boundary ascend the log-odds, and the frame is
    projected back onto its set (see `boundarygeo.subspace.frames.stiefel`). The step with the most successes counts.
    With several networks a direction has to cross the boundaries of all; it ascends the log-odds of the network that is
    farthest behind, relative to the margins. `advance` is called with the number of examples that are done.
    """
    dimension = x[0].numel()
    tried, hits, rows = [], [], []
    sizes = sizes_of(cap)
    at_once = max(1, _WORKING_BYTES // (4 * _COPIES * cap * dimension))
    for part in torch.arange(len(x)).split(at_once):
        best = torch.zeros(len(part), dtype=torch.int64)
        kept = [torch.zeros(0, dimension) for _ in part]
        table = torch.zeros(2, len(part), len(sizes), dtype=torch.int64)
        live = torch.arange(len(part))
        for attempt, size in enumerate(sizes):
            live = live[size <= _REACH * (best[live] + 1)]
            if not len(live):
                break
            who = part[live]
            search = _Search(opponents, x[who], gradient[who], who, eps=eps, box=box)
            count, frames, reached = search.best(size, steps, seed)
            table[0, live, attempt], table[1, live, attempt] = size, count
            better = count > best[live]
            for row in better.nonzero()[:, 0].tolist():
                kept[int(live[row])] = frames[row][reached[row]]
            best[live] = torch.maximum(best[live], count)
        tried.append(table[0])
        hits.append(table[1])
        rows += kept
        advance(len(part))
    return FoundFrames(torch.cat(tried), torch.cat(hits), rows)


class _Search:
    """The optimisation of frames of one size around some examples."""

    def __init__(
        self, opponents: Sequence[Opponent], x: Tensor, gradient: Tensor, example: Tensor, *, eps: float, box: Box
    ) -> None:
        self._opponents, self._example, self._eps, self._box = opponents, example, eps, box
        self._shape, self._bounds = x.shape[1:], opponents[0].clf.bounds
        device = opponents[0].clf.device
        self._x, self._gradient = (v.detach().to(device).float().flatten(1) for v in (x, gradient))

    def best(self, size: int, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Most successes, that step's perturbations, and which of them succeeded; on the CPU."""
        walk = self._walk(size, seed)
        frame = walk.frame
        best = torch.full((len(self._x),), -1, device=frame.device)
        kept, reached = frame.clone(), torch.zeros(frame.shape[:2], dtype=torch.bool, device=frame.device)
        for step in range(steps + 1):
            hit, gain, uphill = self._look(frame)
            count = hit.sum(1)
            better = count > best
            kept = torch.where(better[:, None, None], frame, kept)
            reached, best = torch.where(better[:, None], hit, reached), torch.where(better, count, best)
            if step == steps or bool((best == size).all()):
                break
            need = ((gain < _SLACK) | ~hit).float()
            walk.step(uphill, need, 1 - (1 - _LAST_STEP) * step / steps)
            frame = walk.frame
        return best.cpu(), self._applied(kept).cpu(), reached.cpu()

    def _walk(self, size: int, seed: int) -> Walk:
        if self._box == "feasible":
            return BoxWalk(self._x, self._gradient, size, eps=self._eps, bounds=self._bounds, seed=seed)
        return SphereWalk(self._gradient, size, eps=self._eps, seed=seed)

    def _applied(self, frame: Tensor) -> Tensor:
        if self._box == "ignore":
            return frame
        return applied(self._x[:, None], frame, self._bounds)

    def _look(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Successes and gains `[example, direction]`, and unit ascent directions of the shape of the frame.

        Gains are in margins of the example, for the network that is farthest behind.
        """
        examples, size, dimension = frame.shape
        moved = (self._x[:, None] + frame).flatten(0, 1)
        points = moved if self._box == "ignore" else moved.clamp(*self._bounds)
        number = self._example.repeat_interleave(size)
        origin = self._x.repeat_interleave(size, 0) if any(o.turn for o in self._opponents) else points
        hits, gains, slopes = [], [], []

        def work(start: int, stop: int) -> None:
            x = origin[start:stop].view(-1, *self._shape)
            inputs = points[start:stop].view(-1, *self._shape)
            looks = [_seen(opponent, x, inputs, number[start:stop]) for opponent in self._opponents]
            hit, gain, slope = (torch.stack([look[i].to(points.device) for look in looks]) for i in range(3))
            behind = gain.argmin(0)
            row = torch.arange(len(behind), device=points.device)
            hits.append(hit.all(0))
            gains.append(gain[behind, row])
            slopes.append(slope[behind, row])

        self._opponents[0].session.in_batches(work, len(points), self._shape, kind="gradient")
        slope = torch.cat(slopes).reshape(examples * size, dimension)
        if self._box != "ignore":  # no gain beyond a bound
            low, high = self._bounds
            slope = torch.where((moved >= high) & (slope > 0) | (moved <= low) & (slope < 0), 0.0, slope)
        # Squares of small gradients would underflow.
        slope = slope / slope.abs().amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        slope = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-6)
        shape = (examples, size)
        return torch.cat(hits).view(shape), torch.cat(gains).view(shape), slope.view(examples, size, dimension)


def _seen(opponent: Opponent, x: Tensor, inputs: Tensor, example: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Successes, gains in margins, and ascent gradients of one network at points of examples."""
    goal = opponent.goal
    if opponent.turn is not None:
        inputs = x + opponent.turn(inputs - x)
    logits, uphill = opponent.session.differentiate(inputs, goal.classes[example], "log_odds")
    margin = opponent.margin[example].to(logits)
    gain = goal.gain(logits, example) / margin.clamp_min(torch.finfo(margin.dtype).tiny)
    uphill = uphill if opponent.turn is None else opponent.turn.back(uphill)
    return goal.reached(logits.argmax(1), example), gain, -uphill if goal.targeted else uphill
