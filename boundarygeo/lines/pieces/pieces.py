"""Exact partition of segments into pieces on which a piecewise affine classifier is affine."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor, nn

from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.evaluation import analysis, frozen_copy, has_hooks, progress_bar, unwrapped
from boundarygeo.linalg import like, norms
from boundarygeo.lines.pieces import (
    Program,
    Rows,
    build_program,
    clear_bends,
    envelope_vertices,
    slope_jumps,
    walk,
)
from boundarygeo.lines.rays import prepare, reach
from boundarygeo.results import Result, array

TOLERANCE = 1e-12
"""Breakpoints closer together than this share of the segment's largest |t| count as one."""

# Small parts stay near a CPU's caches; an accelerator needs large ones.
WORKING_BYTES = {"cpu": 1 << 26, "cuda": 1 << 32}
FEWEST_ROWS = 16  # rows per part by default, at least: each part repeats a row of the one before
_DUALS = 4  # `slope_jumps` needs four times the memory of the walk


@dataclass(frozen=True)
class DecisionBoundaries:
    """Where the predicted class changes along segments.

    Attributes:
        example: position of the example in the batch, int64 `[boundary]`, ascending.
        t: coordinate on its segment, float64 `[boundary]`, ascending for each example.
        before: class at smaller t, int64 `[boundary]`.
        after: class at larger t, int64 `[boundary]`.
    """

    example: Tensor
    t: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinearPieces(Result):
    """The exact affine pieces of the logits along one segment per example, in float64.

    A *breakpoint* is where the activation pattern changes: a unit passes one of its kinks, or a maximum takes another
    element. `patterns` counts the stretches between breakpoints, the linear regions of the literature. A *bend* is a
    breakpoint at which the slope of some logit changes; `count` counts the pieces between bends. Not every breakpoint
    is a bend: a dead unit, a larger element of a later maximum or zero weights can stand between a unit and the logits.

    A breakpoint is a bend if a logit leaves the line between the neighbouring breakpoints by more than any rounding.
    The other breakpoints are decided by the patterns on both sides: the jump of the slope starts at the units that
    switch, and propagates to the logits through active units. Any jump that arrives counts, however small; so does the
    rounding that is left if several units switch in one point and cancel.

    Float64 has its limits: two breakpoints within 1e-12 of the largest |t| count as one (and only the first is named),
    and a unit that is zero up to 1e-13 of its layer's largest value at both neighbours does not change sign
    in-between.

    Attributes:
        breakpoints: coordinates t, ascending, including both ends of the segment, float64 `[example, breakpoint]`;
            padded with NaN.
        logits: logits at the breakpoints, float64 `[example, breakpoint, class]`; padded with NaN.
        layer: nonlinearity that caused the breakpoint, an index into `layers`, int64 `[example, breakpoint]`; -1 at
            the ends and in the padding.
        bends: whether the slope of some logit changes there, bool `[example, breakpoint]`.
        count: number of affine pieces of the logits (bends plus one), int64 `[example]`.
        length: L2 length of one unit of t in input units, float64 `[example]`.
        index: number of each example, int64 `[example]`.
        layers: names of the nonlinearities in the order of the network; `"bounds"` is the clamp to the bounds.
        extent: first and last t.
        name: name of the directions.
        unit: unit of t.
        clip: whether points were clipped to the bounds.
    """

    breakpoints: Tensor = array("example", "breakpoint", unit="direction units", padding=torch.nan)
    logits: Tensor = array("example", "breakpoint", "class", unit="logits", padding=torch.nan)
    layer: Tensor = array("example", "breakpoint", padding=-1)
    bends: Tensor = array("example", "breakpoint", padding=False)
    count: Tensor = array("example")
    length: Tensor = array("example", unit="L2 in input units")
    index: Tensor = array("example", coordinate=True)
    layers: tuple[str, ...]
    extent: tuple[float, float]
    name: str
    unit: str
    clip: bool

    @property
    def patterns(self) -> Tensor:
        """Number of activation patterns (stretches between breakpoints) along each segment, int64 `[example]`."""
        return self.breakpoints.isfinite().sum(1) - 1

    def at(self, t: Tensor) -> Tensor:
        """Logits at t within the extent, `[point]` or `[example, point]`: float64 `[example, point, class]`."""
        low, high = self.extent
        if not bool(((t >= low) & (t <= high)).all()):
            raise ValueError(f"t must be within the extent [{low:g}, {high:g}], got {t.min():g} to {t.max():g}")
        points = t.double().expand(len(self.breakpoints), -1).contiguous()
        knots = self.breakpoints.nan_to_num(torch.inf)
        right = torch.searchsorted(knots, points).clamp_min(1)
        begin, end = knots.gather(1, right - 1), knots.gather(1, right)
        classes = (-1, -1, self.logits.shape[2])
        start, stop = (self.logits.gather(1, i[:, :, None].expand(classes)) for i in (right - 1, right))
        return torch.lerp(start, stop, ((points - begin) / (end - begin))[:, :, None])

    def integral(self) -> Tensor:
        """Exact integral of each logit over t, float64 `[example, class]`."""
        width = self.breakpoints.diff(dim=1)[:, :, None]
        return (width * (self.logits[:, 1:] + self.logits[:, :-1]) / 2).nansum(1)

    def extrema(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Smallest value of each logit and its t, largest value and its t; each float64 `[example, class]`."""
        least, where_least = self.logits.nan_to_num(torch.inf).min(1)
        most, where_most = self.logits.nan_to_num(-torch.inf).max(1)
        return least, self.breakpoints.gather(1, where_least), most, self.breakpoints.gather(1, where_most)

    def boundaries(self) -> DecisionBoundaries:
        """The exact decision boundaries: where another logit becomes the largest, not where it only touches it."""
        example, piece = self.breakpoints[:, 1:].isfinite().nonzero(as_tuple=True)
        start, end = self.logits[example, piece], self.logits[example, piece + 1]
        scale = torch.maximum(start.abs().amax(1), end.abs().amax(1))
        found = envelope_vertices(start, end, scale)
        begin, stop = self.breakpoints[example, piece], self.breakpoints[example, piece + 1]
        # One entry for the start of each piece, where the class may differ from the end of the one before, and one for
        # each change inside a piece.
        item = torch.cat([torch.arange(len(start)), found.item])
        order = item.argsort(stable=True)
        item = item[order]
        label = torch.cat([found.first, found.after])[order]
        t = torch.cat([begin, torch.lerp(begin[found.item], stop[found.item], found.fraction)])[order]
        changes = torch.zeros(len(item), dtype=torch.bool)
        changes[1:] = (label[1:] != label[:-1]) & (example[item[1:]] == example[item[:-1]])
        return DecisionBoundaries(example[item[changes]], t[changes], label[:-1][changes[1:]], label[changes])


@analysis
def linear_pieces(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str | Tensor | Directions = "fgsm",
    extent: float | tuple[float, float],
    clip: bool = True,
    max_bytes: int | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> LinearPieces:
    r"""Cut segments into the pieces on which a piecewise affine network is affine, exactly.

    The segment of example i is :math:`x_i + t d_i` for t in the extent, clipped to the bounds if `clip`. All live
    tensors are carried at the breakpoints found so far. Each nonlinearity adds the breakpoints at which its pattern
    changes, and every live tensor is interpolated there, which is exact up to rounding, since all are affine
    in-between (Sotoudeh & Thakur 2019, arXiv 1908.06214).

    Supported: linear and convolution layers, batch norm, average pooling, padding, reshaping, indexing, sums, multiples
    and concatenations; ReLU, LeakyReLU, PReLU, ReLU6, Hardtanh, clamp, abs, maxima, minima and max pooling; in any
    wiring that `torch.fx` can trace, as layers, functions, methods and in place.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`, for directions by name.
        direction: as in `logit_lines`; one unit of t is the length of the vector. A zero vector among `Directions`
            gives one piece.
        extent: t covers ±extent, or (low, high).
        clip: whether points are clipped to the bounds, which adds breakpoints.
        max_bytes: approximate memory for the carried tensors, but at least for two points; by default 64 MiB on a CPU
            and 4 GiB on an accelerator, and at least enough for 16 points.
        seed: seed of random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if `x`, `y` or `direction` is not a tensor of the right kind, or the module does not return one.
        ValueError: if an argument is out of range, a direction tensor has a zero vector, or the module cannot be
            traced, is not piecewise affine, or contains an unsupported operation.

    Examples:
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> clf, x, y = Classifier(net, bounds=(-1, 1)), torch.zeros(1, 1), torch.tensor([0])
        >>> pieces = linear_pieces(clf, x, y, direction=torch.ones(1, 1), extent=0.5)
        >>> pieces.breakpoints.tolist(), pieces.count.tolist()
        ([[-0.5, 0.0, 0.5]], [2])
    """
    if isinstance(y, Directions) or (isinstance(y, Tensor) and y.is_floating_point()):
        warnings.warn(
            "linear_pieces takes the classes third, and direction= by name, since version 0.2",
            DeprecationWarning,
            stacklevel=3,
        )
        direction, y = y, torch.zeros(len(x), dtype=torch.int64, device=x.device)
    low, high = reach(extent)
    if max_bytes is not None and (not isinstance(max_bytes, Integral) or max_bytes < 1):
        raise ValueError(f"max_bytes must be a positive number of bytes, got {max_bytes!r}")
    # Apple's accelerators have no float64.
    device = torch.device("cpu") if clf.device.type == "mps" else clf.device
    directions, numbers, provenance = prepare(clf, x, y, direction, seed=seed, index=index)
    segments = _Segments(x, directions.vectors, (low, high), device)
    with clf.session(x, y):
        bounds = clf.bounds if clip else None
        program = build_program(_double_copy(clf.module, device), clf.normalise, bounds, segments.probes)
        limit = _rows_at_once(program, max_bytes, device)
        found: list[tuple[Rows, Tensor]] = []
        forwards = 0
        with progress_bar(len(x), description="linear pieces", unit="segments", progress=progress) as bar:
            for rows, logits in _walk_all(program, segments, limit):
                found.append((Rows(rows.t.cpu(), rows.example.cpu(), rows.layer.cpu()), logits.cpu()))
                forwards += len(rows)
                bar.update(float((rows.t.diff() * rows.joined).sum()) / (high - low))
        rows, logits = _joined(found)
        bends, undecided = clear_bends(rows.t, rows.example, logits)
        at_once = max(1, limit // _DUALS)
        for start in range(0, len(undecided), at_once):
            some = undecided[start : start + at_once]
            bends[some] = _jumps_at(program, segments, rows, some).any(1).cpu()
        forwards += 2 * len(undecided)
    clf.counts.forwards += forwards
    return LinearPieces(
        provenance=replace(
            provenance(seed=seed, precision="float64", direction=directions, extent=(low, high)), device=str(device)
        ),
        **_ragged(rows, logits, bends, len(x)),
        length=norms(directions.vectors).cpu(),
        index=numbers,
        layers=program.layers,
        extent=(low, high),
        name=directions.name,
        unit=directions.unit,
        clip=clip,
    )


class _Segments:
    """Points of the segments, computed on the device in float64."""

    def __init__(self, x: Tensor, direction: Tensor, extent: tuple[float, float], device: torch.device) -> None:
        self.x, self.direction, self.extent, self.device = x, direction, extent, device

    def points(self, t: Tensor, example: Tensor) -> Tensor:
        """Inputs at coordinates t of examples, `[row, *input]`."""
        x = self._rows(self.x, example)
        return x + like(t, x) * self.directions(example)

    def directions(self, example: Tensor) -> Tensor:
        """Directions of examples, `[row, *input]`."""
        return self._rows(self.direction, example)

    def _rows(self, values: Tensor, example: Tensor) -> Tensor:
        return values[example.to(values.device)].detach().to(self.device, torch.float64)

    def ends(self, begin: int, end: int) -> tuple[Rows, Tensor]:
        """Both ends of the segments of some examples."""
        example = torch.arange(begin, end, device=self.device).repeat_interleave(2)
        t = torch.tensor(self.extent, dtype=torch.float64, device=self.device).repeat(end - begin)
        return Rows(t, example, torch.full_like(example, -1)), self.points(t, example)

    def probes(self, count: int) -> Tensor:
        """Points of the first segment."""
        t = torch.linspace(*self.extent, count, dtype=torch.float64, device=self.device)
        return self.points(t, torch.zeros(count, dtype=torch.int64))


def _rows_at_once(program: Program, max_bytes: int | None, device: torch.device) -> int:
    if max_bytes is not None:
        return max(2, max_bytes // program.bytes_per_row)
    return max(FEWEST_ROWS, WORKING_BYTES.get(device.type, WORKING_BYTES["cuda"]) // program.bytes_per_row)


def _walk_all(program: Program, segments: _Segments, limit: int) -> Iterator[tuple[Rows, Tensor]]:
    extent = max(abs(end) for end in segments.extent)
    total, at_once = len(segments.x), max(1, limit // 2)
    for begin in range(0, total, at_once):
        rows, points = segments.ends(begin, min(begin + at_once, total))
        yield from walk(program, rows, points, limit=limit, tolerance=TOLERANCE * extent)


def _jumps_at(program: Program, segments: _Segments, rows: Rows, some: Tensor) -> Tensor:
    """Jumps of the logits' slopes at some inner breakpoints, `[row, class]`, from the middles of their two pieces."""
    example = rows.example[some].to(segments.device)
    before, after = ((rows.t[some + side] + rows.t[some + side + 1]) / 2 for side in (-1, 0))
    left, right = (segments.points(t.to(segments.device), example) for t in (before, after))
    return slope_jumps(program, left, right, segments.directions(example))


def _joined(found: list[tuple[Rows, Tensor]]) -> tuple[Rows, Tensor]:
    """All rows and logits, from parts that may begin with the last row of the one before."""
    t, example, layer = (torch.cat([getattr(rows, name) for rows, _ in found]) for name in ("t", "example", "layer"))
    new = torch.ones(len(t), dtype=torch.bool)
    new[1:] = (t[1:] != t[:-1]) | (example[1:] != example[:-1])
    return Rows(t[new], example[new], layer[new]), torch.cat([part for _, part in found])[new]


def _ragged(rows: Rows, logits: Tensor, bends: Tensor, examples: int) -> dict[str, Tensor]:
    """Fields of the result, example by example."""
    sizes = torch.bincount(rows.example, minlength=examples)
    place = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes)[rows.example]

    def padded(values: Tensor, fill: float) -> Tensor:
        whole = torch.full((examples, int(sizes.max()), *values.shape[1:]), fill, dtype=values.dtype)
        whole[rows.example, place] = values
        return whole

    return {
        "breakpoints": padded(rows.t, torch.nan),
        "logits": padded(logits, torch.nan),
        "layer": padded(rows.layer, -1),
        "bends": padded(bends, False),
        "count": 1 + torch.bincount(rows.example[bends], minlength=examples),
    }


def _double_copy(module: nn.Module, device: torch.device) -> nn.Module:
    duplicate = frozen_copy(module, device)
    hooked = next((name for name, layer in duplicate.named_modules() if has_hooks(layer)), None)
    if hooked is not None:
        raise ValueError(
            f"exact pieces ignore hooks, and the module has one on {hooked or 'itself'!r}: remove it, or move its "
            "effect into the module"
        )
    if duplicate is unwrapped(module):
        raise ValueError(f"module must support copy.deepcopy, but {type(module).__name__} does not")
    return duplicate.double()
