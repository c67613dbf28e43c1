import pytest
import torch

from boundarygeo.linalg import norms, orthogonal_part, scaled_to

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
