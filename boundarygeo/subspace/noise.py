r"""Random noise: how often it changes the label, and how often a cone of a given dimension predicts that it does.

Noise hits a subspace of high dimension by chance more often than one of low dimension, so the dimension predicts the
success of noise. `boundarygeo.results.statistics.rank_correlation` measures how well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from boundarygeo.attacks.norms import NORMS
from boundarygeo.checks import check_choice, check_count, check_eps, plain
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of, random_directions
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import scaled_to
from boundarygeo.results import Result, array

_UNDERFLOW = -400.0
"""Log-probability below which the incomplete beta function is not used: e⁻⁴⁰⁰, well above the smallest float64."""
_NODES = 32


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NoiseSuccess(Result):
    """How many random perturbations of norm ε change the label of each example.

    Attributes:
        fooled: number of perturbations that change the label, int64 `[example]`; -1 for misclassified examples, which
            get no noise.
        share: `fooled` as a share of `draws`, float64 `[example]`; NaN for misclassified examples.
        correct: whether the example itself is classified correctly, bool `[example]`.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`; determines its perturbations.
        draws: number of perturbations per example.
        eps: their norm, before clipping, in input units.
        norm: `"l2"` or `"linf"`.
        clip: whether perturbed points were clipped to the bounds.
    """

    fooled: Tensor = array("example")
    share: Tensor = array("example")
    correct: Tensor = array("example")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    draws: int
    eps: float
    norm: Norm
    clip: bool


@analysis
def noise_success(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "l2",
    draws: int = 100,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> NoiseSuccess:
    """Share of random perturbations of a given norm that change the label, for each correctly classified example.

    In L2 they are uniform on the sphere of radius ε. In L∞ each coordinate is +ε or -ε with probability one half: the
    corners of the cube, which are its points furthest from the example in L2. Each depends on seed, example and draw
    alone, so the first draws do not change with their number.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: norm of the perturbations, in input units.
        norm: `"l2"` or `"linf"`.
        draws: number of perturbations per example.
        clip: whether perturbed points are clipped to the bounds, as images are.
        seed: seed of the perturbations.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The counts.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.
    """
    eps, draws, seed = plain(eps, draws, seed)
    radius = check_eps(eps)
    check_choice(norm, "norm", NORMS)
    check_count(draws, "draws")
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    labels = y.detach().cpu().long()
    correct = clf.predict(x) == labels
    live = correct.nonzero()[:, 0]
    inputs = x.detach().cpu().float()[live]
    hits: list[Tensor] = []

    def points(start: int, stop: int) -> Tensor:
        noise = _noise(inputs.shape[1:], numbers[live], range(start, stop), norm, seed=seed)
        moved = inputs[torch.arange(start, stop) % len(live)] + radius * noise
        return clf.normalise((moved.clamp(*clf.bounds) if clip else moved).to(clf.device))

    with clf.session(x, y) as session:
        session.run(
            points,
            len(live) * draws,
            lambda logits: hits.append(logits.argmax(1)),
            precision="float32",
            progress=progress,
        )
    fooled = torch.full((len(x),), -1)
    if hits:
        fooled[live] = (torch.cat(hits).cpu().view(draws, len(live)) != labels[live]).sum(0)
    return NoiseSuccess(
        provenance=provenance(seed=seed),
        fooled=fooled,
        share=torch.where(correct, fooled.double() / draws, torch.nan),
        correct=correct,
        true_labels=labels,
        index=numbers,
        draws=draws,
        eps=radius,
        norm=norm,
        clip=clip,
    )


def half_space_log_probability(k: Tensor | float, dimension: int) -> Tensor:
    r"""Natural logarithm of the probability that a random unit vector has a cosine of at least 1/√k with a fixed one.

    One coordinate u of a uniform point of the sphere in d dimensions has the density :math:`\propto
    (1-u^2)^{(d-3)/2}` on [-1, 1], so :math:`u^2` has the beta distribution with parameters ½ and (d-1)/2, and for
    :math:`c = 1/\sqrt k \ge 0`

    .. math:: P(u \ge c) = \tfrac12 I_{1-c^2}(\tfrac{d-1}2, \tfrac12),

    which falls about as :math:`e^{-d/2k}`. Where that is too small for the incomplete beta function, the integral
    :math:`\int_0^{x} t^{a-1}(1-t)^{-1/2}dt` with x = 1 - 1/k, a = (d-1)/2 and :math:`t = x e^{-s/a}` is
    :math:`\frac{x^a}a\int_0^\infty e^{-s}(1-xe^{-s/a})^{-1/2}ds`, which Gauss-Laguerre quadrature gives to full
    precision there, because a is much larger than k.

    Examples:
        >>> half_space_log_probability(25, 784)
        tensor(-18.6517, dtype=torch.float64)
    """
    size = torch.as_tensor(k, dtype=torch.float64).cpu()
    if not bool((size >= 1).all()):
        raise ValueError(f"k must be at least 1, got {float(size.nan_to_num(-math.inf).min())}")
    if dimension < 2:
        raise ValueError(f"dimension must be at least 2, got {dimension}")
    a = (dimension - 1) / 2
    square = 1 / size.numpy()
    with np.errstate(divide="ignore"):  # k = 1: the logarithm of zero is intended
        direct = np.log(special.betainc(a, 0.5, 1 - square) / 2)
        log_x = np.log1p(-square)
    nodes, weights = np.polynomial.laguerre.laggauss(_NODES)
    near = log_x < _UNDERFLOW / a  # elsewhere the incomplete beta function is accurate
    tail = -np.expm1(np.where(near, log_x, -1.0)[..., None] - nodes / a)
    indirect = a * log_x - math.log(2 * a) - special.betaln(a, 0.5) + np.log((weights * tail**-0.5).sum(-1))
    return torch.from_numpy(np.asarray(np.where(near, indirect, direct)))


def half_space_probability(k: Tensor | float, dimension: int) -> Tensor:
    """`half_space_log_probability` exponentiated, float64; zero below 1e-308.

    Examples:
        >>> half_space_probability(torch.tensor([4.0, float("inf")]), 3)
        tensor([0.2500, 0.5000], dtype=torch.float64)
    """
    return half_space_log_probability(k, dimension).exp()


@analysis
def cone_probability(gradient_norm: Tensor, eps: float, margin: Tensor | float, dimension: int) -> Tensor:
    r"""Share of random perturbations of L2 norm ε that fool a linear classifier with this gradient.

    To first order, r fools the classifier where :math:`g^Tr \ge m`: a half-space, which cuts from the sphere all r with
    a cosine of at least :math:`c = m/(\varepsilon\|g\|)` to g. The claimed dimension of the adversarial subspace is
    :math:`k = 1/c^2` (before rounding down), so the share is `half_space_probability` of k; one minus that where m < 0,
    and zero where :math:`\varepsilon\|g\| < m`.

    Args:
        gradient_norm: L2 norms of the margin's gradients, `[example]`.
        eps: L2 norm of the perturbations, in input units.
        margin: increase of the loss needed to change the label, in the units of the loss, one number or `[example]`.
        dimension: dimension d of the input space, at least 2.

    Returns:
        Probabilities, float64 `[example]`; zero where gradient and margin are zero.

    Examples:
        >>> cone_probability(torch.tensor([2.0]), 1.0, torch.tensor([1.0, 0.0, -1.0, 3.0]), 3)
        tensor([0.2500, 0.5000, 0.7500, 0.0000], dtype=torch.float64)
    """
    reach, needed = torch.broadcast_tensors(
        eps * gradient_norm.detach().cpu().double(), torch.as_tensor(margin, dtype=torch.float64).cpu()
    )
    within = needed.abs() < reach
    k = torch.where(within, (reach / needed).square(), 1.0)
    one_side = torch.where(within, half_space_probability(k, dimension), 0.0)
    return torch.where((needed < 0), 1 - one_side, one_side)


def _noise(shape: torch.Size, numbers: Tensor, rows: range, norm: Norm, *, seed: int) -> Tensor:
    """Random perturbations of norm 1: number `row` is draw row // examples of example row % examples."""
    row = torch.tensor(rows)
    draw, example = row // len(numbers), row % len(numbers)
    drawn = torch.cat(
        [
            random_directions(shape, numbers[example[draw == which]], seed=seed, axis=which)
            for which in draw.unique().tolist()
        ]
    )
    if norm == "linf":
        return torch.where(drawn < 0, -1.0, 1.0)
    return scaled_to(drawn, torch.ones(len(drawn))).float()
