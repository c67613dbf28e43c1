r"""Regular Hadamard matrices and the L∞ frames built from them, independent of any model.

A Hadamard matrix has entries ±1 and orthogonal rows; it is *regular* if all rows have the same sum, which is then
:math:`\sqrt k` (up to its sign), so that its order is :math:`k = 4s^2`. The frame is that of Tramèr et al. 2018,
*Ensemble Adversarial Training*, arXiv 1705.07204.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

# Orders as Kronecker products of the matrices of order 4s², which are regular Hadamard matrices again.
_FACTORS = {1: (), 4: (1,), 16: (1, 1), 36: (3,), 64: (1, 1, 1), 100: (5,), 144: (1, 3), 256: (1, 1, 1, 1)}

REGULAR_ORDERS = tuple(_FACTORS)
"""Orders for which `regular_hadamard` has a construction."""

# Of each s: a matrix that multiplies Z_s² by an element w of GF(s²), and points that, with their negatives, make up
# the set D in the text of `_regular_block_matrix`.
_MULTIPLIERS = {1: ((1, 0), (0, 1)), 3: ((1, -1), (1, 1)), 5: ((0, 2), (1, 0))}
_NEGATIVE_POINTS = {1: (), 3: ((0, 0), (1, 0)), 5: ((1, 0), (2, 0), (1, 1), (1, -1), (0, 2))}

# Williamson's array with its first column negated: number of the block, and its sign.
_ARRAY = (
    ((0, -1), (1, 1), (2, 1), (3, 1)),
    ((1, 1), (0, 1), (3, -1), (2, 1)),
    ((2, 1), (3, 1), (0, 1), (1, -1)),
    ((3, 1), (2, -1), (1, 1), (0, 1)),
)


def regular_hadamard(order: int) -> Tensor:
    """A regular Hadamard matrix, int8: entries ±1, orthogonal rows, the sum of every row and every column √order.

    Examples:
        >>> regular_hadamard(4)
        tensor([[-1,  1,  1,  1],
                [ 1,  1, -1,  1],
                [ 1,  1,  1, -1],
                [ 1, -1,  1,  1]], dtype=torch.int8)
    """
    if order not in _FACTORS:
        raise ValueError(f"order must be one of {list(REGULAR_ORDERS)}, got {order!r}")
    matrix = torch.ones(1, 1, dtype=torch.int8)
    for half_side in _FACTORS[order]:
        matrix = torch.kron(matrix, _regular_block_matrix(half_side))
    return matrix


def sign_frame(order: int, size: int, *, seed: int = 0, restart: int = 0) -> Tensor:
    r"""Orthogonal rows of signs `[order, size]`, which times ε·sign(g) are orthogonal directions in the L∞ ball.

    Row i is row i of a regular Hadamard matrix of order k, each entry repeated :math:`\lfloor d/k \rfloor` times and
    the rest zero, its d coordinates permuted at random, by one permutation for all rows. With
    :math:`r_i = \varepsilon\,\mathrm{sign}(g) \odot \text{row}_i` (`signs` uses sign(0) = 1):

    - :math:`r_i^T r_j = 0` and :math:`\|r_i\|_\infty = \varepsilon`, exactly;
    - since the columns of the matrix also sum to :math:`\sqrt k`, the mean over i of :math:`g^T r_i` is exactly
      :math:`\varepsilon \sum_{c \in C} |g_c| / \sqrt k`, with C the coordinates that are not zero. That is
      :math:`\varepsilon \|g\|_1 / \sqrt k` where k divides d; otherwise the share of :math:`\|g\|_1` on C, which is
      :math:`k \lfloor d/k \rfloor / d` on average over the permutations, enters as a factor.

    A single :math:`g^T r_i` differs from the mean. Where all :math:`|g_c|` are equal, no k orthogonal vectors in the L∞
    ball have a larger mean, by Bessel's inequality and :math:`\|r_i\|_2 \le \varepsilon\sqrt d`.
    """
    matrix = regular_hadamard(order)
    if size < order:
        raise ValueError(f"size must be at least order ({order}), the number of orthogonal rows, got {size}")
    rows = matrix.float().repeat_interleave(size // order, dim=1)
    padded = torch.nn.functional.pad(rows, (0, size - rows.shape[1]))
    return padded[:, torch.from_numpy(np.random.default_rng((seed, restart)).permutation(size))]


def signs(gradient: Tensor) -> Tensor:
    """Sign of each coordinate with sign(0) = 1, so that a frame times them stays orthogonal and of full L∞ length.

    Examples:
        >>> signs(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([-1.,  1.,  1.])
    """
    return torch.where(gradient < 0, -1.0, 1.0).to(gradient.dtype)


def _regular_block_matrix(s: int) -> Tensor:
    r"""A regular Hadamard matrix of order 4s², int8, for s = 1, 3, 5.

    Williamson's construction with blocks over the additive group of GF(s²) in place of a cyclic one. Block m is
    :math:`A_m[p, q] = -1` if :math:`p - q \in w^m D` and 1 otherwise. D = -D makes the blocks symmetric, and they
    commute since the group is abelian: Williamson's array is then a Hadamard matrix if :math:`\sum_m A_m^2 = 4s^2 I`.
    Every D used here has s(s-1)/2 points, so that rows of a block sum to s; in the array every row of blocks holds one
    minus sign, so that its rows sum to 3s - s = 2s.

    - s = 3: D is the line GF(3) in GF(9) = Z₃[i]; w = 1 + i turns it into each of the four lines through 0. With L the
      indicator of p - q being on the line, L² = 3L and LJ = 3J, so that A_m² = (J - 2L)² = 12L - 3J; the four L sum to
      J + 3I, and the squares to 36I.
    - s = 5: D = {±1, ±2, ±2w, ±1 ± w} in GF(25) = Z₅[w] with w² = 2. Found by a search among all unions of half-lines;
      checked by multiplication.
    """
    group = list(itertools.product(range(s), repeat=2))
    negative = np.array([(sign * a, sign * b) for a, b in _NEGATIVE_POINTS[s] for sign in (1, -1)], dtype=int)
    negative = negative.reshape(-1, 2)
    blocks = []
    for _ in range(4):
        there = {(int(a) % s, int(b) % s) for a, b in negative}
        blocks.append(
            np.array([[-1 if ((a - c) % s, (b - d) % s) in there else 1 for c, d in group] for a, b in group])
        )
        negative = negative @ np.array(_MULTIPLIERS[s]).T
    matrix = np.block([[sign * blocks[number] for number, sign in row] for row in _ARRAY])
    return torch.from_numpy(matrix.astype(np.int8))
