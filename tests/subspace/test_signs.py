"""L∞ frames around examples: what Hadamard matrices promise, with and without bounds."""

import pytest
import torch
from oracles import Linear, images
from subspaces import all_of, random
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS
from boundarygeo.subspace.frames.jobs import rows_of
from boundarygeo.subspace.frames.signs import SignFrames

ORDERS = (1, 4, 16, 36, 64)
BOXES = ("ignore", "clip", "feasible")
SHAPE = (3, 8, 8)


def frames_of(x: Tensor, gradient: Tensor, *, eps: float, box: str, seed: int = 0, draw: int = 0) -> SignFrames:
    clf = bg.Classifier(Linear(torch.ones(x[0].numel()), 0.0), device="cpu")
    return SignFrames(clf, x, gradient, eps=eps, box=box, seed=seed, draw=draw, index=torch.arange(len(x)))


def cosines(delta: Tensor) -> Tensor:
    """Largest |cosine| between two of the rows that are not zero."""
    rows = delta.double()[delta.abs().amax(1) > 0]
    rows = rows / rows.norm(dim=1, keepdim=True)
    return (rows @ rows.T).tril(-1).abs().amax()


def on_bounds(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Images of which more than half of the values lie exactly on a bound, one of them all."""
    x = ((images(count, shape=shape) - 0.5) * 4 + 0.5).clamp(0, 1)
    x[0] = x[0].round()
    assert ((x == 0) | (x == 1)).float().mean() > 0.5
    return x


@pytest.mark.parametrize("eps", [0.03, 0.7])
@pytest.mark.parametrize("dimension", [192, 784, 1000, 3072])
def test_without_bounds_frames_are_orthogonal_and_as_long_as_can_be(dimension: int, eps: float) -> None:
    orders = [order for order in REGULAR_ORDERS if order <= dimension]
    x, gradient = on_bounds(len(orders), shape=(dimension,)), random(len(orders), dimension)
    gradient[:, ::7] = 0.0  # sign(0) counts as +1, or rows would lose length and orthogonality
    for size in (torch.tensor(orders), torch.tensor(orders).flip(0)):
        frames = all_of(frames_of(x, gradient, eps=eps, box="ignore"), size)
        for k, delta in zip(size.tolist(), frames, strict=True):
            signs = (delta / eps).round()
            assert torch.equal(delta, torch.tensor(eps) * signs)
            covered = dimension // k * k
            assert torch.equal(signs @ signs.T, covered * torch.eye(k))
            assert signs.abs().amax(1).tolist() == [1] * k
            # The same dimensions are left out of all rows.
            assert signs.abs().sum(0).unique().tolist() == sorted({0, k} if covered < dimension else {k})


@pytest.mark.parametrize(
    ("order", "dimension"), [(1, 192), (4, 784), (16, 784), (64, 3072), (256, 3072), (36, 3600), (100, 3100)]
)
def test_mean_inner_product_is_exact_where_the_order_divides_the_size(order: int, dimension: int) -> None:
    x, size = images(2, shape=(dimension,)), torch.full((2,), order)
    gradient = random(2, dimension).double().pow(3).float()
    gradient[1] = 1.0  # where all are equal, every direction reaches the bound of Bessel's inequality
    first, second = all_of(frames_of(x, gradient, eps=0.1, box="ignore"), size)
    expected = 0.1 * float(gradient[0].double().abs().sum()) / order**0.5
    assert float((first.double() @ gradient[0].double()).mean()) == pytest.approx(expected, rel=1e-6)
    assert second.double().sum(1).tolist() == pytest.approx([0.1 * dimension / order**0.5] * order, rel=1e-6)


@pytest.mark.parametrize(("order", "dimension"), [(100, 784), (36, 3072), (256, 784)])
def test_where_it_does_not_divide_the_covered_share_of_the_gradient_is_the_factor(order: int, dimension: int) -> None:
    x, gradient, means = images(1, shape=(dimension,)), random(1, dimension), []
    for draw in range(30):
        (delta,) = all_of(frames_of(x, gradient, eps=1.0, box="ignore", draw=draw), torch.tensor([order]))
        covered = float(gradient[0, delta.abs().sum(0) > 0].double().abs().sum())
        means.append(float((delta.double() @ gradient[0].double()).mean()) * order**0.5)
        assert means[-1] == pytest.approx(covered, rel=1e-6)
    expected = order * (dimension // order) / dimension * float(gradient.double().abs().sum())
    assert abs(sum(means) / 30 - expected) < 4 * torch.tensor(means).std().item() / 30**0.5


def test_one_direction_is_that_of_fgsm() -> None:
    x, gradient = images(2), random(2, *SHAPE)
    for box in BOXES:
        for i, delta in enumerate(all_of(frames_of(x, gradient, eps=0.05, box=box), torch.tensor([1, 1]))):
            torch.testing.assert_close(delta[0], 0.05 * gradient[i].flatten().sign(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("draw", [0, 1])
def test_feasible_frames_are_orthogonal_inside_the_bounds(draw: int, eps: float) -> None:
    x, gradient = on_bounds(5), random(5, *SHAPE)
    gradient[:, 0, 0] = 0.0
    frames = frames_of(x, gradient, eps=eps, box="feasible", draw=draw)
    for size in (torch.tensor(ORDERS), torch.tensor(ORDERS).flip(0)):
        for i, delta in enumerate(all_of(frames, size)):
            moved = x[i].flatten() + delta
            assert moved.min() >= 0
            assert moved.max() <= 1
            assert delta.abs().max() <= eps + 1e-7
            assert cosines(delta) <= 1e-6
            assert (delta.abs().amax(1) > 0).all()


def test_feasible_frames_use_every_dimension_that_can_move() -> None:
    eps, k = 0.1, 16
    x, gradient = on_bounds(4), random(4, *SHAPE)
    free = ((x >= eps) & (x <= 1 - eps)).flatten(1)
    assert 20 < free[1:].sum(1).float().mean() < 170
    upward = torch.where(gradient > 0, 1 - x, x).flatten(1).clamp_max(eps)
    for i, delta in enumerate(all_of(frames_of(x, gradient, eps=eps, box="feasible"), torch.full((4,), k))):
        uses = (delta != 0).sum(0)
        # A free dimension belongs to all directions, up to fewer than k that are left over; another to one at most.
        assert uses[free[i]].unique().tolist() in ([], [k], [0, k])
        assert (uses[free[i]] == 0).sum() == int(free[i].sum()) % k
        assert torch.equal(uses[~free[i]], (upward[i][~free[i]] > 0).long())
        torch.testing.assert_close(delta.abs().amax(0)[~free[i]], upward[i][~free[i]], rtol=0, atol=1e-7)
        alone = delta[:, ~free[i]] * gradient[i].flatten()[~free[i]]
        assert (alone >= 0).all()
        # They are dealt evenly, the heaviest first.
        gain = alone.sum(1)
        assert gain.max() - gain.min() <= alone.max()


def test_where_all_dimensions_are_free_the_bounds_do_not_matter() -> None:
    x, gradient, size = images(3), random(3, *SHAPE), torch.tensor([4, 16, 36])
    free, feasible, clipped = (
        all_of(frames_of(x, gradient, eps=0.1, box=box), size) for box in ("ignore", "feasible", "clip")
    )
    for a, b, c in zip(free, feasible, clipped, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-7)


def test_clipped_frames_are_clipped_points() -> None:
    x, gradient, size = on_bounds(3), random(3, *SHAPE), torch.tensor([4, 16, 36])
    free, clipped = (all_of(frames_of(x, gradient, eps=0.1, box=box), size) for box in ("ignore", "clip"))
    for i in range(3):
        flat = x[i].flatten()
        torch.testing.assert_close(flat + clipped[i], (flat + free[i]).clamp(0, 1), rtol=0, atol=1e-7)
        assert cosines(clipped[i]) > 0.05


def test_room_of_exactly_eps_is_free() -> None:
    x, gradient = torch.full((1, 16), 0.25), torch.ones(1, 16)
    (delta,) = all_of(frames_of(x, gradient, eps=0.25, box="feasible"), torch.tensor([16]))
    assert (delta.abs() == 0.25).all()
    (delta,) = all_of(frames_of(x, gradient, eps=0.2501, box="feasible"), torch.tensor([16]))
    assert ((delta != 0).sum(0) == 1).all()


def test_seed_draw_and_index_decide_the_frame() -> None:
    x, gradient, size = on_bounds(3), random(3, *SHAPE), torch.full((3,), 4)
    for box in BOXES:
        drawn = all_of(frames_of(x, gradient, eps=0.1, box=box, seed=7, draw=1), size)
        assert all(map(torch.equal, drawn, all_of(frames_of(x, gradient, eps=0.1, box=box, seed=7, draw=1), size)))
        for seed, draw in ((7, 0), (7, 2), (8, 1)):
            others = all_of(frames_of(x, gradient, eps=0.1, box=box, seed=seed, draw=draw), size)
            assert not any(map(torch.equal, others, drawn))
        clf = bg.Classifier(Linear(torch.ones(192), 0.0), device="cpu")
        last = SignFrames(clf, x[2:], gradient[2:], eps=0.1, box=box, seed=7, draw=1, index=torch.tensor([2]))
        assert torch.equal(all_of(last, size[:1])[0], drawn[2])


def test_orders_of_one_call_do_not_disturb_each_other() -> None:
    x, gradient = on_bounds(4), random(4, *SHAPE)
    frames = frames_of(x, gradient, eps=0.1, box="feasible")
    mixed = all_of(frames, torch.tensor([36, 1, 64, 4]))
    for i, k in enumerate((36, 1, 64, 4)):
        job, row = rows_of(torch.tensor([k]))
        alone = frames.perturbations(torch.tensor([i]), torch.tensor([k]), job, row).flatten(1)
        assert torch.equal(alone, mixed[i])
