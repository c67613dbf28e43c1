"""Regular Hadamard matrices and L∞ frames: identities that hold exactly, in integers."""

import pytest
import torch

from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS, regular_hadamard, sign_frame, signs


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


@pytest.mark.parametrize("size", [256, 784, 1000, 3072])
@pytest.mark.parametrize("order", REGULAR_ORDERS)
def test_frames_are_orthogonal_and_as_long_as_can_be_after_the_signs(order: int, size: int) -> None:
    frame = sign_frame(order, size, seed=1)
    assert frame.dtype == torch.float32
    assert frame.shape == (order, size)
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(0))
    gradient[::7] = 0.0  # sign(0) counts as +1, or rows would lose length and orthogonality
    directions = (frame * signs(gradient)).long()
    covered = order * (size // order)
    assert torch.equal(directions @ directions.T, covered * torch.eye(order, dtype=torch.int64))
    assert directions.abs().amax(1).tolist() == [1] * order
    # The same coordinates are left out of all rows.
    assert directions.abs().sum(0).unique().tolist() == sorted({0, order} if covered < size else {order})


@pytest.mark.parametrize(("order", "size"), [(4, 784), (16, 784), (64, 3072), (256, 3072), (36, 3600), (100, 3100)])
def test_mean_inner_product_is_exact_where_the_order_divides_the_size(order: int, size: int) -> None:
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).pow(3)
    eps = 0.03
    products = (eps * sign_frame(order, size).double() * signs(gradient)) @ gradient
    assert float(products.mean()) == pytest.approx(eps * float(gradient.abs().sum()) / order**0.5, rel=1e-12)


@pytest.mark.parametrize(("order", "size"), [(100, 784), (36, 3072), (256, 784)])
def test_where_it_does_not_divide_the_covered_share_of_the_gradient_is_the_factor(order: int, size: int) -> None:
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = []
    for restart in range(30):
        frame = sign_frame(order, size, restart=restart).double()
        covered = float(gradient[frame.abs().sum(0) > 0].abs().sum())
        means.append(float((frame * signs(gradient) @ gradient).mean()) * order**0.5)
        assert means[-1] == pytest.approx(covered, rel=1e-12)
    expected = order * (size // order) / size * float(gradient.abs().sum())
    spread = torch.tensor(means).std().item() / 30**0.5
    assert abs(sum(means) / 30 - expected) < 4 * spread


def test_equal_gradients_reach_the_bound_of_bessel_in_every_direction() -> None:
    products = sign_frame(64, 3072) @ torch.ones(3072)
    assert products.tolist() == [3072 / 8] * 64


def test_seed_and_restart_decide_the_permutation() -> None:
    frame = sign_frame(16, 784, seed=3, restart=2)
    assert torch.equal(frame, sign_frame(16, 784, seed=3, restart=2))
    others = [
        sign_frame(16, 784, seed=3),
        sign_frame(16, 784, seed=4, restart=2),
        sign_frame(16, 784, seed=2, restart=3),
    ]
    assert not any(torch.equal(frame, other) for other in others)
    # Neighbours of an unpermuted row are equal nearly everywhere.
    assert (frame[:, 1:] == frame[:, :-1]).float().mean() < 0.7


def test_signs_of_zero() -> None:
    given = torch.tensor([0.0, -0.0, -3.0, 1e-45, -1e-45], dtype=torch.float32)
    assert signs(given).tolist() == [1.0, 1.0, -1.0, 1.0, -1.0]
    assert signs(given.double()).dtype == torch.float64


def test_more_rows_than_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least order \\(16\\).*got 15"):
        sign_frame(16, 15)
