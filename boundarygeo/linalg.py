"""Linear algebra of directions. No model anywhere."""

import torch
from torch import Tensor


def orthogonal_part(v: Tensor, u: Tensor) -> Tensor:
    r"""The part of each vector that is orthogonal to another: :math:`v - \frac{v^T u}{u^T u} u`, example by example.

    Computed in float64, and twice, so that the result is orthogonal to rounding even if v is nearly parallel to u
    (Gram-Schmidt with re-orthogonalisation).

    Args:
        v: vectors `[example, *input]`.
        u: vectors of the same shape; where one is zero, v is returned as it is.

    Returns:
        Float64 vectors of the same shape.

    Examples:
        >>> orthogonal_part(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([[1., 0.]], dtype=torch.float64)
    """
    rest, onto = v.double().flatten(1), u.double().flatten(1)
    square = (onto * onto).sum(1, keepdim=True)
    square = torch.where(square > 0, square, torch.ones_like(square))
    for _ in range(2):
        rest = rest - (rest * onto).sum(1, keepdim=True) / square * onto
    return rest.view(v.shape)


def norms(v: Tensor) -> Tensor:
    """L2 length of each vector `[example, *input]`, float64 `[example]`."""
    return v.double().flatten(1).norm(dim=1)


def scaled_to(v: Tensor, length: Tensor) -> Tensor:
    """Each vector stretched to a length; a zero vector stays zero.

    Args:
        v: vectors `[example, *input]`.
        length: L2 lengths `[example]`.

    Returns:
        Float64 vectors of the same shape.
    """
    size = norms(v)
    factor = torch.where(size > 0, length.double() / size.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return v.double() * factor.view(-1, *(1,) * (v.ndim - 1))
