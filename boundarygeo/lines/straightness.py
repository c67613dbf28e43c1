"""How nearly linear a classifier is along a segment: logits against their best line and tangent, and gradients."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.evaluation import analysis, current_call
from boundarygeo.linalg import like
from boundarygeo.lines.pieces.pieces import TOLERANCE, LinearPieces
from boundarygeo.lines.rays import prepare
from boundarygeo.results import Provenance, Result, array

CONSTANT = 1e-12
"""A logit that varies by less than this share of the example's largest logit is constant and has no R²."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Straightness(Result):
    """Exact deviations of each logit from a straight line along its segment.

    Attributes:
        r_squared: share of the logit's variance over t that its best line (least squares) explains, float64
            `[example, class]`; NaN where the logit is constant.
        line_slope: slope of the best line, float64 `[example, class]`.
        line_deviation: largest distance of the logit from its best line, float64 `[example, class]`.
        tangent_deviation: largest distance from the tangent at t = 0, float64 `[example, class]`; from the one-sided
            tangents if the logit bends at 0 (as it does if a pixel of the example lies on the bounds). None if t = 0 is
            outside the segments.
        range: largest value of the logit minus its smallest, float64 `[example, class]`: the scale of the deviations.
        count: number of pieces of the logits, int64 `[example]`.
        extent: first and last t.
        name: name of the directions.
        unit: unit of t.
    """

    r_squared: Tensor = array("example", "class")
    line_slope: Tensor = array("example", "class", unit="logits per direction unit")
    line_deviation: Tensor = array("example", "class", unit="logits")
    tangent_deviation: Tensor | None = array("example", "class", unit="logits")
    range: Tensor = array("example", "class", unit="logits")
    count: Tensor = array("example")
    extent: tuple[float, float]
    name: str
    unit: str


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GradientCosines(Result):
    """Cosine between the input gradient at an example and along its segment.

    Attributes:
        cosine: float64 `[example, point]`; NaN where either gradient is zero.
        index: number of each example, int64 `[example]`.
        t: coordinates of the points, float64 `[point]`.
        name: name of the directions.
        unit: unit of t.
        clip: whether points were clipped to the bounds.
    """

    cosine: Tensor = array("example", "point")
    index: Tensor = array("example", coordinate=True)
    t: Tensor = array("point", unit="direction units", coordinate=True)
    name: str
    unit: str
    clip: bool


@analysis
def straightness(pieces: LinearPieces) -> Straightness:
    r"""Compare each logit with its best line and with its tangent at the example, by exact integrals.

    The best line minimises :math:`\int (f(t) - a - bt)^2 dt` over the segment; with it
    :math:`R^2 = 1 - \int (f - a - bt)^2 / \int (f - \bar f)^2`. Between breakpoints the integrands are quadratic, so
    that Simpson's rule is exact, and deviations are largest at breakpoints.

    Args:
        pieces: result of `linear_pieces`.

    Examples:
        >>> from boundarygeo.lines.pieces.pieces import linear_pieces
        >>> clf = Classifier(torch.nn.Linear(3, 2))
        >>> x, y = torch.full((1, 3), 0.5), torch.tensor([0])
        >>> pieces = linear_pieces(clf, x, y, direction=torch.ones(1, 3), extent=0.1)
        >>> straightness(pieces).r_squared
        tensor([[1., 1.]], dtype=torch.float64)
    """
    began = time.perf_counter()
    low, high = pieces.extent
    missing = ~pieces.breakpoints.isfinite()
    # Padded with the last breakpoint: pieces of zero width.
    knots = pieces.breakpoints.masked_fill(missing, high)
    last = (~missing).sum(1) - 1
    ends = pieces.logits[torch.arange(len(last)), last]
    values = torch.where(missing[:, :, None], ends[:, None], pieces.logits)
    widths = knots.diff(dim=1)
    # Centred in t and in value, to avoid cancellation.
    offsets = (knots - (low + high) / 2)[:, :, None]
    centred = values - _integral(values, None, widths)[:, None] / (high - low)
    slope = _integral(centred, offsets, widths) * 12 / (high - low) ** 3
    residual = centred - slope[:, None] * offsets
    variance = _integral(centred, centred, widths)
    constant = (centred.amax(1) - centred.amin(1)) <= CONSTANT * values.abs().amax((1, 2))[:, None]
    r_squared = 1 - _integral(residual, residual, widths) / variance
    return Straightness(
        provenance=Provenance(
            command=current_call().command(),
            model=pieces.provenance.model,
            device="cpu",
            precision="float64",
            seconds=time.perf_counter() - began,
        ),
        r_squared=r_squared.masked_fill(constant, torch.nan),
        line_slope=slope,
        line_deviation=residual.abs().amax(1),
        tangent_deviation=_tangent_deviation(knots, values) if low <= 0 <= high else None,
        range=values.amax(1) - values.amin(1),
        count=pieces.count,
        extent=pieces.extent,
        name=pieces.name,
        unit=pieces.unit,
    )


