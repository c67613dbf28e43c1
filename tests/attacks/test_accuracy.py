import math

import pytest
import torch
from oracles import Linear, SmallNet, images
from torch import Tensor

import boundarygeo as bg
from boundarygeo.attacks import fgsm, pgd
from boundarygeo.attacks.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.attacks.norms import NORMS
from boundarygeo.results.statistics import share

SEARCHES = {"pgd": {"steps": 40}, "apgd": {"steps": 40}, "strongest": {"steps": 20, "queries": 10}}
EPS = [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4]


def small_net(count: int = 40) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(SmallNet())
    x = images(count, seed=1)
    y = clf.predict(x)
    y[:4] = (y[:4] + 1) % 5  # misclassified to begin with
    return clf, x, y


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ["fgsm", *SEARCHES])
def test_accuracy_of_a_linear_classifier_is_the_share_farther_than_eps(attack: str, norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, generator=generator)
    clf = bg.Classifier(Linear(weight, 0.1), bounds=(-20, 20))
    x = torch.randn(200, 6, generator=generator)
    y = clf.predict(x)
    dual = weight.double().norm() if norm == "l2" else weight.double().abs().sum()
    distance = (x @ weight - 0.1).abs().double() / dual
    eps = distance.quantile(torch.tensor([0.1, 0.35, 0.5, 0.8, 0.999], dtype=torch.float64)).tolist()
    eps = eps[1::2] if attack == "strongest" else eps  # of which every size is a search
    curve = accuracy_curve(clf, x, y, attack=attack, norm=norm, eps=[0.0, *eps], **SEARCHES.get(attack, {}))
    expected = torch.stack([distance > size for size in curve.eps])
    near = ((distance - curve.eps[:, None]).abs() < 0.003 * curve.eps[:, None]) if attack in SEARCHES else False
    assert ((curve.correct == expected) | (near & ~expected)).float().mean() > 0.999  # some just inside may be missed
    torch.testing.assert_close(curve.accuracy, expected.double().mean(1), rtol=0, atol=0.006)
    assert curve.n == 200


def test_intervals_are_wilson_of_the_counts() -> None:
    clf, x, y = small_net()
    curve = accuracy_curve(clf, x, y, eps=EPS)
    for right, value, low, high in zip(curve.correct, curve.accuracy, curve.low, curve.high, strict=True):
        estimate = share(int(right.sum()), 40)
        assert (value.item(), low.item(), high.item()) == (estimate.value, estimate.low, estimate.high)
    assert curve.correct[0].tolist() == [False] * 4 + [True] * 36
    assert not curve.correct[:, :4].any()
    assert curve.accuracy[-1] < 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_plain(norm: str) -> None:
    clf, x, y = small_net()
    eps = [size * (10 if norm == "l2" else 1) for size in EPS]
    curve = accuracy_curve(clf, x, y, norm=norm, eps=eps)
    for size, right in zip(eps, curve.correct, strict=True):
        assert torch.equal(right, ~fgsm(clf, x, y, eps=size, norm=norm).found)
    assert curve.provenance.forwards == 40 + 36 * 6  # one gradient for all sizes
    assert curve.provenance.backwards == 40
    assert curve.provenance.seed is None


def test_fgsm_may_rise_again() -> None:
    class Band(torch.nn.Module):
        """Class 1 only between 0.4 and 0.6."""

        def forward(self, x: Tensor) -> Tensor:
            score = 0.1 - (x - 0.5).abs()
            return torch.cat([-score, score], 1)

    clf = bg.Classifier(Band())
    x, y = torch.tensor([[0.3]]), torch.tensor([0])
    assert accuracy_curve(clf, x, y, eps=[0.0, 0.2, 0.4]).accuracy.tolist() == [1, 0, 1]
    assert accuracy_curve(clf, x, y, attack="pgd", eps=[0.0, 0.2, 0.4]).accuracy.tolist() == [1, 0, 0]


@pytest.mark.parametrize("attack", SEARCHES)
def test_searches_are_called_with_their_settings_and_attack_only_what_is_left(attack: str) -> None:
    clf, x, y = small_net(10)
    settings = {"restarts": 2, "steps": 4} | ({"queries": 20} if attack == "strongest" else {})
    curve = accuracy_curve(clf, x, y, attack=attack, eps=[0.04, 0.065], seed=3, **settings)
    search = getattr(bg, attack)
    first = search(clf, x, y, eps=0.04, seed=3, **settings)
    assert torch.equal(curve.correct[0], ~first.found)
    left = first.found.logical_not().nonzero()[:, 0]
    second = search(clf, x[left], y[left], eps=0.065, seed=3, index=left, **settings)
    assert torch.equal(curve.correct[1, left], ~second.found)
    assert not curve.correct[1, first.found].any()
    assert 0 < second.found.sum() < len(left)
    given = ", ".join(f"{name}={value}" for name, value in settings.items())
    assert f"attack='{attack}', norm='linf', eps=[0.04, 0.065], {given})" in curve.provenance.command


