"""Overlap of uniformly random subspaces, by formula and by simulation, and p-values against such draws.

The *energy* of two subspaces is the sum of the squared cosines of their principal angles.
"""

import math

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_count

ROUNDING = 1e-9
"""Energies closer than this count as equal."""

_VALUES_AT_ONCE = 1 << 24  # 128 MiB, including intermediate values


def random_overlap(k1: int, k2: int, d: int) -> tuple[float, float]:
    r"""Mean and standard deviation of the energy of two random subspaces.

    With projections P1 and P2 the energy is :math:`\mathrm{tr}\,P_1P_2 = k_1k_2/d + \langle Q_1, Q_2\rangle`, where
    :math:`Q_i = P_i - (k_i/d)I` has trace 0 and squared length :math:`k_i(d-k_i)/d`. A uniformly random rotation of Q2
    has mean 0 and no preferred direction among the symmetric matrices of trace 0, of which there are
    :math:`(d-1)(d+2)/2` dimensions (they are an irreducible representation of the rotations), so that

    .. math:: \mathbf{E} = \frac{k_1k_2}{d}, \qquad
        \mathrm{Var} = \frac{\|Q_1\|^2\|Q_2\|^2}{(d-1)(d+2)/2} = \frac{2k_1k_2(d-k_1)(d-k_2)}{d^2(d-1)(d+2)}.

    Args:
        k1: dimension of one subspace.
        k2: dimension of the other.
        d: dimension of the space.

    Returns:
        Mean and standard deviation of the sum of squared cosines.

    Raises:
        ValueError: if a subspace is larger than the space, or a dimension is not a positive whole number.

    Examples:
        >>> random_overlap(10, 10, 784)[0]
        0.12755102040816327
    """
    for name, size in (("d", d), ("k1", k1), ("k2", k2)):
        check_count(size, name)
    if max(k1, k2) > d:
        raise ValueError(f"k1 and k2 must be at most d = {d}, got {k1} and {k2}")
    if d == 1:
        return 1.0, 0.0
    variance = 2 * k1 * k2 * (d - k1) * (d - k2) / (d * d * (d - 1) * (d + 2))
    return k1 * k2 / d, math.sqrt(variance)


def random_subspace_angles(k1: int, k2: int, d: int, count: int, rng: np.random.Generator) -> Tensor:
    """Principal angles of pairs of random subspaces in rad, ascending, `[count, min(k1, k2)]`; the cost ignores d.

    Without loss of generality the first subspace is that of the first k1 coordinates, and the second is spanned by k2
    normal vectors: their coordinates inside and outside the first make two normal matrices A (k1 × k2) and B (d - k1 ×
    k2), the angles depend on AᵀA and BᵀB alone, and BᵀB is drawn by Bartlett's decomposition as a k2 × k2 triangular
    matrix (Muirhead 1982, Theorem 3.2.14). The tangents of the angles are the singular values of B against A.
    """
    k1, k2 = max(k1, k2), min(k1, k2)
    inside = rng.standard_normal((count, k1, k2))
    rest = d - k1
    if rest >= k2:
        outside = np.triu(rng.standard_normal((count, k2, k2)), 1)
        outside[:, range(k2), range(k2)] = np.sqrt(rng.chisquare(rest - np.arange(k2), (count, k2)))
    else:
        outside = rng.standard_normal((count, rest, k2))
    basis = np.linalg.qr(np.concatenate([inside, outside], 1)).Q
    return torch.acos(torch.linalg.svdvals(torch.from_numpy(basis[:, :k1])).clamp_max(1))


def random_energies(k1: int, k2: int, d: int, count: int, rng: np.random.Generator) -> np.ndarray:
    r"""Energies of pairs of random subspaces, exactly distributed, without the subspaces, float64 `[count]`.

    The squared cosines are the eigenvalues of a Jacobi ensemble, for which Edelman & Sutton (2008, Found. Comput. Math.
    8, 259) give a bidiagonal matrix of independent beta variables. The energy is the sum of its squared entries: with
    m = k2 ≤ k1, k1 + k2 ≤ d,

    .. math:: \sum_{i=1}^m C_i(1-C'_i) + \sum_{i=2}^m (1-C_i)\,C'_{i-1}, \quad
        C_i \sim \mathrm{B}\big(\tfrac{k_1-m+i}2, \tfrac{d-k_1-m+i}2\big), \;
        C'_i \sim \mathrm{B}\big(\tfrac i2, \tfrac{d-2m+1+i}2\big), \; C'_m = 0.

    Subspaces too large to be disjoint share k1 + k2 - d directions, plus the overlap of their complements.
    """
    certain = max(0, k1 + k2 - d)
    k1, m = sorted((d - k1, d - k2) if certain else (k1, k2), reverse=True)
    if not m:
        return np.full(count, float(certain))
    i = np.arange(1, m + 1)
    c = rng.beta((k1 - m + i) / 2, (d - k1 - m + i) / 2, (count, m))
    other = rng.beta(i[:-1] / 2, (d - 2 * m + 1 + i[:-1]) / 2, (count, m - 1))
    return certain + c.sum(1) + ((1 - c[:, 1:] - c[:, :-1]) * other).sum(1)


def mean_energies(k1: int, k2: int, d: int, examples: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Mean energy of as many random pairs of subspaces as there are examples, float64 `[draw]`; NaN without any."""
    if not examples:
        return torch.full((draws,), torch.nan, dtype=torch.float64)
    at_once = max(1, _VALUES_AT_ONCE // (8 * examples * min(k1, k2)))
    means = [
        random_energies(k1, k2, d, some * examples, rng).reshape(some, examples).mean(1)
        for some in (min(at_once, draws - start) for start in range(0, draws, at_once))
    ]
    return torch.from_numpy(np.concatenate(means))


def p_values(observed: Tensor, null: Tensor) -> Tensor:
    """One-sided p-values (1 + #{null ≥ observed}) / (1 + #null) (Phipson & Smyth 2010); NaN where either is."""
    ordered = null.sort().values.contiguous()
    below = torch.searchsorted(ordered, (observed - ROUNDING).contiguous())
    p = (1 + len(null) - below).double() / (1 + len(null))
    return p.masked_fill(observed.isnan() | null.isnan().any(), torch.nan)
