import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from boundarygeo.linalg import norms, orthogonal_part, principal_angles, row_space, scaled_to

U = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 2.0]]])
V = torch.tensor([[[1.0, 1.0]], [[1.0, 2.0]], [[0.0, 5.0]]])


def test_orthogonal_part_by_hand() -> None:
    rest = orthogonal_part(V, U)
    # (1, 1) - 7/25 (3, 4); as it is, beside a zero vector; nothing, along the vector.
    expected = torch.tensor([[[0.16, -0.12]], [[1.0, 2.0]], [[0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(rest, expected)


def test_lengths_by_hand() -> None:
    torch.testing.assert_close(norms(U), torch.tensor([5.0, 0.0, 2.0], dtype=torch.float64))


def test_vectors_are_stretched_one_by_one_and_zero_stays_zero() -> None:
    scaled = scaled_to(U, torch.tensor([10.0, 7.0, 0.5]))
    expected = torch.tensor([[[6.0, 8.0]], [[0.0, 0.0]], [[0.0, 0.5]]], dtype=torch.float64)
    torch.testing.assert_close(scaled, expected)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_float32_vectors_of_any_size_have_a_length(size: float) -> None:
    v = torch.full((1, 4), size)
    assert norms(v).item() == pytest.approx(2 * size)
    torch.testing.assert_close(scaled_to(v, torch.ones(1)), torch.full((1, 4), 0.5, dtype=torch.float64))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("k1", "k2", "d"), [(1, 1, 2), (3, 3, 9), (5, 2, 9), (2, 5, 9), (6, 5, 8), (4, 4, 4)])
def test_principal_angles_are_those_of_scipy(k1: int, k2: int, d: int) -> None:
    # Bases that are far from orthonormal, in two leading dimensions.
    stretch = torch.logspace(-3, 3, d, dtype=torch.float64)
    a, b = normal(2, 4, k1, d) * stretch, normal(2, 4, k2, d, seed=1) * stretch
    angles = principal_angles(a, b)
    assert angles.shape == (2, 4, min(k1, k2))
    for i in np.ndindex(2, 4):
        expected = np.sort(subspace_angles(a[i].T.numpy(), b[i].T.numpy()))
        np.testing.assert_allclose(angles[i], expected, atol=1e-9)
    # Spaces of more than d dimensions together meet in angles of zero.
    assert bool((angles[..., : max(0, k1 + k2 - d)] < 1e-9).all())


@pytest.mark.parametrize("turned", [False, True])
def test_tiny_angles_and_angles_near_a_right_one_are_right(turned: bool) -> None:
    angles = torch.tensor([1e-9, 1e-8, 1e-6, 1e-3, 0.5, torch.pi / 4, 1.0, torch.pi / 2 - 1e-9], dtype=torch.float64)
    k = len(angles)
    rotation = torch.linalg.qr(normal(2 * k, 2 * k)).Q
    a = torch.eye(2 * k, dtype=torch.float64)[:k] @ rotation
    b = torch.cat([angles.cos().diag(), angles.sin().diag()], 1) @ rotation
    mixed = normal(k, k, seed=3) @ b if turned else b  # another basis of the same space
    found = principal_angles(a, mixed)
    # What is lost is the conditioning of the basis that was given.
    torch.testing.assert_close(found, angles, atol=1e-12 if turned else 1e-15, rtol=1e-6 if turned else 1e-7)
    torch.testing.assert_close(principal_angles(mixed, a), found, atol=1e-12, rtol=1e-6)
    # Spaces of two sizes: the smaller one's angles.
    torch.testing.assert_close(principal_angles(a, b[:3]), angles[:3], atol=1e-15, rtol=1e-6)
    torch.testing.assert_close(principal_angles(a[5:], b), angles[5:], atol=1e-12, rtol=1e-6)


def test_dependent_vectors_have_fewer_angles() -> None:
    eye = torch.eye(5)
    a = torch.stack([torch.stack([eye[0], 2 * eye[0], eye[1]]), eye[[0, 1, 2]], torch.zeros(3, 5)])
    b = torch.stack([eye[0] + eye[1], eye[2]])
    angles = principal_angles(a, b)
    nan = torch.nan
    expected = torch.tensor([[0, torch.pi / 2], [0, 0], [nan, nan]], dtype=torch.float64)
    torch.testing.assert_close(angles, expected, equal_nan=True)
    torch.testing.assert_close(principal_angles(b, a), expected, equal_nan=True)
    # The smaller space has dependent vectors: the other's zero sines are not its own.
    thin, angle = (eye[4] + 2 * eye[0]).expand(2, 5), torch.tensor([0.5, nan], dtype=torch.float64).atan()
    torch.testing.assert_close(principal_angles(thin, eye[:3]), angle, equal_nan=True)
    torch.testing.assert_close(principal_angles(eye[:3], thin), angle, equal_nan=True)


def test_more_vectors_than_dimensions_span_everything() -> None:
    assert principal_angles(normal(5, 3), normal(4, 3)).isnan().tolist() == [False] * 3 + [True]
    assert principal_angles(normal(5, 3), normal(1, 3)).item() < 1e-15


def test_row_space_is_orthonormal_and_spans_the_rows() -> None:
    v = normal(2, 4, 7)
    v[1, 3] = v[1, 0] - v[1, 1]
    basis, sizes, rank = row_space(v)
    assert rank.tolist() == [4, 3]
    torch.testing.assert_close(v @ basis.mT @ basis, v)
    torch.testing.assert_close(basis[0] @ basis[0].T, torch.eye(4, dtype=torch.float64))
    assert bool((basis[1, 3] == 0).all())
    torch.testing.assert_close(sizes, torch.linalg.svdvals(v))
    assert row_space(v, rcond=10.0)[2].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("a", "b"), [(torch.ones(2, 3), torch.ones(2, 4)), (torch.ones(3), torch.ones(2, 3)), (torch.ones(0, 3),) * 2]
)
def test_vectors_that_span_no_common_space_are_refused(a: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="vectors"):
        principal_angles(a, b)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="v must be finite"):
        principal_angles(torch.tensor([[torch.nan, 1.0]]), torch.ones(1, 2))
