"""Regular Hadamard matrices: identities that hold exactly, in integers."""

import pytest
import torch

from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS, regular_hadamard, signs


def test_the_orders_that_are_promised() -> None:
    assert REGULAR_ORDERS == (1, 4, 16, 36, 64, 100, 144, 256)


@pytest.mark.parametrize("order", REGULAR_ORDERS)
def test_matrices_are_hadamard_and_regular(order: int) -> None:
    matrix = regular_hadamard(order)
    assert matrix.dtype == torch.int8
    assert matrix.shape == (order, order)
    whole = matrix.long()
    assert bool((whole.abs() == 1).all())
    assert torch.equal(whole @ whole.T, order * torch.eye(order, dtype=torch.int64))
    root = round(order**0.5)
    assert whole.sum(1).tolist() == [root] * order
    assert whole.sum(0).tolist() == [root] * order


@pytest.mark.parametrize("order", [0, 2, 8, 12, 49, 400])
def test_other_orders_are_refused_with_the_list(order: int) -> None:
    with pytest.raises(ValueError, match=rf"order must be one of \[1, 4, 16, 36, 64, 100, 144, 256\], got {order}"):
        regular_hadamard(order)


def test_signs_of_zero() -> None:
    given = torch.tensor([0.0, -0.0, -3.0, 1e-45, -1e-45], dtype=torch.float32)
    assert signs(given).tolist() == [1.0, 1.0, -1.0, 1.0, -1.0]
    assert signs(given.double()).dtype == torch.float64
