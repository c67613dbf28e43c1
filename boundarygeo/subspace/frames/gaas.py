r"""Gradient-aligned adversarial subspaces in L2 (Tramèr et al. 2017, arXiv 1704.03453, §3).

The largest number k of orthogonal vectors with :math:`\|r_i\|_2\le\varepsilon` and :math:`r_i^Tg\ge\gamma` is
:math:`\min(d, \lfloor\varepsilon^2\|g\|^2/\gamma^2\rfloor)`: by Bessel's inequality no more fit, and k orthonormal
vectors whose sum is :math:`\sqrt k\,g/\|g\|` each have the inner product :math:`\|g\|/\sqrt k` with g.
"""

import numpy as np
import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.layout import FlatInputs
from boundarygeo.linalg import norms, scaled_to
from boundarygeo.subspace.frames.jobs import PointMaker, applied
from boundarygeo.subspace.goal import Turn


@analysis
def claimed_dimension(gradient_norm: Tensor, eps: float, gamma: Tensor | float, dimension: int) -> Tensor:
    r"""First-order claim: how many orthogonal directions of norm ε raise a linear loss by γ.

    :math:`k=\min(d,\lfloor\varepsilon^2\|g\|^2/\gamma^2\rfloor)`, with the L2 norm of the gradient for perturbations in
    L2 (Tramèr et al. 2017, §3.1) and its L1 norm for those in L∞ (Tramèr et al. 2018, arXiv 1705.07204, Lemma 7).

    Args:
        gradient_norm: dual norms of the gradients, `[example]`.
        eps: norm of the perturbations, in input units.
        gamma: required increase of the loss; every direction reaches it where it is not positive.
        dimension: number of dimensions d of the input space, the largest possible count.

    Returns:
        Counts, int64 `[example]`; zero where the gradient is zero.

    Examples:
        >>> claimed_dimension(torch.tensor([2.0, 0.0]), 1.0, 0.5, 784)
        tensor([16,  0])
    """
    g = gradient_norm.double()
    wanted = torch.as_tensor(gamma, dtype=torch.float64).expand_as(g)
    # A tiny amount is added before rounding down, so that 24.999… becomes 25.
    count = ((eps * g / wanted).square() * (1 + 1e-9)).clamp_max(dimension).nan_to_num(0.0)
    count = torch.where(wanted > 0, count, float(dimension))
    return torch.where(g > 0, count, 0.0).long()


def random_orthonormal(count: int, dimension: int, *, seed: int, draw: int = 0) -> Tensor:
    """Random orthonormal rows, float64 `[count, dimension]`; the first k do not depend on `count`."""
    normal = torch.from_numpy(np.random.default_rng((seed, draw)).standard_normal((count, dimension)))
    q, r = torch.linalg.qr(normal.T)
    # With the signs of the diagonal, QR is Gram-Schmidt, and the frame is uniformly distributed.
    return (q * r.diagonal().sign()).T.contiguous()


@analysis
def gaas_frame(gradient: Tensor, count: int, *, seed: int = 0, draw: int = 0) -> Tensor:
    r"""Orthonormal vectors with equal, maximal inner products with each gradient.

    A random orthonormal frame h is reflected by the Householder map that takes its normalised sum
    :math:`\bar h=\frac1{\sqrt k}\sum h_i` to :math:`\hat g=g/\|g\|`. That costs O(d·k) per example. Such frames
    differ by rotations that fix g, and a random h draws one of them.

    Args:
        gradient: gradients `[example, *input]`, of any length but zero.
        count: number k of vectors, at most the number of input dimensions.
        seed: seed of the random frame.
        draw: number of the frame.

    Returns:
        Frames `[example, k, *input]` in the gradients' dtype.

    Raises:
        ValueError: if there are more vectors than dimensions, or a gradient is zero.

    Examples:
        >>> frame = gaas_frame(torch.ones(1, 4, dtype=torch.float64), 4)
        >>> (frame @ torch.ones(4, dtype=torch.float64))[0]
        tensor([1.0000, 1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """
    dimension = gradient[0].numel()
    if not 1 <= count <= dimension:
        raise ValueError(f"count must be from 1 to the number of input dimensions, {dimension}, got {count}")
    zero = int((norms(gradient) == 0).sum())
    if zero:
        raise ValueError(f"gradient must not be zero, got {zero} zero gradients: leave those examples out")
    base = random_orthonormal(count, dimension, seed=seed, draw=draw)
    unit = scaled_to(gradient.cpu(), torch.ones(len(gradient))).flatten(1)
    frame = aligned(base.expand(len(unit), -1, -1), unit)
    return frame.to(gradient.dtype).view(len(unit), count, *gradient.shape[1:])


