"""Directions that fool several models: the common ascent, closed forms, and chance."""

import math

import pytest
import torch
from oracles import Linear, SmallNet, images
from scipy import optimize

import boundarygeo as bg
from boundarygeo.subspace.goal import Turn
from boundarygeo.transfer.cone import common_ascent
from boundarygeo.transfer.shared import shared_dimension


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 30.0, 90.0, 150.0])
def test_common_ascent_of_two_unit_vectors_is_between_them(degrees: float) -> None:
    angle = math.radians(degrees)
    a = torch.tensor([[[1.0, 0.0], [math.cos(angle), math.sin(angle)]]], dtype=torch.float64)
    h, slope = common_ascent(a)
    torch.testing.assert_close(h[0], torch.tensor([math.cos(angle / 2), math.sin(angle / 2)], dtype=torch.float64))
    assert float(slope[0]) == pytest.approx(math.cos(angle / 2), abs=1e-9)


def test_a_short_vector_in_the_way_decides_alone_and_opposite_ones_have_no_common_ascent() -> None:
    h, slope = common_ascent(torch.tensor([[[1.0, 0.0], [9.0, 3.0]], [[1.0, 2.0], [-2.0, -4.0]]]))
    assert h.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert slope.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_common_ascent_against_a_general_solver(scale: float) -> None:
    a = scale * (torch.randn(8, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5)
    h, slope = common_ascent(a)
    for vectors, found, direction in zip(a / scale, slope / scale, h, strict=True):
        hull = optimize.minimize(
            lambda w, v=vectors.numpy(): float(((w @ v) ** 2).sum()),
            x0=[0.25] * 4,
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert float(found) == pytest.approx(math.sqrt(hull.fun), abs=1e-5)
        if found > 0:
            assert float(direction.norm()) == pytest.approx(1)


def test_too_many_models_for_the_search_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 10 models can be searched together, got 11"):
        common_ascent(torch.zeros(1, 11, 3))


def test_a_turn_is_orthogonal_and_goes_back() -> None:
    turn = Turn(torch.Size([3, 4, 4]), seed=1, draw=2)
    v, w = (torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    assert torch.equal(turn.back(turn(v)), v)
    assert torch.equal(turn(turn.back(v)), v)
    torch.testing.assert_close((turn(v) * w).flatten(1).sum(1), (v * turn.back(w)).flatten(1).sum(1))
    assert not torch.equal(turn(v), Turn(torch.Size([3, 4, 4]), seed=1, draw=3)(v))


@pytest.mark.parametrize("box", ["ignore", "feasible"])
@pytest.mark.parametrize("method", ["gaas", "frame"])
def test_a_model_shares_all_its_directions_with_itself(box: str, method: str) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(5, seed=1)
    y = clf.predict(x)
    settings = {"eps": 3.0, "box": box, "max_dimension": 12, "progress": False}
    alone = bg.adversarial_dimension(clf, x, y, **settings)
    shared = shared_dimension([clf, clf], x, y, method=method, steps=20, **settings)
    assert torch.equal(shared.claimed, alone.claimed)
    assert torch.allclose(shared.cosine, torch.ones(5, dtype=torch.float64))
    if method == "gaas":
        assert torch.equal(shared.verified, alone.verified)
    else:
        assert torch.equal(shared.first_order, alone.verified)
        assert (shared.verified >= alone.verified).all()
    assert alone.verified.sum() > 5


def linear(weight: list[float], offset: float) -> bg.Classifier:
    return bg.Classifier(Linear(torch.tensor(weight), offset), bounds=(-9, 9), device="cpu")


def test_two_hyperplanes_at_a_right_angle() -> None:
    # Margins of 1 with gradients 2e₁ and 2e₂ at the origin: h lies half way, and h·g/γ = 2/√2.
    models = {"first": linear([2.0, 0, 0, 0, 0, 0, 0, 0], 1.0), "second": linear([0, 2.0, 0, 0, 0, 0, 0, 0], 1.0)}
    x, y = torch.zeros(1, 8), torch.tensor([0])
    for eps, claimed in ((0.7, 0), (0.71, 1), (1.01, 2), (2.01, 8)):
        result = shared_dimension(models, x, y, eps=eps, box="ignore", grid=[1], progress=False)
        assert result.claimed.tolist() == [claimed]
        assert result.verified.tolist() == [int(claimed > 0)]  # h alone
        assert result.names == ("first", "second")
    # Each direction needs a share of both planes: Bessel's inequality allows ⌊4ε²⌋, were they not shared.
    best = shared_dimension(models, x, y, eps=1.01, box="ignore", method="frame", steps=100, progress=False)
    assert 2 <= int(best.verified) <= 4


def test_opposite_hyperplanes_share_nothing() -> None:
    models = [linear([1.0, 0, 0], 0.5), linear([-1.0, 0, 0], 0.5)]
    result = shared_dimension(models, torch.zeros(2, 3), torch.tensor([0, 0]), eps=5.0, box="ignore", progress=False)
    assert not result.valid.any()
    assert not result.found.any()
    assert result.claimed.tolist() == [0, 0]


@pytest.mark.parametrize("box", ["ignore", "feasible"])
def test_directions_fool_every_model(box: str) -> None:
    modules = [SmallNet(), SmallNet()]
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in modules[1].parameters():
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=noise)
    several = [bg.Classifier(module, device="cpu") for module in modules]
    x = images(12, seed=1)
    y = several[0].predict(x)
    y[0] = (several[1].predict(x[:1]) + 1) % 5  # wrong for the second
    settings = {"method": "frame", "max_dimension": 6, "steps": 20, "keep_directions": True, "progress": False}
    result = shared_dimension(several, x, y, eps=2.0, box=box, **settings)
    assert result.correct.tolist() == torch.stack([clf.predict(x) == y for clf in several]).all(0).tolist()
    assert not result.correct[0]
    assert result.verified[~result.correct].sum() == 0
    assert result.verified.sum() > 12
    assert result.perturbations is not None
    assert result.owner is not None
    assert torch.equal(torch.bincount(result.owner, minlength=12), result.verified)
    points = x[result.owner] + result.perturbations
    for clf in several:
        with torch.no_grad():
            assert (clf.module.eval()(points).argmax(1) != y[result.owner]).all()
    assert result.orthogonality.max() < 1e-5
    assert result.perturbations.flatten(1).norm(dim=1).max() < 2.0 * (1 + 1e-5)
    if box == "feasible":
        assert points.min() >= 0
        assert points.max() <= 1
        assert result.null_verified is None


def test_the_null_is_chance_for_parallel_hyperplanes() -> None:
    weight = torch.ones(64).tolist()
    models = [linear(weight, 4.0), linear(weight, 4.0)]
    x, y = torch.zeros(3, 64), torch.zeros(3, dtype=torch.int64)
    # The distance is ½: ⌊(ε/½)²⌋ = 36 directions together; rotated gradients are orthogonal but for chance: half of it.
    result = shared_dimension(models, x, y, eps=3.01, box="ignore", seed=3, progress=False)
    assert result.verified.tolist() == [36, 36, 36]
    assert (result.null_claimed < 27).all()
    assert (result.null_claimed > 9).all()
    assert result.null_verified is not None
    assert (result.null_verified < 36).all()


def test_the_null_is_the_dimension_of_models_with_rotated_weights() -> None:
    weight = torch.linspace(0.5, 1.5, 64)
    turned = Turn(torch.Size([64]), seed=3, draw=1).back(weight[None])[0]
    x, y = torch.zeros(1, 64), torch.zeros(1).long()
    settings = {"eps": 5.0, "box": "ignore", "seed": 3, "progress": False}
    first = linear(weight.tolist(), 3.0)
    null = shared_dimension([first, linear(weight.tolist(), 5.0)], x, y, **settings)
    rotated = shared_dimension([first, linear(turned.tolist(), 5.0)], x, y, **settings)
    assert null.null_claimed.tolist() == rotated.claimed.tolist()
    assert null.null_verified is not None
    assert null.null_verified.tolist() == rotated.verified.tolist()
    assert 1 < int(rotated.verified) < int(null.verified)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "linf"}, "shared_dimension works in L2 only: pass norm='l2', got 'linf'"),
        ({"eps": 0.0}, "eps must be a positive number, got 0.0"),
        ({"classifiers": [linear([1.0, 0, 0], 0.5)]}, "pass at least two classifiers, got 1"),
        ({"method": "sequential"}, "method must be one of"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    models = [linear([1.0, 0, 0], 0.5), linear([0, 1.0, 0], 0.5)]
    arguments = {"classifiers": models, "x": torch.zeros(2, 3), "y": torch.tensor([0, 0]), "eps": 1.0} | change
    with pytest.raises(ValueError, match=message):
        shared_dimension(**arguments)
