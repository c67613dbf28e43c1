from itertools import pairwise

import pytest
import torch
from oracles import Linear, SmallNet, Sphere, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import NORMS, apgd, apgd_targeted, minimal_norm, square, strongest, worst_case
from boundarygeo.attacks.norms import length

QUICK = {"steps": 10, "queries": 30}
EPS = {"l2": 0.62, "linf": 0.06}


def small_net(count: int = 12) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(SmallNet())
    x = images(count, seed=1)
    return clf, x, clf.predict(x)


class Rounded(nn.Module):
    """A network of images in eight grey values: the gradient of the rounding is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * 8).round() / 8)


class Sure(nn.Module):
    """A network whose logits are so large that softmax rounds to 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return 1e5 * self.net(x)


class Shattered(nn.Module):
    """A network with ripples that are too small to change a label and large enough to decide every gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.004 * torch.sin(5000 * x))


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_classifier_is_broken_where_the_ball_inside_the_bounds_reaches_the_boundary(norm: str) -> None:
    weight = torch.randn(12, generator=torch.Generator().manual_seed(0))
    x = torch.rand(30, 12, generator=torch.Generator().manual_seed(1))
    clf = bg.Classifier(Linear(weight, 0.3))
    y = clf.predict(x)
    eps = {"l2": 0.55, "linf": 0.2}[norm]
    # The largest gain of wᵀx in the ball and the box: for L∞ coordinate by coordinate, for L2 by bisection of the
    # multiplier t of δ_i = clamp(t w_i, room).
    towards = torch.where(y == 0, 1.0, -1.0)[:, None] * weight
    room = torch.where(towards > 0, 1 - x, x)
    if norm == "linf":
        delta = room.clamp_max(eps)
    else:
        low, high = torch.zeros(30, 1), torch.full((30, 1), 100.0)
        for _ in range(60):
            middle = (low + high) / 2
            short = torch.minimum(middle * towards.abs(), room).norm(dim=1, keepdim=True) < eps
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        delta = torch.minimum(low * towards.abs(), room)
    left = (delta * towards.abs()).sum(1) - (x @ weight - 0.3).abs()
    clear = left.abs() > 0.01 * eps * weight.norm()
    assert clear.sum() > 25
    result = strongest(clf, x, y, eps=eps, norm=norm, **QUICK)
    assert torch.equal(result.found[clear], (left > 0)[clear])
    assert 5 < result.found.sum() < 25


def test_a_sphere_is_reached_where_the_ball_does() -> None:
    centre = torch.full((1, 6, 6), 0.5)
    offset = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    offset *= torch.linspace(0.05, 0.45, 20)[:, None, None, None] / length(offset, "l2")[:, None, None, None]
    clf = bg.Classifier(Sphere(centre, 0.25))
    x = centre + offset
    distance = (length(offset, "l2") - 0.25).abs()
    result = strongest(clf, x, clf.predict(x), eps=0.1, norm="l2", steps=30, queries=30)
    assert torch.equal(result.found, distance < 0.1)


@pytest.mark.parametrize("norm", NORMS)
def test_the_worst_of_its_attacks_and_what_is_reported_is_so(norm: str) -> None:
    clf, x, y = small_net()
    y[:2] = (y[:2] + 1) % 5  # misclassified to begin with
    eps = EPS[norm]
    result = strongest(clf, x, y, eps=eps, norm=norm, seed=3, **QUICK)
    common = {"norm": norm, "seed": 3}
    each = [
        apgd(clf, x, y, eps=eps, steps=10, **common).found,
        minimal_norm(clf, x, y, eps=eps, **common).found,
        apgd_targeted(clf, x, y, eps=eps, steps=10, **common).found,
        square(clf, x, y, eps=eps, queries=30, **common).found,
    ]
    assert torch.equal(result.found, torch.stack(each).any(0))
    assert 2 < result.found.sum() < 12
    moved = length(result.x_adv.double() - x.double(), norm)
    assert moved.max() <= eps + 1e-6
    assert torch.equal(clf.predict(result.x_adv), result.predicted)
    assert torch.equal(result.found, result.predicted != y)
    assert torch.equal(result.x_adv[~result.found], x[~result.found])
    torch.testing.assert_close(result.distance, torch.where(result.found, moved, torch.inf))
    assert (result.attack, result.norm, result.eps, result.targets) == ("strongest", norm, eps, None)


def test_only_what_is_left_is_attacked_and_all_passes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = small_net()
    seen: list[tuple[str, list[int], int, int]] = []

    def noted(name: str):
        attack = getattr(worst_case, name)

        def call(clf, x, y, *, index, **settings):
            result = attack(clf, x, y, index=index, **settings)
            seen.append((name, index.tolist(), int(result.found.sum()), result.provenance.forwards))
            return result

        monkeypatch.setattr(worst_case, name, call)

    for name in ("apgd", "minimal_norm", "apgd_targeted", "square"):
        noted(name)
    result = strongest(clf, x, y, eps=EPS["l2"], norm="l2", index=torch.arange(5, 17), **QUICK)
    assert [name for name, *_ in seen] == ["apgd", "minimal_norm", "apgd_targeted", "square"]
    assert seen[0][1] == list(range(5, 17))
    for (_, before, found, _), (_, after, *_) in pairwise(seen):
        assert set(after) < set(before) or (found == 0 and after == before)
        assert len(after) == len(before) - found
    assert sum(found for _, _, found, _ in seen) == result.found.sum()
    assert result.provenance.forwards == sum(cost for *_, cost in seen)
    assert clf.counts.forwards == result.provenance.forwards + 12  # and those that gave the labels
    assert result.provenance.backwards > 0


@pytest.mark.parametrize("module", [Rounded, Sure, Shattered])
def test_masked_gradients_are_not_taken_for_robustness(module: type[nn.Module]) -> None:
    clf, x = bg.Classifier(module()), images(8, seed=1)
    y = clf.predict(x)
    settings = {"eps": 0.2, "steps": 10, "queries": 600}
    if module is Rounded:
        with pytest.warns(UserWarning, match="exactly zero"):
            found = strongest(clf, x, y, **settings).found
    else:
        found = strongest(clf, x, y, **settings).found
    assert found.all()


def test_results_depend_on_neither_order_nor_splitting() -> None:
    clf, x, y = small_net()
    settings = {"eps": EPS["linf"], "seed": 4, **QUICK}
    whole = strongest(clf, x, y, **settings)
    part = torch.arange(11, 1, -3)
    some = strongest(clf.with_batch_size(3), x[part], y[part], index=part, **settings)
    torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-5)
    assert torch.equal(some.found, whole.found[part])
    assert torch.equal(some.index, part)


def test_examples_are_saved_and_loaded(tmp_path) -> None:
    clf, x, y = small_net(3)
    result = strongest(clf, x, y, eps=0.05, **QUICK)
    loaded = bg.load(result.save(tmp_path / "worst.zarr"))
    assert torch.equal(loaded.x_adv, result.x_adv)
    expected = "strongest(eps=0.05, norm='linf', steps=10, queries=30, restarts=1)"
    assert loaded.provenance.command == expected


def test_a_module_that_cannot_be_differentiated_is_an_error_and_not_robust() -> None:
    class Detached(SmallNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach()).detach()

    with pytest.raises(ValueError, match="the module has no gradient"):
        strongest(bg.Classifier(Detached()), images(3), torch.tensor([0, 1, 2]), eps=0.1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"eps": -1}, "eps must be a finite number >= 0"),
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"queries": 0}, "queries must be a whole number, at least 1, got 0"),
        ({"restarts": 0}, "restarts must be a whole number, at least 1, got 0"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"index": [1]}, "index must be 3 integers"),
        ({"x": torch.rand(3, 3, 8, 8) + 1}, "x must lie in"),
        ({"y": torch.tensor([0, 1])}, "y must have shape"),
    ],
)
def test_bad_settings_are_refused_before_work(change: dict, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    problem = {"x": images(3), "y": torch.tensor([0, 1, 2]), "eps": 0.1, **change}
    with pytest.raises(ValueError, match=match):
        strongest(clf, problem.pop("x"), problem.pop("y"), **problem)
    assert clf.counts.forwards == 0
