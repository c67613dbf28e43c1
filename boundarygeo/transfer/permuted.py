"""The permuted null of the overlap: one model's subspace at an example, the other's at another example."""

import numpy as np
import torch
from torch import Tensor

from boundarygeo.transfer.chance import ROUNDING

_VALUES_AT_ONCE = 1 << 24  # 128 MiB


def crossed_energies(a: Tensor, b: Tensor) -> Tensor:
    """Energy of each of a's subspaces `[example, direction, coordinate]` with each of b's, float64 `[of a, of b]`."""
    rows = []
    for block in a.split(max(1, _VALUES_AT_ONCE // max(1, a.shape[1] * b.shape[0] * b.shape[1]))):
        products = (block.flatten(0, 1) @ b.flatten(0, 1).T).square()
        rows.append(products.view(len(block), a.shape[1], len(b), b.shape[1]).sum((1, 3)))
    return torch.cat(rows) if rows else a.new_zeros(0, 0)


def permuted_means(crossed: Tensor, draws: int, rng: np.random.Generator) -> Tensor:
    """Mean energy after random permutations of the second examples, float64 `[draw]`; NaN below two examples."""
    count = len(crossed)
    if count < 2:
        return torch.full((draws,), torch.nan, dtype=torch.float64)
    rows = torch.arange(count)
    orders = (torch.from_numpy(rng.permutation(count)) for _ in range(draws))
    return torch.stack([crossed[rows, order].mean() for order in orders])


def against_others(crossed: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    """Mean energy of each example with all others, and the p-value of its own; NaN below two examples."""
    count = len(crossed)
    others = crossed.clone().fill_diagonal_(0).sum(1) / (count - 1 or torch.nan)
    as_large = (crossed >= energy[:, None] - ROUNDING).fill_diagonal_(False).sum(1)
    return others, (1 + as_large).double() / count if count > 1 else torch.full((count,), torch.nan)