def aligned(frame: Tensor, unit: Tensor) -> Tensor:
    """Reflect orthonormal frames `[example, k, dimension]` so that their normalised sums become given unit vectors.

    The inner products of the vectors with that direction, `[example, dimension]`, are then all 1/√k.
    """
    mean = frame.sum(1) / frame.shape[1] ** 0.5
    # Uses the one of ±direction that is farther away, to avoid cancellation.
    sign = torch.where((mean * unit).sum(1) > 0, -1.0, 1.0).to(frame)[:, None]
    mirror = sign * unit - mean
    inner = (frame @ mirror[:, :, None]) / mirror.square().sum(1)[:, None, None]
    return sign[:, None] * (frame - 2 * inner * mirror[:, None])


class GaasFrames:
    """Frames of norm ε around examples, as in the theory: bounds are ignored, or points are clipped to them.

    `largest` is the largest number of vectors in a frame; `draw` numbers the random frame, which all examples share;
    `turn` rotates the perturbations that `points` applies, without clipping only.
    """

    def __init__(
        self,
        clf: Classifier,
        x: Tensor,
        gradient: Tensor,
        *,
        eps: float,
        largest: int,
        clip: bool,
        seed: int,
        draw: int,
        turn: Turn | None = None,
    ) -> None:
        self._clf, self._x, self._eps, self._clip = clf, x.detach().cpu().float(), eps, clip
        self._base = random_orthonormal(largest, x[0].numel(), seed=seed, draw=draw)
        unit = scaled_to(gradient.cpu(), torch.ones(len(x))).flatten(1)
        self._reflection = _Reflection(self._base, unit)
        self._layout = FlatInputs(clf, x.shape[1:])
        self._origin = self._layout.points(self._x)
        self._turn = turn
        self._axes = self._layout.axes(self._shown((eps * self._base).float().view(-1, *x.shape[1:])))

    def points(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> PointMaker:
        """See `Frames.points`."""
        device = self._clf.device
        sign, along = (v.float().to(device)[:, None] for v in self._coefficients(example, size, job, row))
        targets = self._eps * self._reflection.targets(example, size)
        target = self._layout.axes(self._shown(targets.float().view(-1, *self._x.shape[1:])))
        origin, which, row = example[job].to(device), job.to(device), row.to(device)

        def make(start: int, stop: int) -> Tensor:
            part = slice(start, stop)
            rows = self._origin.index_select(0, origin[part])
            rows.addcmul_(sign[part], self._axes.index_select(0, row[part]))
            rows.addcmul_(along[part], target.index_select(0, which[part]), value=-1)
            return self._layout.inputs(self._layout.clip_(rows) if self._clip else rows)

        return make

    def perturbations(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> Tensor:
        """See `Frames.perturbations`."""
        sign, along = (v[:, None] for v in self._coefficients(example, size, job, row))
        target = self._reflection.targets(example, size)
        delta = self._eps * (sign * self._base[row] - along * target[job])
        delta = delta.float().view(-1, *self._x.shape[1:])
        return applied(self._x[example[job]], delta, self._clf.bounds) if self._clip else delta

    def _shown(self, v: Tensor) -> Tensor:
        return v if self._turn is None else self._turn(v)

    def _coefficients(self, example: Tensor, size: Tensor, job: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        return self._reflection.coefficients(example[job], size[job], row)


class _Reflection:
    r"""The Householder maps of a frame for all its sizes k at once.

    With :math:`\sigma=\pm1` such that :math:`\sigma\hat g^T\bar h\le 0`, and :math:`w=\sigma\hat g-\bar h`, the map
    :math:`v\mapsto\sigma(v-2\frac{w^Tv}{w^Tw}w)` takes the normalised sum :math:`\bar h` to :math:`\hat g`, without
    cancellation as :math:`\|w\|^2\ge2`. It takes :math:`h_i` to :math:`\sigma h_i-c_i(\hat g-\sigma\bar h)` with
    :math:`c_i=2w^Th_i/w^Tw=(\sigma\hat g^Th_i-1/\sqrt k)/(1-\sigma\hat g^T\bar h)`. `base` holds h, `unit` the ĝ.
    """

    def __init__(self, base: Tensor, unit: Tensor) -> None:
        self._unit, self._base_sums = unit, base.cumsum(0)
        self._inner = unit @ base.T
        self._sums = self._inner.cumsum(1)

    def coefficients(self, example: Tensor, size: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Signs σ and coefficients c of vector number `row` of an example's frame of a size; shapes broadcast."""
        root = size.double().sqrt()
        sign, cosine = self._sign(example, size)
        along = (sign * self._inner[example, row] - 1 / root) / (1 - sign * cosine)
        return sign.expand_as(along), along

    def targets(self, example: Tensor, size: Tensor) -> Tensor:
        """The vectors ĝ - σh̄ of examples and sizes `[job]`: `[job, dimension]`."""
        sign, _ = self._sign(example, size)
        return self._unit[example] - (sign / size.double().sqrt())[:, None] * self._base_sums[size - 1]

    def _sign(self, example: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        cosine = self._sums[example, size - 1] / size.double().sqrt()
        return torch.where(cosine > 0, -1.0, 1.0).double(), cosine
