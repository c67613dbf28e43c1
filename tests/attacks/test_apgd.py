import math

import pytest
import torch
import torch.nn.functional as F
from oracles import Linear, SmallNet, Sphere, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import NORMS, apgd, apgd_targeted, pgd
from boundarygeo.attacks.adaptive_gradient import _check, _Climbers, _periods
from boundarygeo.attacks.norms import length, random_in_ball
from boundarygeo.losses import dlr, loss_of, targeted_dlr

ATTACKS = {"apgd": apgd, "apgd_targeted": apgd_targeted}
EPS = {"l2": 0.7, "linf": 0.07}  # about half of the small net's images are nearer to the boundary


def small_net(count: int = 24) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(SmallNet())
    x = images(count, seed=1)
    return clf, x, clf.predict(x)


def project(delta: Tensor, eps: float, norm: str) -> Tensor:
    return delta.clamp(-eps, eps) if norm == "linf" else delta * min(1.0, eps / max(float(delta.norm()), 1e-30))


def by_hand(module: nn.Module, loss, x: Tensor, y: int, start: Tensor, *, eps: float, norm: str, steps: int) -> Tensor:
    """Algorithm 1 of Croce & Hein 2020 for one input, as the paper writes it; the misclassified or best point."""

    def look(point: Tensor) -> tuple[float, Tensor, int]:
        point = point.clone().requires_grad_()
        logits = module(point[None])
        value = loss(logits, torch.tensor([y]))
        (slope,) = torch.autograd.grad(value.sum(), point)
        gradient = slope.sign() if norm == "linf" else slope / slope.norm().clamp_min(1e-30)
        return value.item(), gradient, int(logits.argmax())

    def inside(point: Tensor) -> Tensor:
        return (x + project(point - x, eps, norm)).clamp(0, 1)

    share, checkpoints = [0, 22], []
    while share[-1] <= 100:
        checkpoints.append(share[-1] * steps // 100)
        share.append(share[-1] + max(share[-1] - share[-2] - 3, 6))
    former = point = best = start
    value, gradient, label = look(point)
    if label != y:
        return point
    largest, steepest, stride = value, gradient, 2 * eps
    values, since, checked, halved = [value], 0, -math.inf, True
    for step in range(1, steps + 1):
        ahead = inside(point + stride * gradient)
        if step > 1:
            ahead = inside(point + 0.75 * (ahead - point) + 0.25 * (point - former))
        former, point = point, ahead
        value, gradient, label = look(point)
        if label != y:
            return point
        values.append(value)
        if value > largest:
            largest, best, steepest = value, point, gradient
        if step in checkpoints:
            rises = sum(values[i] > values[i - 1] for i in range(since + 1, step + 1))
            halved = rises <= 0.75 * (step - since) or (not halved and checked == largest)
            since, checked = step, largest
            if halved:
                stride, point, gradient = stride / 2, best, steepest
    return best


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_every_step_is_that_of_the_paper(loss: str, norm: str) -> None:
    clf, x, y = small_net(6)
    eps, steps = EPS[norm], 100
    found = apgd(clf, x, y, eps=eps, norm=norm, loss=loss, steps=steps, seed=3)
    drawn = random_in_ball(x.shape[1:], torch.arange(6), norm, seed=3, draw=0)
    value = dlr if loss == "dlr" else lambda logits, y: loss_of(logits, y, "log_odds")
    module = clf.module.eval()
    for i in range(6):
        start = (x[i] + eps * drawn[i]).clamp(0, 1)
        expected = by_hand(module, value, x[i], int(y[i]), start, eps=eps, norm=norm, steps=steps)
        torch.testing.assert_close(found.x_adv[i], expected, rtol=0, atol=2e-4)
    assert 0 < found.found.sum() < 6


def test_checkpoints_are_those_of_the_paper() -> None:
    assert list(_periods(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(_periods(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(_periods(1)) == [1]


def test_a_step_is_halved_by_each_of_the_two_conditions() -> None:
    # In a row: too few rises; neither largest loss nor step changed; a larger loss; halved the time before.
    zeros, ones = torch.zeros(4, 2), torch.ones(4, 2)
    climbers = _Climbers.at(zeros, zeros, torch.zeros(4).long(), torch.zeros(4).long(), 0.2)
    climbers.rises = torch.tensor([12, 13, 13, 13])
    climbers.halved = torch.tensor([True, False, False, True])
    climbers.best, climbers.best_loss = ones, torch.tensor([1.0, 0.0, 1.0, 0.0])
    climbers.checked = torch.zeros(4)
    _check(climbers, 16)
    assert climbers.halved.tolist() == [True, True, False, False]
    assert climbers.stride.tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert climbers.points[:, 0].tolist() == [1, 1, 0, 0]
    assert climbers.rises.tolist() == [0] * 4
    assert torch.equal(climbers.checked, climbers.best_loss)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_losses_are_the_ratios_of_the_paper(classes: int) -> None:
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0)).double()
    y, targets = torch.arange(50) % classes, (torch.arange(50) + 1) % classes
    for row, c, t, untargeted, targeted in zip(
        logits.tolist(), y.tolist(), targets.tolist(), dlr(logits, y), targeted_dlr(logits, y, targets), strict=True
    ):
        falling = sorted(row, reverse=True)
        other = max(value for i, value in enumerate(row) if i != c)
        third, fourth = (falling + 4 * [math.nan])[2:4]
        spread = 1 if classes == 2 else falling[0] - third
        assert untargeted.item() == pytest.approx((other - row[c]) / spread)
        spread = falling[0] - (third + fourth) / 2 if classes > 3 else 1
        assert targeted.item() == pytest.approx((row[t] - row[c]) / spread)


def test_the_least_likely_of_three_classes_is_reached() -> None:
    linear = torch.nn.Linear(2, 3)
    linear.weight.data = torch.tensor([[0.0, 0.0], [0.0, 0.01], [10.0, 0.0]])
    linear.bias.data = torch.tensor([0.0, -0.1, -5.5])
    x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    result = apgd_targeted(bg.Classifier(linear), x, y, eps=0.1)
    assert result.predicted.tolist() == [2]


def test_ratios_do_not_depend_on_the_scale_of_the_logits_and_equal_logits_give_no_nan() -> None:
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    y, targets = torch.arange(20) % 6, (torch.arange(20) + 2) % 6
    torch.testing.assert_close(dlr(1e6 * logits - 3, y), dlr(logits, y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(targeted_dlr(1e6 * logits, y, targets), targeted_dlr(logits, y, targets))
    assert torch.equal(dlr(torch.ones(1, 5), torch.tensor([2])), torch.zeros(1))


def test_gradients_of_any_loss() -> None:
    clf, x, y = small_net(5)
    inputs = x.clone().requires_grad_()
    logits = clf.module.eval()(inputs)
    (expected,) = torch.autograd.grad((F.cross_entropy(logits, y, reduction="none") ** 2).sum(), inputs)
    with clf.session(x, y) as session:
        found = session.differentiate(x, y, lambda logits, y: F.cross_entropy(logits, y, reduction="none") ** 2)
    torch.testing.assert_close(found[0], logits.detach())
    torch.testing.assert_close(found[1], expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hyperplane_is_reached_exactly_where_the_ball_inside_the_bounds_reaches_it(attack: str, norm: str) -> None:
    # From (0.9, 0.2) the boundary 3a + b = 3.5 is 0.6 away in wᵀx, and a can only move by 0.1: b must move by 0.3.
    clf = bg.Classifier(Linear(torch.tensor([3.0, 1.0]), 3.5))
    x = torch.tensor([[0.9, 0.2]])
    distance = {"linf": 0.3, "l2": math.sqrt(0.1)}[norm]
    for factor, reached in ((1.01, True), (0.99, False)):
        result = ATTACKS[attack](clf, x, clf.predict(x), eps=factor * distance, norm=norm)
        assert result.found.item() is reached
        assert result.x_adv.max() <= 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_sphere_is_reached_where_the_ball_does(attack: str) -> None:
    centre = torch.full((1, 6, 6), 0.5)
    offset = torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    offset *= torch.linspace(0.05, 0.45, 30)[:, None, None, None] / length(offset, "l2")[:, None, None, None]
    clf = bg.Classifier(Sphere(centre, 0.25))
    x = centre + offset
    distance = (length(offset, "l2") - 0.25).abs()
    result = ATTACKS[attack](clf, x, clf.predict(x), eps=0.1, norm="l2")
    assert torch.equal(result.found[(distance - 0.1).abs() > 1e-3], (distance < 0.1)[(distance - 0.1).abs() > 1e-3])


@pytest.mark.parametrize("norm", NORMS)
def test_a_class_that_is_the_least_likely_at_the_input_is_reached(norm: str) -> None:
    # The others hardly depend on the input; the last class's boundary is 0.1 away.
    module = nn.Linear(2, 5)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0, 0.1], [0, 0.2], [0, -0.1], [0, 0.3], [60, 0]]))
        module.bias.copy_(torch.tensor([5.0, 4, 3, 2, -31]))
    clf, x = bg.Classifier(module), torch.full((20, 2), 0.5)
    y = torch.zeros(20, dtype=torch.int64)
    few, all_others = (apgd_targeted(clf, x, y, eps=0.101, norm=norm, target_count=count) for count in (1, 9))
    assert few.found.sum() < 20
    assert all_others.predicted.tolist() == [4] * 20


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_reported_is_so(attack: str, norm: str) -> None:
    clf, x, y = small_net()
    y[:3] = (y[:3] + 1) % 5  # misclassified to begin with
    result = ATTACKS[attack](clf, x, y, eps=EPS[norm], norm=norm, steps=20)
    moved = length(result.x_adv.double() - x.double(), norm)
    assert moved.max() <= EPS[norm] + 1e-6
    assert torch.equal(clf.predict(result.x_adv), result.predicted)
    assert torch.equal(result.found, result.predicted != y)
    assert 3 < result.found.sum() < 24
    assert torch.equal(result.x_adv[:3], x[:3])
    torch.testing.assert_close(result.distance, torch.where(result.found, moved, torch.inf))
    assert (result.attack, result.eps, result.targets) == (attack, EPS[norm], None)


def test_bounds_hold_where_they_are_active() -> None:
    clf = bg.Classifier(SmallNet())
    x = torch.randint(0, 2, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    result = apgd(clf, x, clf.predict(x), eps=0.1, steps=10)
    assert result.x_adv.min() == 0
    assert result.x_adv.max() == 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_results_depend_on_neither_order_nor_splitting(attack: str, norm: str) -> None:
    clf, x, y = small_net(20)
    settings = {"eps": EPS[norm], "norm": norm, "steps": 6, "seed": 4, "restarts": 2}
    whole = ATTACKS[attack](clf, x, y, **settings)
    part = torch.arange(19, 3, -3)
    some = ATTACKS[attack](clf.with_batch_size(3), x[part], y[part], index=part, **settings)
    assert 0 < some.found.sum() < len(part)
    assert torch.equal(some.found, whole.found[part])
    torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-5)
    assert torch.equal(some.index, part)


@pytest.mark.parametrize("attack", ATTACKS)
def test_restarts_are_never_worse_and_passes_are_counted(attack: str) -> None:
    clf, x, y = small_net()
    eps, steps = EPS["linf"], 3
    once, often = (ATTACKS[attack](clf, x, y, eps=eps, steps=steps, restarts=count) for count in (1, 6))
    assert not (once.found & ~often.found).any()
    assert once.found.sum() < often.found.sum() or attack == "apgd_targeted"
    assert torch.equal(once.x_adv[once.found], often.x_adv[once.found])
    tries = {"apgd": 1, "apgd_targeted": 4}[attack]
    robust = int((~once.found).sum())
    least = 24 + robust * tries * (steps + 1)
    assert least <= once.provenance.forwards <= 24 + 24 * tries * (steps + 1)
    assert robust * tries * steps <= once.provenance.backwards < once.provenance.forwards - robust * tries


def test_more_than_pgd_of_as_many_steps() -> None:
    clf, x, y = small_net()
    plain, own, targeted = (attack(clf, x, y, eps=0.065, steps=20).found for attack in (pgd, apgd, apgd_targeted))
    assert plain.sum() < (own | targeted).sum() < 24


def test_a_module_so_sure_that_the_cross_entropy_is_zero_is_attacked() -> None:
    module = SmallNet()
    with torch.no_grad():
        module.head.weight *= 1e4
        module.head.bias *= 1e4
    clf, x = bg.Classifier(module), images(12)
    y = clf.predict(x)
    assert (F.cross_entropy(clf.logits(x), y) == 0).all()
    usual = apgd(bg.Classifier(SmallNet()), x, y, eps=0.07).found
    for loss in ("cross_entropy", "dlr"):
        assert torch.equal(apgd(clf, x, y, eps=0.07, loss=loss).found, usual)
    assert usual.any()


@pytest.mark.parametrize(
    ("attack", "change", "match"),
    [
        ("apgd", {"eps": -0.1}, "eps must be a finite number >= 0"),
        ("apgd", {"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ("apgd", {"restarts": 0.5}, "restarts must be a whole number"),
        ("apgd", {"loss": "margin"}, r"loss must be one of \['cross_entropy', 'dlr'\], got 'margin'"),
        ("apgd", {"norm": "l1"}, "norm must be one of"),
        ("apgd_targeted", {"target_count": 0}, "target_count must be a whole number, at least 1, got 0"),
        ("apgd_targeted", {"index": [1]}, "index must be 3 integers"),
    ],
)
def test_bad_settings_are_refused_before_work(attack: str, change: dict, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    with pytest.raises(ValueError, match=match):
        ATTACKS[attack](clf, images(3), torch.tensor([0, 1, 2]), **{"eps": 0.1, **change})
    assert clf.counts.forwards == 0
