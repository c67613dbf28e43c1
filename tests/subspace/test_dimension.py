"""Counts of adversarial directions: closed forms for half-spaces and balls, and a recount of all that is reported."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Checkerboard, Linear, SmallNet, Sphere, images
from subspaces import count_of, random
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.frames.search import dimension_of
from boundarygeo.subspace.goal import Goal
from boundarygeo.subspace.verification import chunks

RULES = ("all", "count")
BOXES = ("ignore", "clip", "feasible")
METHODS = ("gaas", "frame")

# ε²‖g‖²/γ² of examples, whose whole part is the count; not near a whole number, where rounding would decide.
SHARES = (0.3, 0.9, 1.1, 1.9, 2.5, 3.6, 7.4, 10.5, 19.5, 26.3, 41.0)
DIMENSION = 30


def directions(result: bg.AdversarialDimension) -> tuple[Any, Any, Any]:
    """Perturbations, their examples, and the classes predicted there."""
    assert len(result.perturbations) == len(result.owner) == len(result.adversarial_label) == int(result.verified.sum())
    return result.perturbations, result.owner, result.adversarial_label


def weight_of(clf: bg.Classifier) -> Tensor:
    return clf.module.weight.detach()


def half_spaces(eps: float, **settings: Any) -> tuple[bg.Classifier, Tensor, Tensor, list[int]]:
    """Examples on both sides of a hyperplane, with room for a known number of directions of norm ε."""
    weight = random(DIMENSION).pow(3)
    clf = bg.Classifier(Linear(weight, 0.4), bounds=(-50, 50), device="cpu", **settings)
    distance = torch.tensor([eps / math.sqrt(share) for share in SHARES]) * torch.tensor([1, -1] * 5 + [1])
    along = random(len(SHARES), DIMENSION, seed=1)
    along -= (along @ weight)[:, None] * weight / weight.square().sum()
    on_plane = along + 0.4 * weight / weight.square().sum()
    x = on_plane + distance[:, None] * weight / weight.norm()
    mean, std = settings.get("mean", 0.0), settings.get("std", 1.0)
    return clf, x * std + mean, clf.predict(x * std + mean), [min(DIMENSION, int(share)) for share in SHARES]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["margin", "log_odds"])
def test_a_half_space_has_as_many_as_the_theory_says(loss: str, rule: str) -> None:
    clf, x, y, expected = half_spaces(0.7)
    assert len(y.unique()) == 2
    result = count_of(clf, x, y, eps=0.7, box="ignore", rule=rule, loss=loss, grid=range(1, DIMENSION + 1))
    assert result.claimed.tolist() == expected
    assert result.verified.tolist() == expected
    assert result.found.tolist() == [count > 0 for count in expected]
    assert result.at_cap.tolist() == [count == DIMENSION for count in expected]
    assert result.correct.all()
    assert result.valid.all()
    # All directions gain the same: a frame succeeds as a whole or not at all.
    assert torch.equal(result.successes, torch.where(result.tried <= torch.tensor(expected)[:, None], result.tried, 0))


def test_eps_is_in_input_units_whatever_the_normalisation() -> None:
    clf, x, y, expected = half_spaces(0.7, mean=0.3, std=0.5)
    result = count_of(clf, x, y, eps=0.35, box="ignore", grid=range(1, DIMENSION + 1))
    assert result.verified.tolist() == result.claimed.tolist() == expected
    torch.testing.assert_close(result.largest_norm[result.found], torch.full((9,), 0.35).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(result.gradient_norm, torch.full((11,), 2 * float(weight_of(clf).norm())).double())


def test_a_cap_cuts_counts_off_and_says_so() -> None:
    clf, x, y, expected = half_spaces(0.7)
    for settings in ({"max_dimension": 7}, {"max_dimension": 20, "grid": range(1, 8)}):
        result = count_of(clf, x, y, eps=0.7, box="ignore", **settings)
        assert result.verified.tolist() == [min(7, count) for count in expected]
        assert result.at_cap.tolist() == [count >= 7 for count in expected]
        assert result.claimed.tolist() == expected  # theory knows no cap
        assert result.max_dimension == 7


def test_a_thousand_examples_are_counted_like_one() -> None:
    clf, x, y, expected = half_spaces(0.7)
    settings = {"eps": 0.7, "box": "ignore", "max_dimension": 12, "restarts": 2, "keep_directions": True}
    result = count_of(clf, x.repeat(100, 1), y.repeat(100), **settings)
    assert result.verified.tolist() == [min(12, count) for count in expected] * 100
    _, owner, met = directions(result)
    assert torch.equal(torch.bincount(owner, minlength=1100), result.verified)
    assert torch.equal(met, 1 - y.repeat(100)[owner])


_ALL = [
    *({"norm": "l2", "eps": 1.2, "box": box, "rule": rule} for box in BOXES for rule in RULES),
    *({"norm": "linf", "eps": 0.12, "box": box, "rule": rule} for box in BOXES for rule in RULES),
    *({"norm": "l2", "eps": 1.2, "box": box, "rule": "all", "method": "frame", "steps": 6} for box in BOXES),
]
NETWORKS = [
    pytest.param(
        each,
        id="-".join([each["norm"], each["box"], each["rule"], each.get("method", "gaas")]),
        marks=pytest.mark.slow if "method" in each and each["box"] != "feasible" else (),
    )
    for each in _ALL
]


def small_net(count: int = 8) -> tuple[bg.Classifier, Tensor, Tensor]:
    """A random net, images of which some values lie on a bound, and as true classes what it predicts."""
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = ((images(count, seed=1) - 0.5) * 2.2 + 0.5).clamp(0, 1)
    assert ((x == 0) | (x == 1)).float().mean() > 0.1
    return clf, x, clf.predict(x)


@pytest.mark.parametrize("settings", NETWORKS)
def test_results_depend_on_neither_order_nor_splitting(settings: dict) -> None:
    clf, x, y = small_net()
    settings = {**settings, "restarts": 2, "seed": 3, "max_dimension": 24, "keep_directions": True}
    whole = count_of(clf, x, y, **settings)
    kept, owner, _ = directions(whole)
    assert len(whole.verified.unique()) > 1
    for part in (torch.arange(7, -1, -1), torch.arange(3, 6), torch.tensor([4])):
        some = count_of(clf, x[part], y[part], index=part, **settings)
        for name in ("claimed", "verified", "found", "correct", "valid", "index"):
            assert torch.equal(getattr(some, name), getattr(whole, name)[part]), name
        width = some.tried.shape[1]
        for name in ("tried", "successes"):
            assert torch.equal(getattr(some, name), getattr(whole, name)[part][:, :width]), name
        its, of, _ = directions(some)
        for mine, theirs in enumerate(part.tolist()):
            atol = 1e-4 if "method" in settings else 1e-6
            torch.testing.assert_close(its[of == mine], kept[owner == theirs], rtol=0, atol=atol)


@pytest.mark.parametrize("settings", NETWORKS)
def test_working_memory_decides_nothing(settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = small_net()
    settings = {**settings, "restarts": 2, "max_dimension": 20, "keep_directions": True}
    whole = count_of(clf, x, y, **settings)
    monkeypatch.setattr("boundarygeo.subspace.frames.jobs._WORKING_BYTES", 4 * 192 * 5)  # five jobs
    monkeypatch.setattr("boundarygeo.subspace.verification._WORKING_BYTES", 8 * 192 * 5)  # five directions
    parts = count_of(clf, x, y, **settings)
    for name, value in vars(whole).items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(getattr(parts, name), value, rtol=1e-6, atol=1e-6, msg=name)


def test_chunks_hold_as_many_frames_as_fit_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boundarygeo.subspace.verification._WORKING_BYTES", 8 * 100 * 5)  # five directions
    size = torch.tensor([9, 2, 3, 1, 5, 0, 6, 7])
    assert list(chunks(size, 100)) == [(0, 1), (1, 3), (3, 4), (4, 6), (6, 7), (7, 8)]
    assert list(chunks(size[:0], 100)) == []


@pytest.mark.parametrize("settings", NETWORKS)
def test_everything_reported_is_so(settings: dict) -> None:
    clf, x, y = small_net()
    y[::5] = (y[::5] + 1) % 5  # misclassified to begin with
    result = count_of(clf, x, y, restarts=2, max_dimension=40, keep_directions=True, **settings)
    module, norm, eps, box = clf.module.eval(), settings["norm"], settings["eps"], settings["box"]
    assert result.correct.tolist() == [number % 5 != 0 for number in range(len(x))]
    assert (result.verified[~result.correct] == 0).all()
    assert (result.claimed[~result.correct] == 0).all()
    assert result.valid.all()
    assert torch.equal(result.found, result.verified > 0)
    assert torch.equal(result.true_labels, y)
    perturbations, owner, met = directions(result)
    assert perturbations.dtype == torch.float32
    assert result.verified.max() > 2
    if "method" not in settings:
        assert torch.equal(result.verified, dimension_of(result.tried, result.successes, settings["rule"]))
    for i in range(len(x)):
        delta = perturbations[owner == i]
        assert len(delta) == result.verified[i]
        if not len(delta):
            for name in ("orthogonality", "effective_rank", "largest_norm"):
                assert getattr(result, name)[i] == 0
            continue
        moved = x[i] + delta
        with torch.no_grad():
            labels = module(moved).argmax(1)
        assert (labels != y[i]).all()
        assert torch.equal(met[owner == i], labels)
        flat = delta.flatten(1).double().numpy()
        lengths = np.linalg.norm(flat, axis=1) if norm == "l2" else np.abs(flat).max(1)
        # Beyond ε are only the rounding errors of x + δ.
        assert lengths.max() <= eps * (1 + 1e-6) + (1e-7 if norm == "linf" else 0)
        assert float(result.largest_norm[i]) == pytest.approx(lengths.max(), rel=1e-9)
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        cosine = np.abs(np.tril(unit @ unit.T, -1)).max()
        assert float(result.orthogonality[i]) == pytest.approx(cosine, abs=1e-12)
        singular = np.linalg.svd(unit, compute_uv=False)
        share = singular[singular > 1e-12] / singular.sum()
        rank = math.exp(-(share * np.log(share)).sum())
        assert float(result.effective_rank[i]) == pytest.approx(rank, rel=1e-6)
        if box != "ignore":
            assert moved.min() >= 0
            assert moved.max() <= 1
        if box == "clip":
            assert rank <= len(delta) + 1e-9
        else:
            assert cosine <= 1e-5
            assert rank == pytest.approx(len(delta), rel=1e-6)
    if box == "clip":
        several = result.verified > 2
        assert (result.orthogonality[several] > 1e-3).all()
        assert (result.effective_rank[several] < result.verified[several]).all()
    if norm == "l2" and box == "ignore":
        lengths = result.largest_norm[result.found]
        torch.testing.assert_close(lengths, torch.full_like(lengths, eps), rtol=1e-6, atol=0)


@pytest.mark.parametrize("settings", NETWORKS)
def test_inputs_outside_the_bounds_by_rounding_do_no_harm(settings: dict) -> None:
    clf, x, y = small_net()
    outside = torch.where(x == 0, -2e-6, torch.where(x == 1, 1 + 2e-6, x))
    result = count_of(clf, outside, y, max_dimension=40, keep_directions=True, **settings)
    perturbations, owner, _ = directions(result)
    expected = count_of(clf, x, y, max_dimension=40, **settings)
    assert torch.equal(result.verified, expected.verified)
    assert result.largest_norm.max() <= settings["eps"] * (1 + 1e-4)
    if settings["box"] != "ignore":
        moved = outside[owner] + perturbations
        assert moved.min() >= -1e-7
        assert moved.max() <= 1 + 1e-7
    if settings["box"] == "feasible":
        torch.testing.assert_close(result.orthogonality, expected.orthogonality, rtol=0, atol=1e-5)


def ball(eps: float, inside: bool) -> tuple[bg.Classifier, Tensor, Tensor, list[int], list[int]]:
    r"""Points about the centre of a ball, the number of directions that leave (enter) it, and the first-order claims.

    With a the distance from the centre and s the part of a perturbation along the gradient,
    ‖x + r - c‖² = a² ± 2as + ε² makes the ball the half-space s > t = (R² - a² ∓ ε²)/(±2a) for vectors of length ε.
    """
    radius, centre = 2.0, torch.full((DIMENSION,), 0.5)
    # From outside no more than (2R/ε)² = 25 fit: nearer to the ball, r of length ε leaves it on the other side.
    shares = torch.tensor([0.5, 1.5, 2.4, 7.4, 19.5, 44.0 if inside else 23.5], dtype=torch.float64)
    t = eps / shares.sqrt()
    # a² + 2at = R² - ε² from inside, a² - 2at = R² - ε² from outside
    a = (t.square() + radius**2 - eps**2).sqrt() + (-t if inside else t)
    direction = random(6, DIMENSION)
    x = centre + (a[:, None] * direction / direction.norm(dim=1, keepdim=True)).float()
    clf = bg.Classifier(Sphere(centre, radius), bounds=(-9, 9), device="cpu")
    first_order = (eps * 2 * a / (radius**2 - a.square())).square()
    y = clf.predict(x)
    assert y.tolist() == [0 if inside else 1] * 6
    return (
        clf,
        x,
        y,
        shares.floor().clamp_max(DIMENSION).int().tolist(),
        first_order.floor().clamp_max(DIMENSION).int().tolist(),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inside", [True, False])
def test_balls_have_a_known_number_from_inside_and_outside(inside: bool, method: str) -> None:
    clf, x, y, expected, first_order = ball(0.8, inside)
    result = count_of(clf, x, y, eps=0.8, box="ignore", method=method, steps=6, grid=range(1, DIMENSION + 1))
    assert result.verified.tolist() == expected
    assert result.claimed.tolist() == first_order
    # Convex from inside: the claim is a lower bound. From outside there are fewer than it says.
    assert all(
        (claim <= count) if inside else (claim >= count) for claim, count in zip(first_order, expected, strict=True)
    )
    assert first_order != expected


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
@pytest.mark.filterwarnings("ignore:1 of 2 input gradients")
def test_the_centre_of_a_ball_has_no_gradient() -> None:
    centre = torch.full((1, 4, 4), 0.5)
    clf = bg.Classifier(Sphere(centre, 0.3), device="cpu")
    x = torch.stack([centre, centre + 0.01])
    for method in METHODS:
        result = count_of(clf, x, torch.tensor([0, 0]), eps=0.4, method=method)
        assert result.valid.tolist() == [False, True]
        assert result.found.tolist() == [False, True]
        assert result.correct.tolist() == [True, True]
        assert result.verified[0] == result.claimed[0] == result.gradient_norm[0] == 0
        assert (result.tried[0] == 0).all()


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_where_nothing_depends_on_the_input_nothing_is_found() -> None:
    clf = bg.Classifier(Checkerboard(0.5), device="cpu")
    x = images(3, shape=(12,))
    y = clf.predict(x)
    y[2] = 1 - y[2]
    for settings in ({}, {"method": "frame"}, {"norm": "linf"}):
        with pytest.warns(UserWarning, match="3 of 3 input gradients"):
            result = count_of(clf, x, y, eps=0.3, keep_directions=True, **settings)
        assert result.verified.tolist() == [0, 0, 0]
        assert result.claimed.tolist() == [0, 0, 0]
        assert result.valid.tolist() == [False] * 3
        assert result.correct.tolist() == [True, True, False]
        assert result.tried.shape == result.successes.shape
        assert directions(result)[0].shape == (0, 12)
        assert result.provenance.forwards == 2 * 3


def test_only_misclassified_examples_are_a_result_too() -> None:
    clf, x, y = small_net(3)
    for settings in ({}, {"method": "frame"}, {"norm": "linf"}):
        result = count_of(clf, x, (y + 1) % 5, eps=1.0, **settings)
        assert not result.correct.any()
        assert not result.found.any()
        assert result.perturbations is None


# Of |w| = 1 everywhere, every row of a Hadamard frame gains ε·d'/√k, with d' = k⌊d/k⌋ dimensions in use.
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("rule", RULES)
def test_hadamard_frames_on_a_half_space_reach_a_known_order(rule: str, box: str) -> None:
    weight = random(100).sign()
    orders, heights = (1, 4, 16, 36, 64, 100), [0.1, 0.9, 1.1, 1.5, 1.8, 2.2, 2.6, 4.9, 5.1, 9.9, 10.1]
    clf = bg.Classifier(Linear(weight, 0.5 * float(weight.sum())), device="cpu")
    eps = 0.1
    x = 0.5 - 0.1 * torch.tensor(heights)[:, None] * weight / 10  # wᵀx - b = -height
    y = clf.predict(x)
    assert y.tolist() == [0] * len(heights)
    result = count_of(clf, x, y, eps=eps, norm="linf", rule=rule, box=box)
    gains = {k: eps * (100 // k * k) / k**0.5 for k in orders}
    assert result.verified.tolist() == [max((k for k in orders if gains[k] > height), default=0) for height in heights]
    assert sorted(set(result.verified.tolist())) == [0, 1, 4, 16, 36, 100]  # 64 leaves out more than 100 do
    assert result.claimed.tolist() == [min(100, int((10 / height) ** 2)) for height in heights]
    assert result.max_dimension == 100
    assert result.at_cap.tolist() == [height < 1 for height in heights]
    assert result.largest_norm[result.found].max().item() == pytest.approx(eps, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_no_orthogonal_set_holds_more_than_bessel_allows(rule: str, method: str) -> None:
    weight = random(40)
    x = ((images(20, shape=(40,)) - 0.5) * 3 + 0.5).clamp(0, 1)
    clf = bg.Classifier(Linear(weight, float((x @ weight).mean())), device="cpu")
    y = clf.predict(x)
    limit = (0.8 * weight.norm().double() / clf.logits(x).diff(dim=1)[:, 0].abs()).square()
    for box in ("ignore", "feasible"):
        result = count_of(clf, x, y, eps=0.8, box=box, rule=rule, method=method, steps=6)
        assert (result.verified <= limit * (1 + 1e-5)).all()
        assert result.verified.sum() > 20


@pytest.mark.parametrize("loss", ["margin", "log_odds", "cross_entropy"])
def test_claims_of_each_loss_are_what_is_left_to_the_boundary(loss: str) -> None:
    clf, x, y = small_net(12)
    result = count_of(clf, x, y, eps=1.0, loss=loss, grid=[1])
    assert result.loss == loss
    inputs = x.double().requires_grad_()
    logits = SmallNet().double().eval()(inputs)
    right = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf)
    if loss == "margin":
        value, even = others.amax(1) - right, 0.0
    elif loss == "log_odds":
        value, even = others.logsumexp(1) - right, 0.0
    else:
        value, even = nn.functional.cross_entropy(logits, y, reduction="none"), math.log(2)
    (gradient,) = torch.autograd.grad(value.sum(), inputs)
    torch.testing.assert_close(result.gamma, even - value.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.gradient_norm, gradient.flatten(1).norm(dim=1), rtol=1e-4, atol=1e-6)
    k = (gradient.flatten(1).norm(dim=1) / (even - value)).square().detach()
    k = torch.where(even - value > 0, k, 192.0).clamp_max(192)
    clear = (k - k.round()).abs() > 0.01 * k
    assert clear.sum() > 6
    assert torch.equal(result.claimed[clear], k.floor().long()[clear])
    # In L∞ the length that counts is that of L1.
    other = count_of(clf, x, y, eps=0.1, norm="linf", loss=loss, grid=[1])
    torch.testing.assert_close(other.gradient_norm, gradient.flatten(1).abs().sum(1), rtol=1e-4, atol=1e-6)


def test_goals_are_to_leave_a_class_or_to_reach_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    classes, rows, labels = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2])
    leave, reach = Goal(classes, targeted=False), Goal(classes, targeted=True)
    assert leave.reached(labels, rows).tolist() == [False, True, False]
    assert reach.reached(labels, rows).tolist() == [True, False, True]
    assert leave.gain(logits, rows).tolist() == [-2.0, 2.0, -2.0]
    assert reach.gain(logits, rows).tolist() == [2.0, -2.0, 2.0]
    again = torch.tensor([2, 0])  # several rows of one example, in any order
    assert leave.gain(logits[again], again).tolist() == [-2.0, -2.0]
    assert reach.reached(labels[again], again).tolist() == [True, True]
    odds = torch.tensor([3.0, 1.0, 3.0]) - torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]).logsumexp(1)
    torch.testing.assert_close(leave.missing(logits, "log_odds"), odds)
    torch.testing.assert_close(reach.missing(logits, "margin"), -odds)  # of the target's log-odds, whatever was asked
    torch.testing.assert_close(leave.missing(logits, "margin"), torch.tensor([2.0, -2.0, 2.0]))


def test_gamma_decides_the_claim_alone() -> None:
    clf, x, y = small_net()
    first = count_of(clf, x, y, eps=1.0, max_dimension=20)
    result = count_of(clf, x, y, eps=1.0, max_dimension=20, gamma=0.5)
    assert (result.gamma == 0.5).all()
    assert torch.equal(result.claimed, bg.theory.claimed_dimension(first.gradient_norm, 1.0, 0.5, 192))
    assert torch.equal(result.verified, first.verified)


def test_targets_are_what_is_reached() -> None:
    clf, x, y = small_net()
    targets = (y + 1) % 5
    targets[0] = y[0]  # there already
    for settings in ({}, {"method": "frame", "steps": 6}, {"norm": "linf", "eps": 0.2}):
        settings = {"eps": 1.8, "box": "clip", "max_dimension": 20, **settings}
        result = count_of(clf, x, y, targets=targets, keep_directions=True, **settings)
        assert result.loss == "log_odds"
        assert result.correct.tolist() == [False] + [True] * 7
        assert result.verified[0] == result.claimed[0] == 0
        assert result.found.sum() > 1
        perturbations, owner, met = directions(result)
        assert torch.equal(met, targets[owner])
        assert torch.equal(clf.predict((x[owner] + perturbations).clamp(0, 1)), met)
        assert torch.equal(result.targets, targets)
        if result.first_order is not None:
            assert result.verified.sum() > 1.3 * result.first_order.sum()
        free = count_of(clf, x, y, **settings)
        assert free.verified.sum() > result.verified.sum()
    # On two classes leaving one is reaching the other.
    two, x, y, expected = half_spaces(0.7)
    for method in METHODS:
        result = count_of(two, x, y, targets=1 - y, eps=0.7, box="ignore", method=method, steps=4)
        assert result.verified.tolist() == result.claimed.tolist() == expected


@pytest.mark.parametrize(
    ("norm", "box"), [("l2", "ignore"), ("l2", "feasible"), ("linf", "ignore"), ("linf", "feasible")]
)
def test_the_best_of_several_draws_counts_for_each_example(norm: str, box: str) -> None:
    clf, x, y = small_net(16)
    settings = {"eps": 1.2 if norm == "l2" else 0.12, "norm": norm, "box": box, "max_dimension": 40}
    once, often = count_of(clf, x, y, **settings), count_of(clf, x, y, restarts=5, **settings)
    assert (often.verified >= once.verified).all()
    assert (often.verified > once.verified).any()
    assert torch.equal(often.verified, dimension_of(often.tried, often.successes, "all"))
    other = count_of(clf, x, y, seed=1, **settings)
    same = norm == "l2" and box == "feasible"  # the first partition has no chance in it
    assert torch.equal(other.successes, once.successes) == same


@pytest.mark.parametrize("settings", NETWORKS)
def test_the_seed_decides_the_frames(settings: dict) -> None:
    clf, x, y = small_net(6)
    cap = 9 if "method" in settings else 16
    settings = {**settings, "restarts": 2, "max_dimension": cap, "keep_directions": True}
    first, again, other = (directions(count_of(clf, x, y, seed=seed, **settings))[0] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert first.shape != other.shape or (first - other).abs().amax() > 0.01


def test_the_count_rule_is_never_below_the_other() -> None:
    clf, x, y = small_net(16)
    more = 0
    for box in BOXES:
        alike = {"eps": 1.2, "box": box, "grid": range(1, 20)}
        every, best = count_of(clf, x, y, **alike), count_of(clf, x, y, rule="count", **alike)
        assert (best.verified >= every.verified).all()
        assert torch.equal(every.verified, dimension_of(best.tried, best.successes, "all"))
        # Frames are given up when one direction has failed.
        whole = 2 * 16 + int(every.tried.sum()) + int(every.verified.sum())
        assert every.provenance.forwards < 0.7 * whole
        more += int((best.verified > every.verified).sum())
    assert more > 3


def test_counts_of_forwards_are_those_of_the_module() -> None:
    seen = []

    class Counting(SmallNet):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    clf = bg.Classifier(Counting(), device="cpu")
    x = images(5)
    y = clf.predict(x)
    cases = [
        {"eps": 1.0, "rule": "count", "grid": [1, 3, 9]},
        {"eps": 1.0, "rule": "all", "restarts": 2},
        {"eps": 0.1, "norm": "linf"},
        {"eps": 1.0, "method": "frame", "steps": 3, "max_dimension": 8},
    ]
    checks = set()  # of the copy that an analysis makes: the same whatever it does
    for settings in cases:
        count_of(clf, x, y, **settings)
        seen.clear()
        result = count_of(clf, x, y, **settings)
        checks.add(sum(seen) - result.provenance.forwards)
        if "method" in settings:
            assert 5 < result.provenance.backwards <= 5 + 4 * int(result.tried.sum())
        else:
            assert result.provenance.backwards == 5
        if settings.get("rule") == "count":
            # Logits and gradients, the frames, and once more those that are reported.
            best = result.successes.argmax(1, keepdim=True)
            reported = result.tried.gather(1, best)[:, 0][result.found]
            assert result.provenance.forwards == 2 * 5 + int(result.tried.sum()) + int(reported.sum())
    assert len(checks) == 1
    assert max(checks) < 50


def numpy_state() -> np.ndarray:
    return np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002


def test_module_weights_and_global_chance_are_left_alone() -> None:
    for training in (True, False):
        module = SmallNet().train(training)
        clf = bg.Classifier(module, device="cpu")
        before = {name: value.clone() for name, value in module.state_dict().items()}
        x = images(4)
        y = clf.predict(x)
        states = torch.get_rng_state(), numpy_state()
        for settings in (
            {"eps": 1.0, "restarts": 2},
            {"eps": 1.0, "method": "frame", "steps": 2},
            {"eps": 0.1, "norm": "linf"},
        ):
            count_of(clf, x, y, max_dimension=8, **settings)
        assert module.training == training
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(numpy_state(), states[1])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_results_are_saved_and_loaded(method: str, keep: bool, tmp_path) -> None:
    clf, x, y = small_net(4)
    result = count_of(
        clf, x, y, eps=1.0, method=method, steps=3, max_dimension=9, keep_directions=keep, index=[4, 5, 6, 7]
    )
    loaded = bg.load(result.save(tmp_path / "dimension.zarr"))
    assert isinstance(loaded, bg.AdversarialDimension)
    for name, value in vars(result).items():
        other = getattr(loaded, name)
        if isinstance(value, Tensor):
            assert value.dtype == other.dtype, name
            assert torch.equal(value, other), name
        else:
            assert value == other, name
    assert (loaded.perturbations is None) == (loaded.owner is None) == (not keep)
    assert (loaded.first_order is None) == (method == "gaas")
    assert torch.equal(loaded.at_cap, result.at_cap)
    data = result.to_xarray()
    assert data.verified.dims == ("example",)
    assert data.index.values.tolist() == [4, 5, 6, 7]
    assert data.tried.dims == ("example", "attempt")
    if keep:
        assert data.perturbations.dims == ("direction", "input_0", "input_1", "input_2")
        assert data.perturbations.attrs["units"] == "input units"
    assert f"adversarial_dimension(eps=1.0, norm='l2', method='{method}', rule='all'" in loaded.provenance.command
    assert loaded.provenance.seed == 0


def test_results_have_a_short_name() -> None:
    clf, x, y = small_net(4)
    text = repr(count_of(clf, x, y, eps=1.0, keep_directions=True))
    assert text.startswith("AdversarialDimension(claimed=[4], verified=[4]")
    assert len(text) < 600
    assert "tensor" not in text


BAD = [
    ({"eps": 0.0}, "eps must be a positive number, got 0.0"),
    ({"eps": -1}, "eps must be a positive number, got -1"),
    ({"eps": math.nan}, "eps must be a positive number, got nan"),
    ({"eps": math.inf}, "eps must be a positive number, got inf"),
    ({"eps": True}, "eps must be a positive number, got True"),
    ({"eps": "0.1"}, "eps must be a positive number, got '0.1'"),
    ({"gamma": 0.0}, "gamma must be a positive number, got 0.0"),
    ({"gamma": math.nan}, "gamma must be a positive number, got nan"),
    ({"norm": "l1"}, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
    ({"method": "fast"}, r"method must be one of \['gaas', 'frame'\], got 'fast'"),
    ({"rule": "most"}, r"rule must be one of \['all', 'count'\], got 'most'"),
    ({"box": "none"}, r"box must be one of \['feasible', 'clip', 'ignore'\], got 'none'"),
    ({"loss": "hinge"}, r"loss must be one of \['margin', 'log_odds', 'cross_entropy'\], got 'hinge'"),
    ({"method": "frame", "norm": "linf"}, "method='frame' works in L2 only: pass norm='l2', got 'linf'"),
    ({"max_dimension": 193}, "max_dimension must be at most the number of input dimensions, 192, got 193"),
    ({"max_dimension": 0}, "max_dimension must be a whole number, at least 1, got 0"),
    ({"max_dimension": 2.5}, "max_dimension must be a whole number, at least 1, got 2.5"),
    ({"max_dimension": True}, "max_dimension must be a whole number, at least 1, got True"),
    ({"grid": []}, r"grid must be 'full' or ascending whole numbers from 1 to max_dimension \(192\), got \[\]"),
    ({"grid": [2, 1]}, r"grid must be 'full' or ascending whole numbers .* got \[2, 1\]"),
    ({"grid": [1, 1]}, r"grid must be 'full' or ascending whole numbers .* got \[1, 1\]"),
    ({"grid": [0, 1]}, r"grid must be 'full' or ascending whole numbers .* got \[0, 1\]"),
    ({"grid": [1.0, 2.0]}, r"grid must be 'full' or ascending whole numbers .* got \[1.0, 2.0\]"),
    ({"grid": [True, 2]}, r"grid must be 'full' or ascending whole numbers .* got \[True, 2\]"),
    ({"grid": [1, 11], "max_dimension": 10}, r"grid must be .* from 1 to max_dimension \(10\), got \[1, 11\]"),
    ({"grid": [1, 5], "norm": "linf"}, r"in L∞, grid must be orders of regular Hadamard matrices, \[1, 4, 16, 36"),
    ({"restarts": 0}, "restarts must be a whole number, at least 1, got 0"),
    ({"steps": 0, "method": "frame"}, "steps must be a whole number, at least 1, got 0"),
    ({"targets": torch.tensor([1, 2])}, r"targets must have shape \[3\], one class per example, got \[2\]"),
    ({"targets": torch.tensor([1, 2, -1])}, "targets must be in .*, got values from -1 to 2"),
    ({"targets": torch.tensor([1, 2, 5])}, r"targets must be in \[0, 5\), got values from 1 to 5"),
    ({"index": [0, 1]}, "index must be 3 integers >= 0, one per example, got"),
    ({"x": images(3) + 1}, r"x must lie in \[0, 1\] before normalisation"),
    ({"x": images(3) * torch.nan}, "x must lie in"),
    ({"x": images(3)[:0]}, "x must have shape"),
    ({"y": torch.tensor([0, 1])}, r"y must have shape \[3\], one class per example, got \[2\]"),
    ({"y": torch.tensor([0, 1, 5])}, r"y must be in \[0, 5\), got values from 0 to 5"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "match"), BAD, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(BAD)])
def test_bad_arguments_are_refused_in_one_line(change: dict, match: str) -> None:
    arguments = {"x": images(3), "y": torch.tensor([0, 1, 2]), "eps": 0.5, **change}
    clf = bg.Classifier(SmallNet(), device="cpu")
    with pytest.raises(ValueError, match=f"^{match}") as error:
        count_of(clf, arguments.pop("x"), arguments.pop("y"), **arguments)
    assert "\n" not in str(error.value)
    assert clf.counts.forwards == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, "x must be a float tensor"),
        ({"y": torch.tensor([0.0, 1.0, 2.0])}, "y must be an integer tensor of classes"),
        ({"targets": [1, 2, 3]}, "targets must be an integer tensor of classes, got list"),
    ],
)
def test_wrong_types_are_refused(change: dict, match: str) -> None:
    arguments = {"x": images(3), "y": torch.tensor([0, 1, 2]), "eps": 0.5, **change}
    with pytest.raises(TypeError, match=match):
        count_of(bg.Classifier(SmallNet()), arguments.pop("x"), arguments.pop("y"), **arguments)


MEMORY = """
import resource, sys
import torch
import boundarygeo as bg

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8, stride=8), torch.nn.ReLU(), torch.nn.Flatten(),
                             torch.nn.Linear(2 * 28 * 28, 3))
clf = bg.Classifier(module, device="cpu")
x = torch.rand(2, 3, 224, 224) * 0.5 + 0.25
y = clf.predict(x)
bg.adversarial_dimension(clf, x[:, :, :8, :8].repeat(1, 1, 28, 28), y, eps=1.0, grid=[1], progress=False)
before = peak()
result = bg.adversarial_dimension(
    clf, x, y, eps=float(sys.argv[2]), box=sys.argv[1], grid=[200], restarts=int(sys.argv[3]), progress=False
)
print(result.verified.tolist(), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("restarts", ["1", "3"])
@pytest.mark.parametrize("box", ["ignore", "feasible"])
def test_two_hundred_directions_of_large_images_fit_into_two_gigabytes(box: str, restarts: str) -> None:
    command = [sys.executable, "-c", MEMORY, box, "60", restarts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts, growth = done.stdout.rsplit(" ", 1)
    assert counts == "[200, 200]"
    assert float(growth) < 2000
