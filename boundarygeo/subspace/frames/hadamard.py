r"""Regular Hadamard matrices, of which L∞ frames are built.

A Hadamard matrix has entries ±1 and orthogonal rows; it is *regular* if all rows have the same sum, which is then
:math:`\sqrt k` (up to its sign), so that its order is :math:`k = 4s^2`.
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
