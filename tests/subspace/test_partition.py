"""Disjoint perturbations inside the bounds, against convex programs solved by scipy and by bisection."""

import numpy as np
import pytest
import torch
from oracles import Linear, images
from scipy.optimize import minimize
from subspaces import all_of, random
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.frames.jobs import applied
from boundarygeo.subspace.frames.partition import PartitionFrames, Worth, deal, fill, places, room_towards, shuffled

BOUNDS = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.3, 0.7)]
SHAPE = (3, 6, 6)


def on_bounds(count: int, bounds: tuple[float, float], *, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Images of which about half of the values lie exactly on a bound."""
    low, high = bounds
    return ((images(count, shape=shape) - 0.5) * 3 + 0.5).clamp(0, 1) * (high - low) + low


def frames_of(
    x: Tensor, gradient: Tensor, *, eps: float, bounds: tuple[float, float] = (0.0, 1.0), seed: int = 0, draw: int = 0
) -> PartitionFrames:
    clf = bg.Classifier(Linear(torch.ones(x[0].numel()), 0.0), bounds=bounds, device="cpu")
    return PartitionFrames(clf, x, gradient, eps=eps, seed=seed, draw=draw, index=torch.arange(len(x)))


def test_room_is_the_way_to_the_bound_that_the_gradient_points_at() -> None:
    x = torch.tensor([[0.0, 0.0, 0.25, 0.25, 0.25, 1.0, 1.0 + 1e-6]])
    gradient = torch.tensor([[1.0, -1.0, 2.0, -2.0, 0.0, -1e-30, 1.0]])
    assert room_towards(x, gradient, (0.0, 1.0)).tolist() == [[1.0, 0.0, 0.75, 0.25, 0.0, 1.0, 0.0]]
    assert room_towards(x[:, :4], gradient[:, :4], (-2.0, 3.0)).tolist() == [[3.0, 2.0, 2.75, 2.25]]


def test_places_are_ranks_from_the_heaviest() -> None:
    assert places(torch.tensor([[0.5, 3.0, 0.0, 2.0], [1.0, 1.0, 2.0, 1.0]])).tolist() == [[2, 0, 3, 1], [1, 2, 0, 3]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_dealt_groups_are_balanced(size: int) -> None:
    weight = random(5, 50).abs().pow(2)
    group = deal(places(weight), torch.full((5,), size))
    counts = torch.zeros(5, size, dtype=torch.int64).scatter_add_(1, group, torch.ones_like(group))
    assert counts.amax() - counts.amin() <= 1
    assert counts.sum() == 250
    # To and fro: two groups differ by no more than the heaviest does from the lightest.
    total = torch.zeros(5, size).scatter_add_(1, group, weight)
    assert (total.amax(1) - total.amin(1) <= weight.amax(1)).all()


def test_dealing_goes_to_and_fro_and_each_job_has_its_own_size() -> None:
    place = torch.arange(7).expand(2, -1)
    assert deal(place, torch.tensor([3, 2])).tolist() == [[0, 1, 2, 2, 1, 0, 0], [0, 1, 1, 0, 0, 1, 1]]


def test_draws_after_the_first_shuffle_by_seed_and_example() -> None:
    weight, index = random(3, 200).abs(), torch.tensor([4, 9, 2])
    assert torch.equal(shuffled(weight, index, seed=1, draw=0), weight)
    drawn = shuffled(weight, index, seed=1, draw=1)
    assert torch.equal(shuffled(weight[1:2], index[1:2], seed=1, draw=1), drawn[1:2])
    for other in (shuffled(weight, index, seed=2, draw=1), shuffled(weight, index, seed=1, draw=2)):
        assert not torch.equal(other, drawn)
    spread = (drawn / weight).log()
    assert spread.std().item() == pytest.approx(0.3, rel=0.1)
    assert abs(spread.mean().item()) < 0.05
    assert (shuffled(torch.zeros(1, 5), index[:1], seed=0, draw=1) == 0).all()


def best_step(gradient: Tensor, room: Tensor, eps: float) -> Tensor:
    """argmax gᵀδ with ‖δ‖ ≤ ε, |δ_j| ≤ room_j for one group, with |δ_j| = min(t |g_j|, room_j), log t by bisection."""
    slope, room = gradient.abs().double(), torch.where(gradient != 0, room, 0.0).double()
    if room.norm() <= eps:
        return room * gradient.sign()
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        too_long = torch.minimum(10**middle * slope, room).norm() > eps
        low, high = (low, middle) if too_long else (middle, high)
    return torch.minimum(10**low * slope, room) * gradient.sign()


@pytest.mark.parametrize("eps", [0.05, 0.4, 1.5, 20.0])
def test_filled_groups_are_the_best_steps_by_bisection(eps: float) -> None:
    gradient, room = random(6, 40).pow(3), random(6, 40, seed=1).abs()
    gradient[:, ::9] = 0.0
    room[:, ::7] = 0.0
    group = torch.randint(0, 4, (6, 40), generator=torch.Generator().manual_seed(2))
    filled = fill(gradient, room, group, 4, eps)
    for i in range(6):
        for k in range(4):
            mine = group[i] == k
            expected = best_step(gradient[i][mine], room[i][mine], eps)
            torch.testing.assert_close(filled[i][mine].double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("eps", [0.3, 0.9])
def test_filled_groups_are_optima_of_the_convex_program(eps: float) -> None:
    gradient, room = random(8, 6), random(8, 6, seed=1).abs() * 0.5
    group = torch.tensor([0, 1, 0, 1, 1, 0]).expand(8, -1)
    filled = fill(gradient, room, group, 2, eps).double()
    binding = agreed = 0
    for i in range(8):
        for k in range(2):
            mine = group[i] == k
            g, r, ours = gradient[i][mine].double().numpy(), room[i][mine].double().numpy(), filled[i][mine].numpy()
            best = minimize(
                lambda d, g=g: -g @ d,
                0.1 * r * np.sign(g),
                jac=lambda d, g=g: -g,
                bounds=list(zip(-r, r, strict=True)),
                constraints={"type": "ineq", "fun": lambda d: eps**2 - d @ d, "jac": lambda d: -2 * d},
                options={"ftol": 1e-13, "maxiter": 500},
            )
            # The solver sometimes stops short of its tolerance, on some machines: then it must not have come further.
            assert g @ ours >= -best.fun * (1 - 1e-5)
            agreed += g @ ours == pytest.approx(-best.fun, rel=1e-5)
            assert np.linalg.norm(ours) <= eps * (1 + 1e-6)
            assert (np.abs(ours) <= r).all()
            binding += np.linalg.norm(r) > eps
    assert 0 < binding <= 16
    assert agreed >= 14


def test_each_job_may_have_its_own_norm() -> None:
    gradient, room, group = random(3, 20), torch.full((3, 20), 0.3), torch.arange(20).expand(3, -1) % 2
    eps = torch.tensor([[0.1], [0.5], [0.0]])
    filled = fill(gradient, room, group, 2, eps)
    for i in range(2):
        assert torch.equal(filled[i], fill(gradient[i : i + 1], room[i : i + 1], group[:1], 2, eps[i].item())[0])
    assert (filled[2] == 0).all()


@pytest.mark.parametrize("scale", [1e-35, 1.0, 1e35])
def test_the_scale_of_the_gradient_does_not_matter(scale: float) -> None:
    gradient, room, group = random(3, 20), torch.full((3, 20), 0.3), torch.arange(20).expand(3, -1) % 2
    expected = fill(gradient, room, group, 2, 0.7)
    torch.testing.assert_close(fill(scale * gradient, room, group, 2, 0.7), expected, rtol=1e-5, atol=1e-6)


def test_gradients_whose_squares_underflow_do_not_use_all_room() -> None:
    # In the first group beside a large one; in the second among themselves.
    gradient, room = torch.tensor([[1.0, 1e-25, 3e-25, 4e-25]]), torch.ones(1, 4)
    filled = fill(gradient, room, torch.tensor([[0, 0, 1, 1]]), 2, 0.5)
    torch.testing.assert_close(filled, torch.tensor([[0.5, 0.0, 0.3, 0.4]]))


@pytest.mark.parametrize("draw", [0, 1])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_perturbations_are_disjoint_and_inside_bounds_and_ball(bounds: tuple[float, float], draw: int) -> None:
    width = bounds[1] - bounds[0]
    low, high = torch.tensor(bounds)  # as float32 has them
    x, gradient = on_bounds(6, bounds).clamp(low, high), random(6, *SHAPE)
    for eps in (0.3 * width, 3 * width):
        frames = frames_of(x, gradient, eps=eps, bounds=bounds, draw=draw)
        size = torch.tensor([1, 2, 5, 16, 50, 108])
        for i, delta in enumerate(all_of(frames, size)):
            assert delta.shape == (size[i], 108)
            assert ((delta != 0).sum(0) <= 1).all()
            moved = x[i].flatten() + delta
            assert (moved >= low).all()
            assert (moved <= high).all()
            length = delta.double().norm(dim=1)
            assert length.max() <= eps * (1 + 1e-6)
            assert (delta * gradient[i].flatten() >= 0).all()  # uphill only
            room = room_towards(x[i].flatten(), gradient[i].flatten(), bounds)
            enough = torch.stack([room[row != 0].norm() for row in delta]) > 1.001 * eps
            torch.testing.assert_close(length[enough], torch.full_like(length[enough], eps), rtol=1e-5, atol=0)
            if eps < width and i < 4:
                assert enough.all()


def test_with_room_each_gets_an_equal_share_to_first_order() -> None:
    x, gradient, eps = images(3, shape=(784,)), random(3, 784), 0.01
    for draw, least, most in ((0, 0.97, 1.1), (1, 0.7, 1.3)):
        frames = frames_of(x, gradient, eps=eps, draw=draw)
        for k in (1, 4, 20):
            for i, delta in enumerate(all_of(frames, torch.full((3,), k))):
                gain = delta.double() @ gradient[i].double()
                share = eps * gradient[i].double().norm() / k**0.5
                assert (gain / share).min() > least
                assert (gain / share).max() < most
                # All of the gradient is used: the squared gains are those of Bessel's inequality, with equality.
                assert gain.norm().item() == pytest.approx(eps * gradient[i].norm().item(), rel=1e-4)


@pytest.mark.parametrize("size", [1, 2, 9, 30, 400])
@pytest.mark.parametrize("scale", [1e-35, 1.0, 1e35])
def test_dimensions_are_worth_their_share_of_the_common_step(scale: float, size: int) -> None:
    gradient, room, eps = random(6, 40).pow(3), random(6, 40, seed=1).abs(), torch.linspace(0.05, 0.5, 6)[:, None]
    gradient[:, ::9] = 0.0
    room[:, ::7] = 0.0
    room[5] = 0.0
    worth = Worth(scale * gradient, room, eps).of(torch.arange(6), torch.full((6,), size))
    for i in range(6):
        step = best_step(gradient[i], room[i], eps[i].item() * size**0.5)
        movable = torch.where(room[i] > 0, gradient[i].abs(), 0.0).double()
        expected = movable / movable.max().clamp_min(1e-30) * step.abs()
        torch.testing.assert_close(worth[i].double(), expected, rtol=1e-4, atol=1e-7)
    assert (worth[5] == 0).all()


def test_each_job_has_its_own_example_and_size() -> None:
    gradient, room = random(3, 40), random(3, 40, seed=1).abs()
    worth = Worth(gradient, room, 0.3)
    example, size = torch.tensor([2, 0, 2, 1]), torch.tensor([5, 1, 2, 7])
    together = worth.of(example, size)
    for job in range(4):
        assert torch.equal(worth.of(example[job : job + 1], size[job : job + 1])[0], together[job])
    alone = Worth(gradient[2:], room[2:], 0.3).of(torch.tensor([0]), size[:1])
    assert torch.equal(alone[0], together[0])


@pytest.mark.parametrize("draw", [0, 2])
@pytest.mark.parametrize("size", [1, 2, 7, 25, 107, 108])
def test_perturbations_are_dealt_by_worth_and_filled(size: int, draw: int) -> None:
    x, gradient = on_bounds(4, (0.0, 1.0)), random(4, *SHAPE)
    room = room_towards(x, gradient, (0.0, 1.0)).flatten(1)
    everyone, sizes = torch.arange(4), torch.full((4,), size)
    weight = shuffled(Worth(gradient.flatten(1), room, 0.4).of(everyone, sizes), everyone, seed=6, draw=draw)
    group = deal(places(weight), sizes)
    whole = fill(gradient.flatten(1), room, group, size, 0.4)
    for i, delta in enumerate(all_of(frames_of(x, gradient, eps=0.4, seed=6, draw=draw), sizes)):
        expected = torch.where(group[i] == torch.arange(size)[:, None], whole[i], 0.0)
        torch.testing.assert_close(delta, expected, rtol=0, atol=1e-6)


def test_groups_gain_alike_where_many_dimensions_soon_meet_their_bound() -> None:
    # Half of the dimensions have a large gradient and hardly any room.
    gradient, room = random(20, 400).abs(), torch.full((20, 400), 5.0)
    gradient[:, ::2] *= 10
    room[:, ::2] = 0.01 * random(20, 200, seed=1).abs()
    size = torch.full((20,), 8)

    def gains(weight: Tensor) -> Tensor:
        group = deal(places(weight), size)
        filled = fill(gradient, room, group, 8, 0.3)
        return torch.zeros(20, 8).scatter_add_(1, group, gradient * filled)

    dealt = gains(Worth(gradient, room, 0.3).of(torch.arange(20), size))
    by_gradient = gains(gradient)
    assert (dealt.amin(1) / dealt.amax(1)).mean() > (by_gradient.amin(1) / by_gradient.amax(1)).mean() + 0.1
    assert dealt.amin(1).mean() > 1.05 * by_gradient.amin(1).mean()


def test_one_perturbation_is_the_gradient_where_there_is_room() -> None:
    x, gradient = images(2), random(2, 3, 8, 8)
    for i, delta in enumerate(all_of(frames_of(x, gradient, eps=0.1), torch.tensor([1, 1]))):
        flat = gradient[i].flatten()
        torch.testing.assert_close(delta[0], 0.1 * flat / flat.norm(), rtol=0, atol=1e-6)


def test_seed_draw_and_index_decide_the_groups() -> None:
    x, gradient, size = on_bounds(3, (0.0, 1.0)), random(3, *SHAPE), torch.full((3,), 6)
    first = all_of(frames_of(x, gradient, eps=0.5), size)
    assert all(map(torch.equal, first, all_of(frames_of(x, gradient, eps=0.5, seed=7), size)))  # draw 0 has no chance
    drawn = all_of(frames_of(x, gradient, eps=0.5, seed=7, draw=1), size)
    assert all(map(torch.equal, drawn, all_of(frames_of(x, gradient, eps=0.5, seed=7, draw=1), size)))
    for seed, draw in ((7, 0), (7, 2), (8, 1)):
        assert not torch.equal(all_of(frames_of(x, gradient, eps=0.5, seed=seed, draw=draw), size)[0], drawn[0])
    clf = bg.Classifier(Linear(torch.ones(108), 0.0), device="cpu")
    last = PartitionFrames(clf, x[2:], gradient[2:], eps=0.5, seed=7, draw=1, index=torch.tensor([2]))
    assert torch.equal(all_of(last, size[:1])[0], drawn[2])
    renumbered = PartitionFrames(clf, x[2:], gradient[2:], eps=0.5, seed=7, draw=1, index=torch.tensor([3]))
    assert not torch.equal(all_of(renumbered, size[:1])[0], drawn[2])


def test_dimensions_that_cannot_move_are_dealt_last() -> None:
    # Four dimensions can move, the two heaviest cannot: each of four groups gets one that can.
    x = torch.tensor([[1.0, 0.0, 0.5, 0.5, 0.5, 0.5]])
    gradient = torch.tensor([[9.0, -9.0, 1.0, 2.0, -3.0, 4.0]])
    (delta,) = all_of(frames_of(x, gradient, eps=0.1), torch.tensor([4]))
    assert sorted(map(tuple, delta.nonzero().tolist())) == [(0, 5), (1, 4), (2, 3), (3, 2)]
    torch.testing.assert_close(delta.abs().amax(1), torch.full((4,), 0.1))


@pytest.mark.parametrize("bounds", [*BOUNDS, (0.1, 0.3), (-1.7, -1e-3), (-2.117904, 2.64)])
def test_applied_perturbations_do_not_leave_the_bounds_by_rounding(bounds: tuple[float, float]) -> None:
    low, high = torch.tensor(bounds)
    x = low + (high - low) * torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, low[None], high[None]]).clamp(low, high)
    delta = random(len(x)) * (high - low)
    shown = applied(x, delta, bounds)
    moved = x + shown
    assert (moved >= low).all()
    assert (moved <= high).all()
    assert (shown.abs() <= delta.abs() * (1 + 1e-6) + 1e-7 * (high - low)).all()
    exact = (x.double() + delta.double()).clamp(float(low), float(high)) - x.double()
    torch.testing.assert_close(shown.double(), exact, rtol=0, atol=3e-7 * float(max(abs(low), abs(high), high - low)))