@analysis
def gradient_cosines(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str | Tensor | Directions = "fgsm",
    at: Sequence[float] | Tensor,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> GradientCosines:
    """Cosine between the input gradient of the margin at an example and at points x + t·direction.

    The margin is that of `Classifier.input_gradient(..., loss="margin")`: the largest other logit minus the true one.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        direction: as in `logit_lines`.
        at: coordinates t of the points.
        clip: whether points are clipped to the bounds.
        seed: seed of random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: as `Classifier.input_gradient`, or if `direction` is not a float tensor.
        ValueError: as `Classifier.input_gradient`, or if `direction` or `at` is invalid.
    """
    t = torch.as_tensor(at, dtype=torch.float64)
    if t.ndim != 1 or not len(t) or not bool(t.isfinite().all()):
        raise ValueError(f"at must be a list of finite coordinates, got {at!r}")
    directions, numbers, provenance = prepare(clf, x, y, direction, seed=seed, index=index)
    reference = clf.input_gradient(x, y, loss="margin").double().flatten(1)
    reference = reference / reference.norm(dim=1, keepdim=True)
    cosines: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        number = torch.arange(start, stop)
        example, point = number // len(t), number % len(t)
        step = like(t[point], x) * directions.vectors[example].double().cpu()
        inputs = x[example].double().cpu() + step
        inputs = inputs.clamp(*clf.bounds) if clip else inputs
        gradient = session.differentiate(inputs, y[example], "margin")[1].cpu().double().flatten(1)
        cosines.append((gradient * reference[example]).sum(1) / gradient.norm(dim=1))

    with clf.session(x) as session:
        session.in_batches(work, len(x) * len(t), x.shape[1:], kind="gradient", progress=progress)
    return GradientCosines(
        provenance=provenance(seed=seed, direction=directions, at=t.tolist()),
        cosine=torch.cat(cosines).view(len(x), len(t)),
        index=numbers,
        t=t,
        name=directions.name,
        unit=directions.unit,
        clip=clip,
    )


def _integral(f: Tensor, g: Tensor | None, widths: Tensor) -> Tensor:
    """Integral over t of f·g (of f if g is None), `[example, class]`.

    Both are affine between breakpoints and given there, `[example, breakpoint, class]`.
    """
    g = torch.ones_like(f[:, :, :1]) if g is None else g
    middle = (f[:, 1:] + f[:, :-1]) * (g[:, 1:] + g[:, :-1])  # four times the product half way
    return (widths[:, :, None] * (f[:, 1:] * g[:, 1:] + f[:, :-1] * g[:, :-1] + middle)).sum(1) / 6


def _tangent_deviation(knots: Tensor, values: Tensor) -> Tensor:
    """Largest distance from the tangent at 0; the tangent is one-sided on each side."""
    near = TOLERANCE * float(knots.abs().max())
    rows = torch.arange(len(knots))
    deviation = torch.zeros_like(values[:, 0])
    for side in (-1, 1):
        outer = side * knots > near
        if not bool(outer.any()):
            continue  # 0 is an end of the segments
        # Ends of the piece next to 0 on this side; the inner end is at 0 or beyond.
        end = outer.int().argmax(1) if side > 0 else outer.int().sum(1) - 1
        begin = end - side
        slope = (values[rows, end] - values[rows, begin]) / (knots[rows, end] - knots[rows, begin])[:, None]
        tangent = values[rows, end][:, None] + slope[:, None] * (knots - knots[rows, end][:, None])[:, :, None]
        off = ((values - tangent).abs() * outer[:, :, None]).amax(1)
        deviation = torch.maximum(deviation, off)
    return deviation
