"""Planes: 2-D affine sections of the input space, one per example, spanned by two orthogonal axes of equal length.

If the first axis is the FGSM direction sign(∇J), both have its L2 length: a step of ε along the first axis is an L∞
perturbation of size ε, and circles on the map are circles in the input space.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import gradient_directions, numbers_of, random_directions
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import like, norms, orthogonal_part, scaled_to

_PARALLEL = 1e-6  # an orthogonal part below this share of its vector is rounding


@dataclass(frozen=True, eq=False, kw_only=True)
class Planes:
    """Planes `origin + a·u + b·v`, one per example.

    Attributes:
        origin: point at a = b = 0, float32 `[example, *input]`.
        u: first axis, float32 `[example, *input]`, in input units per axis unit.
        v: second axis, orthogonal to the first and of the same L2 length.
        index: number of each example, int64 `[example]`, which seeds its random directions.
        labels: true class of the example at the origin, int64 `[example]`, or None for planes through three images.
        valid: whether the plane exists, bool `[example]`; if not (zero gradient), its axes are zero.
        anchors: coordinates `(a, b)` of the examples in the plane, float64 `[example, anchor, 2]`.
        extent: natural half-width of a map, in axis units, or None if the plane has none.
        kind: `"fgsm_random"`, `"fgsm_adversarial"`, `"random"` or `"through"`.
        axis_names: names of the two axes.
        unit: unit of a and b.
        seed: seed of the random directions, or None.
    """

    origin: Tensor
    u: Tensor
    v: Tensor
    index: Tensor
    labels: Tensor | None
    valid: Tensor
    anchors: Tensor
    extent: float | None
    kind: str
    axis_names: tuple[str, str]
    unit: str
    seed: int | None

    def select(self, which: Tensor) -> "Planes":
        """Some of the planes, given by positions or a mask."""
        selected = {
            field.name: getattr(self, field.name)[which]
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **selected)

    def __len__(self) -> int:
        return len(self.origin)

    def __repr__(self) -> str:
        return f"Planes(kind={self.kind!r}, planes={len(self)}, input={list(self.origin.shape[1:])})"


_FGSM_UNIT = "ε (1 = L2 length of the sign vector; along FGSM: L∞)"


@analysis
def fgsm_random_planes(
    clf: Classifier, x: Tensor, y: Tensor, *, seed: int = 0, index: Sequence[int] | Tensor | None = None
) -> Planes:
    """Planes through each example, spanned by its FGSM direction and a random direction orthogonal to it.

    The classic church window (Warde-Farley & Goodfellow 2016; Goodfellow, CS231n lecture 16, 2017).

    Args:
        clf: classifier whose loss gradient gives the first axis.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        seed: seed of the random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….

    Returns:
        The planes. Examples with a zero gradient are marked in `valid`.

    Raises:
        TypeError: if the inputs are not float tensors or the labels not integers.
        ValueError: if inputs, labels, index or the module's output are invalid.
    """
    numbers = numbers_of(index, len(x))
    u = gradient_directions(clf, x, y).sign()
    v = orthogonal_part(random_directions(x.shape[1:], numbers, seed=seed), u)
    return _fgsm_planes(x, y, u, v, numbers, "fgsm_random", "random, orthogonal", seed)


@analysis
def fgsm_adversarial_planes(
    clf: Classifier, x: Tensor, y: Tensor, *, index: Sequence[int] | Tensor | None = None
) -> Planes:
    """Planes through each example with two adversarial axes: sign(∇J), and the part of ∇J orthogonal to it.

    The plane contains both the L∞- and the L2-steepest direction. The loss rises along both axes, so decision
    boundaries come out diagonal (Goodfellow, CS231n lecture 16, 2017).

    Args:
        clf: classifier whose loss gradient gives both axes.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        index: number of each example; by default 0, 1, 2, ….

    Returns:
        The planes. Examples whose gradient is zero or parallel to its sign are marked in `valid`.

    Raises:
        TypeError: if the inputs are not float tensors or the labels not integers.
        ValueError: if inputs, labels, index or the module's output are invalid.
    """
    numbers = numbers_of(index, len(x))
    gradient = gradient_directions(clf, x, y)
    u = gradient.sign()
    v = orthogonal_part(gradient, u)
    v = torch.where(like(norms(v) > _PARALLEL * norms(gradient), v), v, 0.0)
    return _fgsm_planes(x, y, u, v, numbers, "fgsm_adversarial", "gradient, orthogonal part", None)


@analysis
def random_planes(x: Tensor, y: Tensor, *, seed: int = 0, index: Sequence[int] | Tensor | None = None) -> Planes:
    """Planes through each example, spanned by two random orthogonal directions.

    Both axes have the L2 length of a sign vector, √d, so that extents are comparable to those of FGSM planes.

    Args:
        x: examples `[example, *input]`.
        y: true classes, int64 `[example]`.
        seed: seed of the random directions.
        index: number of each example; by default 0, 1, 2, ….

    Raises:
        ValueError: if shapes or index are invalid.
    """
    if x.ndim < 2 or len(x) != len(y):
        raise ValueError(f"y must have shape [{len(x)}], one class per example, got {list(y.shape)}")
    numbers = numbers_of(index, len(x))
    length = math.sqrt(x[0].numel())
    u = random_directions(x.shape[1:], numbers, seed=seed, axis=0)
    v = orthogonal_part(random_directions(x.shape[1:], numbers, seed=seed, axis=1), u)
    return Planes(
        origin=_stored(x),
        u=_stored(scaled_to(u, length)),
        v=_stored(scaled_to(v, length)),
        index=numbers,
        labels=y.detach().cpu().long(),
        valid=torch.ones(len(x), dtype=torch.bool),
        anchors=torch.zeros(len(x), 1, 2, dtype=torch.float64),
        extent=None,
        kind="random",
        axis_names=("random", "random, orthogonal"),
        unit="ε (1 = L2 length √d of a sign vector)",
        seed=seed,
    )


@analysis
def planes_through(
    x1: Tensor,
    x2: Tensor,
    x3: Tensor,
    *,
    margin: float = 0.1,
    index: Sequence[int] | Tensor | None = None,
) -> Planes:
    """Planes through three examples each, as in dbViz (Somepalli et al. 2022, §3).

    The first axis points from x1 to x2, the second is the part of x3 - x1 orthogonal to it. The origin is the centre of
    a square around the triangle and its margin, and the axes are half its side long, so that extent 1 shows the square.
    (dbViz shows the rectangle around the triangle, with unequal axes.)

    Args:
        x1: first examples `[example, *input]`.
        x2: second examples, same shape.
        x3: third examples, same shape.
        margin: space around the triangle, as a share of its longer bounding side.
        index: number of each triple; by default 0, 1, 2, ….

    Returns:
        The planes, without true classes; `anchors` holds the coordinates of the three examples. Triples on a line are
        marked in `valid`.

    Raises:
        ValueError: if the shapes differ or the margin is negative.
    """
    if not (x1.shape == x2.shape == x3.shape and x1.ndim >= 2 and len(x1)):
        raise ValueError(
            f"x1, x2 and x3 must have the same shape [example, *input], got {list(x1.shape)}, {list(x2.shape)} and "
            f"{list(x3.shape)}"
        )
    if not margin >= 0:
        raise ValueError(f"margin must be >= 0, got {margin}")
    numbers = numbers_of(index, len(x1))
    first, second = x2.double() - x1.double(), x3.double() - x1.double()
    across = orthogonal_part(second, first)
    width, height = norms(first), norms(across)
    valid = (width > 0) & (height > _PARALLEL * norms(second))
    unit_u, unit_v = scaled_to(first, 1), scaled_to(across, 1)
    along = (second.flatten(1) * unit_u.flatten(1)).sum(1)  # coordinate of x3 on the first axis
    zero = torch.zeros_like(width)
    corners = torch.stack([torch.stack([zero, width, along], 1), torch.stack([zero, zero, height], 1)], 2)
    low, high = corners.amin(1), corners.amax(1)
    middle = (low + high) / 2
    half = (high - low).amax(1) * (0.5 + margin)
    half = torch.where(valid, half, 1.0)
    keep = valid.double()
    origin = x1.double() + like(middle[:, 0], x1) * unit_u + like(middle[:, 1], x1) * unit_v
    return Planes(
        origin=_stored(origin),
        u=_stored(unit_u * like(half * keep, x1)),
        v=_stored(unit_v * like(half * keep, x1)),
        index=numbers,
        labels=None,
        valid=valid,
        anchors=(corners - middle[:, None]) / half[:, None, None],
        extent=1.0,
        kind="through",
        axis_names=("towards the second image", "towards the third, orthogonal"),
        unit="half-widths of the window",
        seed=None,
    )


def _fgsm_planes(
    x: Tensor, y: Tensor, u: Tensor, v: Tensor, index: Tensor, kind: str, second: str, seed: int | None
) -> Planes:
    """Planes with a sign vector as first axis, and the second rescaled to its length."""
    valid = (norms(u) > 0) & (norms(v) > 0)
    keep = like(valid, x)
    return Planes(
        origin=_stored(x),
        u=_stored(torch.where(keep, u, 0.0)),
        v=_stored(torch.where(keep, scaled_to(v, norms(u)), 0.0)),
        index=index,
        labels=y.detach().cpu().long(),
        valid=valid,
        anchors=torch.zeros(len(x), 1, 2, dtype=torch.float64),
        extent=None,
        kind=kind,
        axis_names=("FGSM sign direction", second),
        unit=_FGSM_UNIT,
        seed=seed,
    )


def _stored(x: Tensor) -> Tensor:
    return x.detach().float().cpu().contiguous()
