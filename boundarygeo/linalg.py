"""Linear algebra of directions and subspaces."""

import torch
from torch import Tensor


def orthogonal_part(v: Tensor, u: Tensor) -> Tensor:
    r"""Part of each vector that is orthogonal to another: :math:`v - \frac{v^T u}{u^T u} u`; v itself where u is zero.

    Computed twice, in float64, so that the result is orthogonal up to rounding even if v is nearly parallel to u
    (Gram-Schmidt with re-orthogonalisation).

    >>> orthogonal_part(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([[1., 0.]], dtype=torch.float64)
    """
    rest, onto = v.double().flatten(1), u.double().flatten(1)
    square = (onto * onto).sum(1, keepdim=True)
    square = torch.where(square > 0, square, torch.ones_like(square))
    for _ in range(2):
        rest = rest - (rest * onto).sum(1, keepdim=True) / square * onto
    return rest.view(v.shape)


def like(values: Tensor, v: Tensor) -> Tensor:
    """One value per example, shaped to be combined with vectors `[example, *input]`."""
    return values.view(-1, *(1,) * (v.ndim - 1))


def norms(v: Tensor) -> Tensor:
    """L2 length of each vector `[example, *input]`, float64 `[example]`."""
    return v.double().flatten(1).norm(dim=1)


def scaled_to(v: Tensor, length: Tensor | float) -> Tensor:
    """Vectors `[example, *input]` rescaled to one L2 length or one each, in float64; a zero vector stays zero."""
    size = norms(v)
    wanted = torch.as_tensor(length, dtype=torch.float64)
    factor = torch.where(size > 0, wanted / size.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return v.double() * like(factor, v)


def row_space(v: Tensor, *, rcond: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal bases of the spans of sets of vectors `[*set, k, d]`, by the singular value decomposition.

    Returns right singular vectors, largest singular value first, float64 `[*set, min(k, d), d]`, of which the first
    *rank* are an orthonormal basis and the others zero; singular values `[*set, min(k, d)]`; and ranks `[*set]`.
    Singular values of at most `rcond` times the largest count as rounding; by default max(k, d) times the machine
    epsilon of the vectors' own dtype, as in `numpy.linalg.matrix_rank`.

    >>> row_space(torch.tensor([[0.0, 3.0], [0.0, -4.0]]))[1:]
    (tensor([5., 0.], dtype=torch.float64), tensor(1))
    """
    if v.ndim < 2 or not v.shape[-1] or not v.shape[-2]:
        raise ValueError(f"v must hold vectors [*set, k, d], got {list(v.shape)}")
    if not bool(v.isfinite().all()):
        raise ValueError("v must be finite, got NaN or infinity")
    tolerance = max(v.shape[-2:]) * torch.finfo(v.dtype).eps if rcond is None else rcond
    _, sizes, basis = torch.linalg.svd(v.double(), full_matrices=False)
    significant = (sizes > tolerance * sizes[..., :1]) & (sizes > 0)
    return torch.where(significant[..., None], basis, 0.0), sizes, significant.sum(-1)


def principal_angles(a: Tensor, b: Tensor, *, rcond: float | None = None) -> Tensor:
    """Principal angles between pairs of subspaces, accurate to rounding both near 0 and near π/2.

    With orthonormal bases A and B, the singular values of :math:`AB^T` are the cosines of the principal angles, and
    those of :math:`B - BA^TA` the sines (the smallest ones if B is larger). A cosine near 1 does not resolve small
    angles (in float64, all below 1e-8 look alike), so angles below π/4 come from the sines, the others from the
    cosines: Knyazev & Argentati 2002, SIAM J. Sci. Comput. 23(6), Algorithm 3.1, as in `scipy.linalg.subspace_angles`.

    The subspaces are spanned by vectors `[*pair, k1, d]` and `[*pair, k2, d]`, which need not be orthonormal; leading
    dimensions are broadcast. Angles are in radians, smallest first, float64 `[*pair, min(k1, k2)]`. Subspaces of
    dimensions r1 and r2 have min(r1, r2) of them; if vectors are dependent (`rcond` as in `row_space`), the rest is
    NaN.

    >>> principal_angles(torch.eye(3)[:2], torch.tensor([[1.0, 0.0, 1.0]])) / torch.pi
    tensor([0.2500], dtype=torch.float64)
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ValueError(f"a and b must be vectors [*pair, k, d] of the same d, got {list(a.shape)}, {list(b.shape)}")
    (first, _, rank_a), (second, _, rank_b) = (row_space(v, rcond=rcond) for v in (a, b))
    count = min(a.shape[-2], b.shape[-2])
    cross = first @ second.mT
    few = torch.minimum(rank_a, rank_b)[..., None]
    # Zero rows that pad a basis have cosines and sines 0: they are the last cosines and the first sines.
    cosines = torch.linalg.svdvals(cross).clamp_max(1)
    # Surplus dimensions of the second space have sine 1.
    sines = _smallest(torch.linalg.svdvals(second - cross.mT @ first), rank_b, count).clamp_max(1)
    cosines = torch.nn.functional.pad(cosines, (0, count - cosines.shape[-1]))
    angles = torch.where(cosines.square() >= 0.5, torch.asin(sines), torch.acos(cosines))
    exists = torch.arange(count, device=angles.device) < few
    return torch.where(exists, angles, torch.nan)


def _smallest(values: Tensor, rank: Tensor, count: int) -> Tensor:
    """The `count` smallest of the first `rank` descending values, in ascending order, `[*set, count]`."""
    places = rank[..., None] - 1 - torch.arange(count, device=values.device)
    places = places.expand(*values.shape[:-1], count)
    return values.gather(-1, places.clamp(0, values.shape[-1] - 1))
