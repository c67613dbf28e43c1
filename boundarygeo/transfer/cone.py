"""The direction along which the losses of several models grow fastest together."""

from itertools import combinations

import torch
from torch import Tensor

LARGEST_SET = 10
"""Largest number of models: the search enumerates all subsets."""

_ROUNDING = 1e-12


def common_ascent(slopes: Tensor) -> tuple[Tensor, Tensor]:
    r"""The unit direction h that maximises the smallest inner product with several vectors.

    :math:`\max_{\|h\|=1}\min_m h^Ta_m` is the distance of the origin from the convex hull of the vectors a; h points to
    the hull's nearest point p: by duality :math:`\max_h\min_\lambda h^T\sum\lambda_ma_m
    =\min_\lambda\|\sum\lambda_ma_m\|`, over weights λ that are nonnegative and sum to 1. At p all vectors of the
    support S have the same inner product with p: :math:`A_S\lambda_S=\mu 1` and :math:`1^T\lambda_S=1` for their Gram
    matrix A. The supports are tried one by one, for all examples at once.

    Args:
        slopes: vectors a `[example, model, dimension]`, at most ten models.

    Returns:
        Directions h, float64 `[example, dimension]`, zero where no direction increases all; and the smallest inner
        product, float64 `[example]`.

    Examples:
        >>> h, slope = common_ascent(torch.eye(2)[None])
        >>> h, slope
        (tensor([[0.7071, 0.7071]], dtype=torch.float64), tensor([0.7071], dtype=torch.float64))
    """
    models = slopes.shape[1]
    if models > LARGEST_SET:
        raise ValueError(f"at most {LARGEST_SET} models can be searched together, got {models}")
    a = slopes.double()
    # Normalised first: in the Gram matrix, vectors of very different length would lose their directions.
    scale = a.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
    gram = (a / scale) @ (a / scale).mT
    best = torch.full((len(a),), torch.inf, dtype=torch.float64)
    weights = torch.zeros(a.shape[:2], dtype=torch.float64)
    for count in range(1, models + 1):
        for support in combinations(range(models), count):
            chosen = gram[:, support][:, :, support]
            bordered = torch.nn.functional.pad(chosen, (0, 1, 0, 1), value=1.0)
            bordered[:, -1, -1] = 0.0
            wanted = torch.zeros(len(a), count + 1, 1, dtype=torch.float64)
            wanted[:, -1] = 1.0
            solution, info = torch.linalg.solve_ex(bordered, wanted)
            share = solution[:, :-1, 0]
            usable = (info == 0) & share.isfinite().all(1) & (share >= 0).all(1)
            square = torch.einsum("ni,nij,nj->n", share, chosen, share)
            better = usable & (square < best * (1 - _ROUNDING))
            best = torch.where(better, square, best)
            rows = better.nonzero()[:, 0]
            weights[rows] = 0
            weights[rows[:, None], torch.tensor(support)] = share[rows]
    nearest = (weights[:, :, None] * a).sum(1)
    length = nearest.norm(dim=1)
    # A hull that contains the origin up to rounding has no common direction.
    real = length > 1e-7 * a.norm(dim=2).amax(1)
    h = torch.where(real[:, None], nearest / length.clamp_min(torch.finfo(torch.float64).tiny)[:, None], 0.0)
    return h, (a @ h[:, :, None])[:, :, 0].amin(1).clamp_min(0)