def test_the_strongest_attack_leaves_the_least() -> None:
    clf, x, y = small_net(24)
    left = {
        attack: accuracy_curve(clf, x, y, attack=attack, eps=[0.065], steps=10).correct[0] for attack in ("pgd", "apgd")
    }
    worst = accuracy_curve(clf, x, y, attack="strongest", eps=[0.065], steps=10, queries=10).correct[0]
    assert not (worst & ~left["apgd"]).any()
    assert 0 < worst.sum() < left["pgd"].sum()


def test_pgd_is_monotone_and_attacks_only_what_is_left() -> None:
    clf, x, y = small_net()
    curve = accuracy_curve(clf, x, y, attack="pgd", eps=EPS, steps=3, restarts=2, seed=5)
    assert (curve.accuracy.diff() <= 0).all()
    assert not (curve.correct[1:] & ~curve.correct[:-1]).any()
    assert curve.accuracy[0] == 0.9
    assert curve.accuracy[-1] < curve.accuracy[3] < 0.9
    assert curve.provenance.seed == 5
    one = pgd(clf, x, y, eps=EPS[3], steps=3, restarts=2, seed=5)
    assert not (curve.correct[3] & one.found).any()
    again = accuracy_curve(clf, x, y, attack="pgd", eps=[0.0, *EPS[-1:] * 1], steps=3, seed=5)
    assert again.provenance.forwards < 40 + 36 * 5 + 1


def test_curves_depend_on_neither_splitting_nor_order() -> None:
    clf, x, y = small_net()
    settings = {"attack": "pgd", "eps": EPS, "steps": 3, "seed": 2}
    whole = accuracy_curve(clf, x, y, **settings)
    part = torch.arange(39, 9, -1)
    some = accuracy_curve(clf, x[part], y[part], index=part, **settings)
    assert torch.equal(some.correct, whole.correct[:, part])
    assert torch.equal(some.index, part)


def test_curves_are_saved_and_loaded(tmp_path) -> None:
    clf, x, y = small_net(6)
    curve = accuracy_curve(clf, x, y, attack="pgd", norm="l2", eps=torch.tensor([0.0, 0.5]), steps=2)
    loaded = bg.load(curve.save(tmp_path / "curve.zarr"))
    assert isinstance(loaded, AccuracyCurve)
    for name in ("eps", "accuracy", "low", "high", "correct", "index"):
        assert torch.equal(getattr(loaded, name), getattr(curve, name)), name
    assert (loaded.n, loaded.attack, loaded.norm) == (6, "pgd", "l2")
    assert "accuracy_curve(attack='pgd', norm='l2', eps=[0.0, 0.5], steps=2)" in loaded.provenance.command


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"eps": []}, ValueError, r"eps must be at least one size, in ascending order, got \[\]"),
        ({"eps": [0.1, 0.05]}, ValueError, r"eps must be at least one size, in ascending order, got \[0.1, 0.05\]"),
        ({"eps": [0.1, 0.1]}, ValueError, "eps must be at least one size, in ascending order"),
        ({"eps": [-0.1, 0.1]}, ValueError, "eps must be a finite number >= 0, in input units, got -0.1"),
        ({"eps": [0.1, math.inf]}, ValueError, "eps must be a finite number >= 0"),
        ({"eps": 0.1}, TypeError, "eps must be a list of numbers, got 0.1"),
        (
            {"attack": "cw"},
            ValueError,
            r"attack must be one of \['fgsm', 'pgd', 'apgd', 'square', 'strongest'\], got 'cw'",
        ),
        ({"norm": "l1"}, ValueError, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
        ({"steps": 3}, TypeError, r"settings of 'fgsm' must be any of \[\], got \['steps'\]"),
        (
            {"attack": "pgd", "targets": torch.tensor([1])},
            TypeError,
            r"settings of 'pgd' must be any of .*, got \['targets'\]",
        ),
        ({"attack": "apgd", "queries": 9}, TypeError, r"settings of 'apgd' must be any of \['steps', 'restarts'\]"),
        ({"attack": "strongest", "queries": 0}, ValueError, "queries must be a whole number, at least 1, got 0"),
        ({"attack": "strongest", "steps": 0}, ValueError, "steps must be a whole number, at least 1, got 0"),
        ({"attack": "pgd", "index": [1, 2]}, ValueError, "index must be 3 integers >= 0"),
        ({"attack": "pgd", "steps": 0}, ValueError, "steps must be a whole number"),
        ({"x": torch.rand(3, 3, 8, 8) + 1}, ValueError, "x must lie in"),
        ({"y": torch.tensor([0, 1])}, ValueError, "y must have shape"),
    ],
)
def test_bad_input_is_refused_before_work(change: dict, error: type, match: str) -> None:
    problem = {"x": images(3), "y": torch.tensor([0, 1, 2]), "eps": [0.1], **change}
    clf = bg.Classifier(SmallNet())
    with pytest.raises(error, match=match):
        accuracy_curve(clf, problem.pop("x"), problem.pop("y"), **problem)
    assert clf.counts.forwards == 0


@pytest.mark.parametrize("attack", ["fgsm", *SEARCHES])
def test_classes_that_do_not_exist_are_refused(attack: str) -> None:
    with pytest.raises(ValueError, match="y must be in"):
        accuracy_curve(bg.Classifier(SmallNet()), images(3), torch.tensor([0, 1, 5]), attack=attack, eps=[0.0])
