"""Optimised frames: every frame that a walk visits is a member of its set, and what is found is known on paper."""

import itertools
import math
from typing import Any

import pytest
import torch
from oracles import Linear, SmallNet, images
from subspaces import count_of, random
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.frames import optimised as frame_module
from boundarygeo.subspace.frames.gaas import gaas_frame
from boundarygeo.subspace.frames.optimised import FoundFrames, optimised_frames, sizes_of
from boundarygeo.subspace.frames.stiefel import BoxWalk, SphereWalk
from boundarygeo.subspace.goal import Goal, Opponent


class Cube(nn.Module):
    """Two classes: 0 inside the L∞ ball of a radius around 0.5, 1 outside."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - 0.5).abs().amax(1, keepdim=True) - self.radius
        return torch.cat([-score, score], 1)


def grams(frame: Tensor) -> Tensor:
    return (frame.double() @ frame.double().mT).float()


@pytest.mark.parametrize("cap", [1, 2, 3, 20, 200, 3072])
def test_sizes_ascend_to_the_cap_without_large_gaps(cap: int) -> None:
    sizes = sizes_of(cap)
    assert sizes[0] <= 2
    assert sizes[-1] == cap
    assert all(low < high <= 1.5 * low + 1 for low, high in itertools.pairwise(sizes))


def test_walks_on_the_sphere_begin_at_the_frame_of_the_theory() -> None:
    gradient = random(3, 40)
    walk = SphereWalk(gradient, 7, eps=0.4, seed=5)
    torch.testing.assert_close(walk.frame, 0.4 * gaas_frame(gradient, 7, seed=5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_walks_on_the_sphere_stay_orthonormal(count: int) -> None:
    walk = SphereWalk(random(3, 40), count, eps=0.4, seed=5)
    first = walk.frame
    for step in range(15):
        slope = random(3, count, 40, seed=step)
        slope[1] = slope[1, :1]  # all towards the same place, where there is room for one
        need = (random(3, count, seed=100 + step) > -0.5).float()
        walk.step(slope / slope.norm(dim=2, keepdim=True), need, 1.0)
        torch.testing.assert_close(grams(walk.frame), 0.16 * torch.eye(count).expand(3, -1, -1), rtol=0, atol=2e-6)
    assert (walk.frame - first).flatten(1).norm(dim=1).min() > 0.4


def test_small_steps_on_the_sphere_follow_the_gradient() -> None:
    walk = SphereWalk(random(2, 30), 4, eps=1.0, seed=0)
    before, slope = walk.frame.double(), random(2, 4, 30, seed=1)
    slope = slope / slope.norm(dim=2, keepdim=True)
    walk.step(slope, torch.ones(2, 4), 1e-3)
    moved = (walk.frame.double() - before) / 1e-3
    # The tangent space: UVᵀ + VUᵀ = 0. Of all its vectors the projection of the gradient is the nearest.
    inner = moved @ before.mT
    assert (inner + inner.mT).abs().amax() < 5e-3
    slope = slope.double()
    overlap = slope @ before.mT
    expected = slope - (overlap + overlap.mT) @ before / 2
    torch.testing.assert_close(moved, expected, rtol=0, atol=5e-3)


def test_only_those_that_need_it_gain() -> None:
    walk = SphereWalk(random(1, 60), 3, eps=1.0, seed=0)
    before, slope = walk.frame, random(1, 3, 60, seed=1)
    slope = slope / slope.norm(dim=2, keepdim=True)
    for _ in range(5):
        walk.step(slope, torch.tensor([[1.0, 0.0, 0.0]]), 0.3)
    gain = ((walk.frame - before) * slope).sum(2)[0]
    assert gain[0] > 0.5
    assert gain[1:].abs().max() < 0.3


def box_examples() -> Tensor:
    """Flat examples: all free; half on a bound, half free; all on a bound or near it; all but a few on a bound."""
    x = images(4, shape=(80,))
    x[1, :40] = (x[1, :40] > 0.5).float()
    x[2] = (x[2] > 0.5).float()
    x[2, :30] = 0.003
    x[3, :75] = 0.0
    x[:, -1], x[:, -2] = 1 + 1e-6, -1e-6  # outside by rounding
    return x


@pytest.mark.parametrize("eps", [0.2, 0.8, 5.0])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_walks_in_the_box_stay_inside_orthogonal_and_short(count: int, eps: float) -> None:
    x, gradient = box_examples(), random(4, 80)
    walk = BoxWalk(x, gradient, count, eps=eps, bounds=(0.0, 1.0), seed=3)
    first = walk.frame
    for step in range(15):
        frame = walk.frame
        assert frame.shape == (4, count, 80)
        moved = x[:, None] + frame
        assert moved.min() >= -1e-6
        assert moved.max() <= 1 + 1e-6
        assert ((moved[:, :, :-2] >= 0) & (moved[:, :, :-2] <= 1)).all()
        length = frame.double().norm(dim=2)
        assert length.max() <= eps * (1 + 1e-6)
        unit = frame.double() / length[:, :, None].clamp_min(1e-30)
        assert (unit @ unit.mT).tril(-1).abs().amax() < 2e-6
        if step == 0:
            assert length.amin() > 0.01 * eps
            assert ((frame * gradient[:, None]).sum(2) > 0).all()  # all uphill
        slope = random(4, count, 80, seed=step)
        walk.step(slope / slope.norm(dim=2, keepdim=True), (random(4, count, seed=50 + step) > 0).float(), 1.0)
    assert (walk.frame - first).flatten(1).norm(dim=1).min() > 0.1 * eps


def test_walks_in_the_box_begin_as_good_as_the_theory_where_there_is_room() -> None:
    # Four of 80 dimensions on a bound, the gradient away from it: little is lost of ε‖g‖/√k.
    x, gradient = images(2, shape=(80,)), random(2, 80)
    x[:, :4] = (gradient[:, :4] < 0).float()
    walk = BoxWalk(x, gradient, 4, eps=0.1, bounds=(0.0, 1.0), seed=0)
    assert (walk.frame[:, :, :4] != 0).sum() == 8
    gain = (walk.frame * gradient[:, None]).sum(2) / (0.1 * gradient.norm(dim=1, keepdim=True) / 2)
    assert gain.min() > 0.6
    assert gain.pow(2).mean().item() == pytest.approx(1, abs=0.05)
    free = BoxWalk(images(2, shape=(80,)), gradient, 4, eps=0.1, bounds=(0.0, 1.0), seed=0)
    torch.testing.assert_close(grams(free.frame), 0.01 * torch.eye(4).expand(2, -1, -1), rtol=0, atol=1e-7)
    products = (free.frame @ gradient[:, :, None])[:, :, 0]
    expected = (0.1 * gradient.norm(dim=1, keepdim=True) / 2).expand(-1, 4)
    torch.testing.assert_close(products, expected, rtol=1e-4, atol=0)


def test_a_free_dimension_that_meets_its_bound_shortens_the_perturbation() -> None:
    x = torch.full((1, 80), 0.6)
    walk = BoxWalk(x, random(1, 80), 3, eps=0.5, bounds=(0.0, 1.0), seed=0)
    frame, slope = walk.frame, torch.zeros(1, 3, 80)
    slope[0, 0, 7] = 1.0  # all the length on one dimension, which has room for 0.4
    for _ in range(20):
        walk.step(slope, torch.tensor([[1.0, 0.0, 0.0]]), 1.0)
        frame = walk.frame
        assert (x + frame).max() <= 1
        gram = (frame[0].double() @ frame[0].double().T).tril(-1)
        assert gram.abs().max() < 1e-7
    assert frame[0, 0, 7].item() == pytest.approx(0.4, abs=1e-6)
    assert frame[0, 0].norm().item() < 0.45
    torch.testing.assert_close(frame[0, 1:].norm(dim=1), torch.full((2,), 0.5))


def test_a_dimension_on_a_bound_goes_to_who_wants_it_most() -> None:
    x = torch.zeros(1, 6)
    walk = BoxWalk(x, torch.ones(1, 6), 2, eps=0.5, bounds=(0.0, 1.0), seed=0)
    first = walk.frame[0] > 0
    assert first.sum(0).tolist() == [1] * 6
    assert first.sum(1).tolist() == [3, 3]
    slope = torch.zeros(1, 2, 6)
    slope[0, 0, first[1].nonzero()[0]] = 1.0  # the first vector wants a dimension of the second
    walk.step(slope, torch.tensor([[1.0, 0.0]]), 1.0)
    second = walk.frame[0] > 0
    assert second.sum(0).tolist() == [1] * 6
    assert second.sum(1).tolist() == [4, 2]


def test_the_price_of_who_has_not_crossed_rises() -> None:
    # Both want all dimensions alike; only the first has to gain.
    walk = BoxWalk(torch.zeros(1, 40), torch.ones(1, 40), 2, eps=0.5, bounds=(0.0, 1.0), seed=0)
    slope = torch.linspace(1.0, 3.0, 40).expand(1, 2, -1) / 13
    slope = torch.stack([slope[0, 0], slope[0, 0].flip(0)])[None]
    owned = []
    for _ in range(5):
        walk.step(slope, torch.tensor([[1.0, 0.0]]), 1.0)
        owned.append(int((walk.frame[0, 0] > 0).sum()))
    assert owned == sorted(owned)
    assert owned[-1] > 30
    torch.testing.assert_close(walk.frame.norm(dim=2), torch.full((1, 2), 0.5))


def test_what_has_crossed_stays_where_nobody_needs_its_dimensions() -> None:
    x = torch.zeros(2, 40)
    walk = BoxWalk(x, random(2, 40).abs(), 3, eps=0.5, bounds=(0.0, 1.0), seed=0)
    first = walk.frame
    for step in range(5):
        slope = random(2, 3, 40, seed=step)
        walk.step(slope / slope.norm(dim=2, keepdim=True), torch.zeros(2, 3), 1.0)
        torch.testing.assert_close(walk.frame, first, rtol=0, atol=1e-7)
    slope = random(2, 3, 40, seed=9).abs()
    walk.step(slope / slope.norm(dim=2, keepdim=True), torch.tensor([[0.0, 1.0, 0.0]] * 2), 1.0)
    assert (walk.frame != first)[:, 1].any(1).all()


def test_walks_in_odd_bounds_stay_inside_to_the_last_bit() -> None:
    bounds = (-0.3, 0.7)
    low, high = torch.tensor(bounds)
    clf = bg.Classifier(SmallNet(), bounds=bounds, device="cpu")
    x = (((images(8, seed=1) - 0.5) * 3 + 0.5).clamp(0, 1) - 0.3).clamp(low, high)
    y = clf.predict(x)
    for method in ("gaas", "frame"):
        settings = {"method": method, "rule": "count", "steps": 6, "max_dimension": 12, "keep_directions": True}
        result = count_of(clf, x, y, eps=2.0, **settings)
        assert len(result.perturbations) > 20
        moved = x[result.owner] + result.perturbations
        assert (moved >= low).all()
        assert (moved <= high).all()
        assert result.orthogonality.max() < 1e-6
        assert result.largest_norm.max() <= 2.0 * (1 + 1e-6)


def found_by(clf: bg.Classifier, x: Tensor, *, advance: Any = lambda _: None, **settings: Any) -> FoundFrames:
    y = clf.predict(x)
    with clf.session(x, y) as session:
        gradient = clf.input_gradient(x, y, loss="margin")
        opponent = Opponent(clf, session, Goal(y, targeted=False), clf.margin(x, y))
        return optimised_frames([opponent], x, gradient, seed=0, advance=advance, **{"steps": 20, **settings})


@pytest.mark.parametrize("box", ["ignore", "clip", "feasible"])
def test_found_frames_are_what_is_reported(box: str) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = ((images(6, seed=1) - 0.5) * 2 + 0.5).clamp(0, 1)
    found = found_by(clf, x, box=box, cap=24, eps=1.2, steps=8)
    sizes = sizes_of(24)
    assert found.tried.shape == found.hits.shape == (6, len(sizes))
    assert (found.hits <= found.tried).all()
    assert all(set(row.tolist()) <= {0, *sizes} for row in found.tried)
    assert [len(rows) for rows in found.rows] == found.hits.amax(1).tolist()
    assert 2 < found.hits.amax(1).float().mean() < 24
    y = clf.predict(x)
    for i, rows in enumerate(found.rows):
        assert rows.dtype == torch.float32
        moved = x[i] + rows.view(-1, 3, 8, 8)
        if box != "ignore":
            assert moved.min() >= 0
            assert moved.max() <= 1
        with torch.no_grad():
            assert (clf.module.eval()(moved).argmax(1) != y[i]).all()


def test_examples_are_done_when_larger_frames_are_no_better() -> None:
    clf = bg.Classifier(Linear(torch.ones(30), 15.0), bounds=(-9, 9), device="cpu")
    x = torch.stack([torch.full((30,), 0.5 - h) for h in (0.02, 0.16, 0.2)])
    # The margins are 30h, the gradient's norm is √30: ⌊ε²/(30h²)⌋ directions fit.
    found = found_by(clf, x, box="ignore", cap=30, eps=1.0)
    sizes = sizes_of(30)
    assert found.hits.amax(1).tolist() == [30, 1, 0]
    assert found.tried[0].tolist() == found.hits[0].tolist() == list(sizes)
    for row in found.tried[1:].tolist():
        used = [size for size in row if size]
        assert len(used) < len(sizes)
        assert row == list(sizes[: len(used)]) + [0] * (len(sizes) - len(used))
    assert (found.hits[found.tried == 0] == 0).all()


@pytest.mark.parametrize("box", ["ignore", "clip"])
def test_steps_are_for_those_that_have_not_crossed(box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = 5 * random(40)
    x = ((images(20, shape=(40,)) - 0.5) * 3 + 0.5).clamp(0, 1)
    clf = bg.Classifier(Linear(weight, float((x @ weight).mean())), device="cpu")
    y = clf.predict(x)
    y[0] = 1 - y[0]  # excluded: what comes after it must not be mixed up with it
    looks = []

    class Seen(SphereWalk):
        def step(self, gradient: Tensor, need: Tensor, size: float) -> None:
            looks.append((self.frame.clone(), gradient, need, size))
            super().step(gradient, need, size)

    monkeypatch.setattr(frame_module, "SphereWalk", Seen)
    settings = {"eps": 1.0, "box": box, "grid": [1], "max_dimension": 5, "steps": 3}
    count_of(clf, x, y, method="frame", **settings)
    margin = clf.margin(x, y)[1:]
    whole = [look for look in looks if len(look[0]) == 19]
    assert len(whole) >= 3
    assert {round(size, 6) for *_, size in whole} == {1.0, 0.7, 0.4}
    done = 0
    for frame, gradient, need, _ in whole:
        moved = x[1:, None] + frame
        points = moved.clamp(0, 1) if box == "clip" else moved
        beyond = -clf.margin(points.flatten(0, 1).clamp(0, 1), y[1:].repeat_interleave(frame.shape[1]))
        if box == "ignore":
            beyond = (points @ weight - clf.module.get_parameter("offset").item()) * (1 - 2 * y[1:, None].float())
        far = beyond.view(need.shape) > 0.1 * margin[:, None]
        assert torch.equal(need == 0, far)
        done += int(far.sum())
        # Uphill, of length 1, and nothing where clipping would take it away.
        uphill = (weight * (1 - 2 * y[1:, None]))[:, None].expand_as(gradient)
        if box == "clip":
            uphill = torch.where((moved >= 1) & (uphill > 0) | (moved <= 0) & (uphill < 0), 0.0, uphill)
        torch.testing.assert_close(gradient, uphill / uphill.norm(dim=2, keepdim=True), rtol=1e-4, atol=1e-5)
    assert done > 0


def test_a_frame_that_succeeds_at_once_costs_one_look() -> None:
    clf = bg.Classifier(Linear(torch.ones(30), 15.0), bounds=(-9, 9), device="cpu")
    x = torch.full((2, 30), 0.49)
    before = clf.counts.backwards
    found_by(clf, x, box="ignore", cap=12, eps=1.0)
    assert clf.counts.backwards - before == 2 + 2 * sum(sizes_of(12))


def test_several_networks_have_to_be_fooled_at_once() -> None:
    # Half-spaces at right angles at distances a and b: with r·u > a and r·v > b, r·(au + bv)/√(a² + b²) > √(a² + b²).
    # Of length ε, ⌊ε²/(a² + b²)⌋ orthogonal ones have that, and no more (Bessel).
    u, v = torch.zeros(30), torch.zeros(30)
    u[::2], v[1::2] = 1 / 15**0.5, 1 / 15**0.5
    first, second = (bg.Classifier(Linear(w, 0.0), bounds=(-9, 9), device="cpu") for w in (u, 40 * v))
    squares, heights = torch.tensor([2.4, 4.5, 6.6]), torch.tensor([0.6, 0.3, 0.9])
    length = 1 / squares.sqrt()
    a, b = length * heights.sqrt(), length * (1 - heights).sqrt()
    x = -(a[:, None] * u + b[:, None] * v)
    y = torch.zeros(3, dtype=torch.int64)
    with first.session(x, y) as one, second.session(x, y) as other:
        opponents = [
            Opponent(clf, session, Goal(y, targeted=False), clf.margin(x, y))
            for clf, session in ((first, one), (second, other))
        ]
        found = optimised_frames(
            opponents, x, -x, eps=1.0, box="ignore", cap=12, steps=20, seed=0, advance=lambda _: None
        )
    assert (found.hits <= squares.floor()[:, None]).all()
    assert (found.hits.amax(1) >= 0.4 * squares).all()
    for i, rows in enumerate(found.rows):
        assert ((x[i] + rows) @ u > 0).all()
        assert ((x[i] + rows) @ v > 0).all()


def test_examples_may_be_split_and_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(5, seed=1)
    settings = {"box": "ignore", "cap": 11, "eps": 1.0, "steps": 4}
    whole = found_by(clf, x, **settings)
    monkeypatch.setattr(frame_module, "_WORKING_BYTES", 2 * 4 * 8 * 11 * 192)
    done, before = [], clf.counts.forwards
    parts = found_by(clf, x, advance=done.append, **settings)
    assert done == [2, 2, 1]
    assert torch.equal(parts.tried, whole.tried)
    assert torch.equal(parts.hits, whole.hits)
    assert clf.counts.forwards - before <= 3 * 5 + 5 * int(parts.tried.sum())  # labels, gradients and margins first


@pytest.mark.parametrize("dimension", [12, 16, 32])
def test_a_cube_has_as_many_directions_as_dimensions(dimension: int) -> None:
    # Along each axis the boundary is 0.1 away, ε is 0.17: the axes themselves are d orthogonal adversarial directions.
    # The gradient shows one face, which lets ⌊(0.17/0.096)²⌋ pass;
    # frames of sizes between that and d can do worse than smaller ones.
    clf = bg.Classifier(Cube(0.1), device="cpu")
    x = 0.5 + 0.01 * (images(6, shape=(dimension,)) - 0.5)
    y = clf.predict(x)
    settings = {"eps": 0.17, "box": "ignore", "grid": range(1, dimension + 1)}
    result = count_of(clf, x, y, method="frame", **settings)
    assert result.verified.tolist() == [dimension] * 6
    assert result.at_cap.all()
    assert result.orthogonality.max() < 1e-5
    assert result.first_order.tolist() == [3] * 6
    assert count_of(clf, x, y, **settings).verified.tolist() == [3] * 6


OPTIMA = (0.7, 1.3, 2.5, 4.6, 7.4, 10.5, 19.5)


@pytest.mark.parametrize("rule", ["all", "count"])
def test_half_spaces_hold_no_more_than_bessel_allows(rule: str) -> None:
    weight = random(40).pow(3)
    clf = bg.Classifier(Linear(weight, 0.0), bounds=(-9, 9), device="cpu")
    # k directions fit if kγ² ≤ ε²‖g‖²: distances of ε/√(k + a bit).
    distance = torch.tensor([0.5 / math.sqrt(optimum) for optimum in OPTIMA])
    x = distance[:, None] * weight / weight.norm()
    y = clf.predict(x)
    result = count_of(clf, x, y, eps=0.5, box="ignore", method="frame", rule=rule, grid=range(1, 31), steps=20)
    assert result.claimed.tolist() == [math.floor(optimum) for optimum in OPTIMA]
    assert torch.equal(result.verified, result.claimed)
    assert not result.closed.any()  # what a search does not find may exist
    assert (result.successes <= result.claimed[:, None]).all()
    # The optimised frames alone come nearly as far, at their own sizes.
    assert (result.successes.amax(1) >= 0.75 * result.claimed).all()


@pytest.mark.parametrize("box", ["ignore", "clip", "feasible"])
@pytest.mark.parametrize("rule", ["all", "count"])
def test_frames_find_no_less_than_the_theory_and_more_on_a_network(rule: str, box: str) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = ((images(6, seed=1) - 0.5) * 2 + 0.5).clamp(0, 1)
    y = clf.predict(x)
    settings = {"eps": 1.2, "box": box, "rule": rule, "max_dimension": 24, "restarts": 2}
    first = count_of(clf, x, y, **settings)
    result = count_of(clf, x, y, method="frame", steps=8, **settings)
    assert torch.equal(result.first_order, first.verified)
    assert (result.verified >= first.verified).all()
    more = 1.2 if box == "feasible" else 2
    assert result.verified.sum() > more * first.verified.sum()


def test_the_theory_counts_where_few_steps_find_less() -> None:
    # One step cannot repair what the box has taken from a frame: the groups of the theory are better.
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = ((images(24, seed=1) - 0.5) * 4 + 0.5).clamp(0, 1)
    y = clf.predict(x)
    settings = {"eps": 1.5, "box": "clip", "rule": "count", "restarts": 4, "max_dimension": 24}
    first = count_of(clf, x, y, **settings)
    result = count_of(clf, x, y, method="frame", steps=1, keep_directions=True, **settings)
    found = result.successes.amax(1)
    assert (found < first.verified).any()
    assert (found > first.verified).any()
    assert torch.equal(result.verified, torch.maximum(found, first.verified))
    assert torch.equal(torch.bincount(result.owner, minlength=24), result.verified)
