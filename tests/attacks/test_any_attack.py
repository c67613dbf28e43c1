"""Instruments under attacks of others: curves, the worst case of several attacks, and how the attack is recorded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from oracles import Linear, SmallNet, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks.worst_case_accuracy import WorstCaseAccuracy, worst_case_accuracy
from boundarygeo.results.statistics import share

SIZES = [0.0, 0.01, 0.03, 0.06, 0.1]


def problem(count: int = 24) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf, x = bg.Classifier(SmallNet()), images(count, seed=1)
    y = clf.predict(x)
    y[:3] = (y[:3] + 1) % 5  # misclassified to begin with
    return clf, x, y


def sign_step(module: nn.Module, x: Tensor, y: Tensor, eps: float, share: float = 1.0) -> Tensor:
    x = x.clone().requires_grad_()
    nn.functional.cross_entropy(module(x), y, reduction="sum").backward()
    return (x + share * eps * x.grad.sign()).detach()


def sign_step_inside(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return sign_step(module, x, y, eps).clamp(0, 1)


def nothing(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return x


def linear() -> tuple[bg.Classifier, Tensor, Tensor, Tensor]:
    """A linear classifier, examples far from the bounds, and their L∞ distances to its boundary."""
    weight = torch.randn(6, generator=torch.Generator().manual_seed(0))
    clf = bg.Classifier(Linear(weight, 0.1), bounds=(-20, 20))
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    distance = (x @ weight - 0.1).abs().double() / weight.double().abs().sum()
    return clf, x, clf.predict(x), distance


def test_a_curve_of_a_linear_classifier_is_the_share_farther_than_eps() -> None:
    clf, x, y, distance = linear()
    eps = [0.0, *distance.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()]
    curve = bg.accuracy_curve(clf, x, y, attack=sign_step, eps=eps)
    assert torch.equal(curve.correct, torch.stack([distance > size for size in eps]))
    assert curve.accuracy.tolist() == [share(int((distance > size).sum()), 200).value for size in eps]


def test_a_curve_calls_the_attack_once_for_each_eps_with_what_is_left(tmp_path) -> None:
    clf, x, y = problem()
    calls: list[tuple[float, int]] = []

    def noted(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        calls.append((eps, len(x)))
        return sign_step_inside(module, x, y, eps)

    curve = bg.accuracy_curve(clf, x, y, attack=noted, eps=SIZES)
    left = curve.correct.sum(1).tolist()
    assert left[0] == 21 > left[-1] > 0
    assert calls == list(zip(SIZES[1:], left[:-1], strict=True))
    each = [bg.external_attack(clf, x, y, attack=sign_step_inside, eps=size).found for size in SIZES[1:]]
    assert torch.equal(curve.correct[1:], ~torch.stack(each).cummax(0).values)
    assert (curve.attack, curve.provenance.seed) == ("noted", 0)
    assert curve.provenance.command == "accuracy_curve(attack=noted, norm='linf', eps=[0.0, 0.01, 0.03, 0.06, 0.1])"
    loaded = bg.load(curve.save(tmp_path / "curve.zarr"))
    assert loaded.attack == "noted"
    assert torch.equal(loaded.correct, curve.correct)


def test_a_curve_under_foolbox_is_foolbox() -> None:
    foolbox = pytest.importorskip("foolbox")
    clf, x, y = problem()
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    curve = bg.accuracy_curve(clf, x, y, attack=attack, eps=SIZES)
    model = foolbox.PyTorchModel(clf.module.eval(), bounds=(0, 1), device="cpu")
    _, _, success = attack(model, x, y, epsilons=SIZES[1:])
    assert torch.equal(curve.correct[1:], ~success.cummax(0).values)
    assert curve.attack == "foolbox.LinfFastGradientAttack"
    assert curve.provenance.command.startswith("accuracy_curve(attack=LinfFastGradientAttack(rel_stepsize=1.0, ")


def test_a_curve_needs_a_function_of_eps() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    clf, x, y = problem()
    settings = {"alpha": 0.02, "steps": 3, "random_start": False}
    attack = torchattacks.PGD(clf.module, eps=0.06, **settings)
    with pytest.raises(
        TypeError, match=r"torchattacks.PGD is made for one eps: pass e.g. lambda module, x, y, eps: tor"
    ):
        bg.accuracy_curve(clf, x, y, attack=attack, eps=SIZES)
    assert clf.counts.forwards == len(x)
    made = lambda module, x, y, eps: torchattacks.PGD(module, eps=eps, **settings)(x, y)  # noqa: E731
    curve = bg.accuracy_curve(clf, x, y, attack=made, eps=[0.0, 0.06])
    points = torchattacks.PGD(clf.module.eval(), eps=0.06, **settings)(x[3:], y[3:])
    assert torch.equal(curve.correct[1, 3:], clf.predict(points) == y[3:])
    assert curve.attack == "<lambda>"
    left = worst_case_accuracy(clf, x, y, attacks=[attack], eps=0.06)  # one eps: the object is enough
    assert torch.equal(left.correct, curve.correct[1])
    assert left.names == ("torchattacks.PGD",)
    assert "attacks=[PGD(model_name=SmallNet, " in left.provenance.command
    with pytest.raises(ValueError, match=r"attack PGD was made with eps=0.06, eps is 0.1"):
        worst_case_accuracy(clf, x, y, attacks=["pgd", attack], eps=0.1)


def test_the_worst_case_of_a_linear_classifier_is_the_share_farther_than_eps() -> None:
    clf, x, y, distance = linear()
    eps = float(distance.median())
    half = partial(sign_step, share=0.5)
    found = worst_case_accuracy(clf, x, y, attacks=[half, nothing, "fgsm", "pgd"], eps=eps)
    expected = torch.where(distance <= eps / 2, 0, torch.where(distance <= eps, 2, -1))
    assert torch.equal(found.by, expected)
    assert found.accuracy == share(int((distance > eps).sum()), 200)
    assert found.names == ("sign_step", "nothing", "fgsm", "pgd")
    command = "worst_case_accuracy(attacks=[partial(sign_step, share=0.5), nothing, 'fgsm', 'pgd'], "
    assert found.provenance.command.startswith(command)


def test_each_attack_gets_what_is_left_and_the_first_to_break_an_example_is_named(tmp_path) -> None:
    clf, x, y = problem()
    sizes: list[int] = []

    def noted(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        sizes.append(len(x))
        return x

    found = worst_case_accuracy(clf, x, y, attacks=[noted, "fgsm", noted, "pgd", noted], eps=0.08, index=range(5, 29))
    fgsm = bg.fgsm(clf, x, y, eps=0.08).found & found.clean
    pgd = bg.pgd(clf, x, y, eps=0.08, index=range(5, 29)).found & found.clean
    assert 0 < int(fgsm.sum()) < int((fgsm | pgd).sum()) < 21
    assert torch.equal(found.by, torch.where(fgsm, 1, torch.where(pgd, 3, -1)))
    assert found.clean.tolist() == [False] * 3 + [True] * 21
    assert torch.equal(found.correct, found.clean & ~fgsm & ~pgd)
    assert sizes == [21, 21 - int(fgsm.sum()), int(found.correct.sum())]
    assert found.provenance.forwards > 24
    loaded = bg.load(found.save(tmp_path / "worst.zarr"))
    assert isinstance(loaded, WorstCaseAccuracy)
    assert (loaded.names, loaded.accuracy) == (found.names, found.accuracy)
    assert torch.equal(loaded.by, found.by)


def test_the_order_decides_who_broke_it_and_not_what_is_left() -> None:
    clf, x, y = problem()
    one, other = (
        worst_case_accuracy(clf, x, y, attacks=attacks, eps=0.06)
        for attacks in (["fgsm", "apgd", "minimal_norm"], ["minimal_norm", "apgd", "fgsm"])
    )
    assert torch.equal(one.correct, other.correct)
    assert not torch.equal(one.by, other.by)


def test_examples_that_are_all_wrong_need_no_attack() -> None:
    clf, x, y = problem(3)
    found = worst_case_accuracy(clf, x, y, attacks=["fgsm"], eps=0.1)
    assert found.by.tolist() == [-1] * 3
    assert found.accuracy.value == 0
    assert clf.counts.forwards == 3 + 3  # those of `problem`, and the labels


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (partial(worst_case_accuracy, attacks=[], eps=0.1), ValueError, "attacks must be a list of one attack or more"),
        (partial(worst_case_accuracy, attacks="pgd", eps=0.1), ValueError, "attacks must be a list .* got 'pgd'"),
        (partial(worst_case_accuracy, attacks=["cw"], eps=0.1), ValueError, "attacks must be one of .*, got 'cw'"),
        (partial(worst_case_accuracy, attacks=[3], eps=0.1), TypeError, "attack must be a function .*, got int"),
        (partial(worst_case_accuracy, attacks=["pgd"], eps=-1), ValueError, "eps must be a finite number >= 0"),
        (partial(worst_case_accuracy, attacks=["pgd"], eps=0.1, norm="l1"), ValueError, "norm must be one of"),
        (partial(bg.accuracy_curve, attack=3, eps=[0.1]), TypeError, "attack must be a function .*, got int"),
        (
            partial(bg.accuracy_curve, attack=sign_step, eps=[0.1], steps=3),
            TypeError,
            r"settings of 'sign_step' must be any of \[\], got \['steps'\]",
        ),
    ],
)
def test_bad_settings_are_refused_before_work(call: Callable[..., Any], error: type, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    with pytest.raises(error, match=match):
        call(clf, images(3), torch.tensor([0, 1, 2]))
    assert clf.counts.forwards == 0
