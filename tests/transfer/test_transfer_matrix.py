"""Transfer matrices and mistakes: linear classifiers at a known angle, identical models, counts by hand."""

import math
from collections.abc import Callable
from itertools import permutations, product

import pytest
import torch
from oracles import Linear, images
from relatives import lines_at, nets, on_the_bisector
from torch import Tensor, nn
from transfer_by_hand import matrix_of

import boundarygeo as bg
from boundarygeo.attacks.norms import random_in_ball
from boundarygeo.results.statistics import share
from boundarygeo.transfer.classifiers import check_classifiers, check_shared, position
from boundarygeo.transfer.matrix import transfer_matrix
from boundarygeo.transfer.mistakes import transfer_mistakes

ANGLE = 60
QUIET = {"progress": False}


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_gradient_steps_of_lines_at_an_angle(attack: str, side: int) -> None:
    # A step of 0.85 crosses the own line from 0.1, …, 0.8; the other line is approached by 0.85 cos 60° = 0.425.
    x, y = on_the_bisector(ANGLE, [side])
    settings = {"steps": 1, "step_size": 0.85, "random_start": False} if attack == "pgd" else {}
    matrix = transfer_matrix(lines_at(ANGLE), x, y, attack=attack, eps=0.85, norm="l2", **settings, **QUIET)
    expected = torch.tensor([[0.8, 0.4], [0.4, 0.8]], dtype=torch.float64)
    for over in ("shared", "all"):
        torch.testing.assert_close(matrix.rate(over), expected)
    torch.testing.assert_close(matrix.rate("fooled"), torch.tensor([[1, 0.5], [0.5, 1]], dtype=torch.float64))
    flips = torch.arange(1, 11)[:, None] / 10 < 0.85 * torch.tensor([1, math.cos(math.radians(ANGLE))])
    assert torch.equal(matrix.success[0].T, flips)
    assert torch.equal(matrix.fooled, flips[:, 0].expand(2, -1))
    torch.testing.assert_close(matrix.distance, torch.full((2, 10), 0.85, dtype=torch.float64), rtol=1e-6, atol=0)


def sign_step(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    x = x.clone().requires_grad_()
    nn.functional.cross_entropy(module(x), y, reduction="sum").backward()
    return (x + eps * x.grad.sign()).detach().clamp(0, 1)


def test_an_external_attack_is_made_for_each_model() -> None:
    several, x, y = nets([0, 1, 2], 12)
    own = transfer_matrix(several, x, y, attack="fgsm", eps=0.1, **QUIET)
    theirs = transfer_matrix(several, x, y, attack=sign_step, eps=0.1, **QUIET)
    assert (own.predicted != own.clean).any()
    assert torch.equal(theirs.predicted, own.predicted)
    torch.testing.assert_close(theirs.distance, own.distance)
    assert (theirs.attack, theirs.provenance.seed) == ("sign_step", 0)
    assert theirs.provenance.command.startswith("transfer_matrix(attack=sign_step, eps=0.1, ")


def test_sign_steps_of_lines_at_an_angle() -> None:
    # Both normals are (cos 30°, ±sin 30°). A step of a's signs moves a by 0.4 (cos + sin), b by 0.4 (cos - sin).
    x, y = on_the_bisector(ANGLE, [1])
    matrix = transfer_matrix(lines_at(ANGLE), x, y, attack="fgsm", eps=0.4, **QUIET)
    half = math.radians(ANGLE / 2)
    own, other = (0.4 * (math.cos(half) + sign * math.sin(half)) for sign in (1, -1))  # 0.546 and 0.146
    assert matrix.counts()[0].tolist() == [[5, 1], [1, 5]]
    assert (int(own * 10), int(other * 10)) == (5, 1)
    assert matrix.counts("fooled")[1].tolist() == [5, 5]


def test_wilson_intervals_and_names() -> None:
    x, y = on_the_bisector(ANGLE, [1])
    matrix = transfer_matrix(lines_at(ANGLE), x, y, attack="fgsm", eps=0.85, norm="l2", **QUIET)
    assert matrix.estimate("a", "b") == share(4, 10) == matrix.estimate(0, 1)
    assert matrix.estimate("a", "b", "fooled") == share(4, 8)
    assert matrix.intervals("fooled")[1, 0].tolist() == [share(4, 8).low, share(4, 8).high]


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "minimal_norm"])
def test_identical_models_are_fooled_as_the_source_is(attack: str) -> None:
    several, x, y = nets((0, 0, 0), 12)
    method, settings = {
        "fgsm": (bg.fgsm, {"eps": 0.07}),
        "pgd": (bg.pgd, {"eps": 0.07, "early_stop": False}),
        "minimal_norm": (bg.minimal_norm, {"norm": "linf", "steps": 40}),
    }[attack]
    matrix = transfer_matrix(several, x, y, attack=attack, **settings, **QUIET)
    attacked = method(several[0], x, y, **settings, **QUIET)
    assert attacked.found.double().mean() > 0.2
    assert torch.equal(matrix.predicted, attacked.predicted.expand(3, 3, -1))
    assert bool((matrix.rate() == attacked.found.double().mean()).all())
    mistakes = transfer_mistakes(matrix)
    assert torch.equal(mistakes.same, matrix.fooled.sum(1)[:, None].expand(3, 3))
    assert not mistakes.unfooled.any()
    assert not mistakes.different.any()


def test_targets_see_the_source_s_examples_and_denominators_differ() -> None:
    several, x, y = nets((0, 1, 0), 40)
    matrix = transfer_matrix(several, x, y, attack="pgd", eps=0.07, steps=4, seed=3, **QUIET)
    correct = torch.stack([clf.predict(x) == y for clf in several])
    assert 0 < correct[1].sum() < len(x)
    assert torch.equal(matrix.correct, correct)
    assert torch.equal(matrix.shared, correct.all(0))
    for i, source in enumerate(several):
        found = bg.pgd(source, x, y, eps=0.07, steps=4, early_stop=False, seed=3, **QUIET)
        for j, target in enumerate(several):
            wrong = target.predict(found.x_adv) != y
            assert torch.equal(matrix.success[i, j], wrong)
            assert float(matrix.rate("all")[i, j]) == pytest.approx(float(wrong.double().mean()))
            fooled = found.found & correct.all(0)
            assert matrix.estimate(i, j, "fooled") == share(int((wrong & fooled).sum()), int(fooled.sum()))
            assert matrix.estimate(i, j) == share(int((wrong & correct.all(0)).sum()), int(correct.all(0).sum()))
        assert torch.equal(matrix.fooled[i], fooled)


def test_targeted_success_is_the_target() -> None:
    several, x, y = nets((0, 1, 0), 40)
    targets = (y + 1) % 5
    matrix = transfer_matrix(several, x, y, attack="pgd", eps=0.15, targets=targets, **QUIET)
    assert torch.equal(matrix.success, matrix.predicted == targets)
    assert matrix.counts()[0][0, 0] > 0
    assert torch.equal(matrix.predicted[0, 2], matrix.predicted[0, 0])  # the third model is the first
    assert not torch.equal(matrix.predicted != y, matrix.success)
    mistakes = transfer_mistakes(matrix)
    assert torch.equal(mistakes.fooled, matrix.fooled.sum(1))
    hits = (matrix.predicted[0, 1] == targets) & matrix.fooled[0]
    assert int(mistakes.same[0, 1]) == int(hits.sum())


def test_eight_bits_undo_what_is_smaller_than_half_a_grey_level() -> None:
    clf = bg.Classifier(Linear(torch.tensor([1.0, 0.0]), 100.1 / 255))
    x, y = torch.tensor([[100 / 255, 0.2]]), torch.tensor([0])
    for eps, success in ((0.4 / 255, 0.0), (0.6 / 255, 1.0)):
        exact, rounded = (
            transfer_matrix([clf, clf], x, y, attack="fgsm", eps=eps, eight_bit=rounding, **QUIET)
            for rounding in (False, True)
        )
        assert exact.rate().eq(1).all()
        assert rounded.rate().eq(success).all()
        assert float(exact.distance[0, 0]) == pytest.approx(eps, rel=1e-4)
        assert float(rounded.distance[0, 0]) == pytest.approx(success / 255, abs=1e-7)


def test_eight_bits_between_other_bounds() -> None:
    clf = bg.Classifier(Linear(torch.tensor([1.0]), 0.5), bounds=(-1, 1))
    matrix = transfer_matrix(
        [clf, clf], torch.tensor([[0.2]]), torch.tensor([0]), attack="fgsm", eps=0.1, eight_bit=True, **QUIET
    )
    level = (0.3 + 1) * 255 / 2
    assert float(matrix.distance[0, 0]) == pytest.approx(round(level) * 2 / 255 - 1 - 0.2, abs=1e-6)


def test_cost_is_one_attack_per_source_and_one_pass_per_target() -> None:
    x, y = on_the_bisector(ANGLE, [1])
    provenance = transfer_matrix(lines_at(ANGLE), x, y, attack="fgsm", eps=0.1, **QUIET).provenance
    # Of each model: its labels, one gradient, one look behind the step, and one pass for the other's examples.
    assert (provenance.forwards, provenance.backwards) == (2 * 4 * 10, 2 * 10)
    assert provenance.model.count(", ") == 1
    clf = lines_at(ANGLE)["a"]
    assert transfer_matrix([clf, clf], x, y, attack="fgsm", eps=0.1, **QUIET).provenance.forwards == 80
    rounded = transfer_matrix(lines_at(ANGLE), x, y, attack="fgsm", eps=0.1, eight_bit=True, **QUIET)
    assert rounded.provenance.forwards == 2 * 5 * 10


def test_examples_and_their_order_do_not_matter() -> None:
    several, x, y = nets((0, 1), 40)
    settings = {"attack": "pgd", "eps": 0.07, "steps": 3, "seed": 4, **QUIET}
    whole = transfer_matrix(several, x, y, **settings)
    order = torch.arange(40).flip(0)[:25]
    part = transfer_matrix(several, x[order], y[order], index=order, **settings)
    assert torch.equal(part.predicted, whole.predicted[:, :, order])
    other = transfer_matrix(several, x[order], y[order], **settings)
    assert not torch.equal(other.distance, part.distance) or not torch.equal(other.predicted, part.predicted)


def test_pgd_does_not_stop_early_unless_told_to() -> None:
    several, x, y = nets((0, 1), 40)
    rates = {
        stop: transfer_matrix(several, x, y, eps=0.2, early_stop=stop, **QUIET).rate("fooled")[0, 1]
        for stop in (False, True)
    }
    default = transfer_matrix(several, x, y, eps=0.2, **QUIET)
    assert default.rate("fooled")[0, 1] == rates[False] > rates[True]
    assert "early_stop=False" in default.provenance.command


def test_outcomes_matrix_of() -> None:
    # Seven examples of class 0; example 5 does not fool the source, example 6 is wrong in b without an attack.
    own = torch.tensor([1, 1, 2, 2, 3, 0, 1])
    other = torch.tensor([1, 2, 2, 0, 1, 3, 1])
    clean = torch.tensor([[0] * 7, [0] * 6 + [1]])
    second = torch.tensor([3, 0, 3, 3, 0, 0, 0])  # what both say about the examples made for b
    labels = torch.stack([torch.stack([own, other]), torch.stack([second, second])])
    matrix = matrix_of(labels, torch.zeros(7).long(), clean=clean)
    torch.testing.assert_close(matrix.rate("fooled"), torch.tensor([[1, 4 / 5], [1, 1]], dtype=torch.float64))
    torch.testing.assert_close(matrix.rate(), torch.tensor([[5, 5], [3, 3]], dtype=torch.float64) / 6)
    mistakes = transfer_mistakes(matrix)
    counts = [int(getattr(mistakes, name)[0, 1]) for name in ("unfooled", "same", "different")]
    assert counts == [1, 2, 2]
    assert mistakes.fooled.tolist() == [5, 3]
    assert int(mistakes.same[1, 0]) == 3
    assert mistakes.shares("a", "b") == {"unfooled": share(1, 5), "same": share(2, 5), "different": share(2, 5)}
    assert mistakes.same_share("a", "b") == share(2, 4)
    # Both fooled: a says 1, 1, 2, 3 and b says 1, 2, 2, 1: E = (2·2 + 1·2 + 1·0) / 4.
    assert float(mistakes.chance[0, 1]) == pytest.approx(1.5)
    assert mistakes.chance_share("a", "b").value == pytest.approx(1.5 / 4)


def test_chance_is_that_of_all_orders_within_each_class() -> None:
    generator = torch.Generator().manual_seed(2)
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    own, other = ((y + torch.randint(1, 4, (8,), generator=generator)) % 4 for _ in range(2))
    matrix = matrix_of(torch.stack([torch.stack([own, other]), torch.stack([other, other])]), y)
    parts = slice(0, 4), slice(4, 7), slice(7, 8)
    numbers = [
        sum(int((own[part] == other[part][list(order)]).sum()) for part, order in zip(parts, orders, strict=True))
        for orders in product(permutations(range(4)), permutations(range(3)), [(0,)])
    ]
    mistakes = transfer_mistakes(matrix)
    every = torch.tensor(numbers, dtype=torch.float64)
    assert every.std(correction=0) > 0
    assert float(mistakes.chance[0, 1]) == pytest.approx(float(every.mean()))
    assert float(mistakes.chance_sd[0, 1]) == pytest.approx(float(every.std(correction=0)))


def test_no_example_to_count_is_no_number() -> None:
    y = torch.zeros(3).long()
    matrix = matrix_of(torch.zeros(2, 2, 3).long(), y)
    assert matrix.rate().eq(0).all()
    assert matrix.rate("fooled").isnan().all()
    mistakes = transfer_mistakes(matrix)
    assert math.isnan(mistakes.same_share(0, 1).value)
    assert math.isnan(mistakes.chance_share(0, 1).value)
    assert mistakes.shares(0, 1)["same"].n == 0


def test_labels_of_all_models_in_one_pass() -> None:
    several, x, y = nets((0, 1, 0), 40)
    models = check_classifiers(dict(zip("abc", several, strict=True)), x, y)
    assert models.names == ("a", "b", "c")
    assert torch.equal(models.predicted, torch.stack([clf.predict(x) for clf in several]))
    assert torch.equal(models.shared, (models.predicted == y).all(0))
    assert models.provenance().forwards >= 3 * 40
    assert [position(models.names, which, "source") for which in ("b", 2)] == [1, 2]


X, Y = images(4, shape=(4,)), torch.tensor([0, 1, 0, 1])
FINE = bg.Classifier(nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("classifiers", "error", "match"),
    [
        ([FINE], ValueError, "pass at least two classifiers, got 1"),
        (FINE, TypeError, "classifiers must be a list, or a dict of names, got Classifier"),
        ([FINE, nn.Linear(4, 2)], TypeError, "classifiers must be Classifier objects, got Linear"),
        ({1: FINE, "1": FINE}, ValueError, r"classifiers must have different names, got \['1', '1'\]"),
        ([FINE, bg.Classifier(nn.Linear(4, 3))], ValueError, r"same number of classes, got 2 \('0'\), 3 \('1'\)"),
        ([FINE, bg.Classifier(nn.Linear(4, 2), bounds=(-1, 1))], ValueError, r"same bounds, got \(0.0, 1.0\) \('0'\)"),
        (
            {"a": FINE, "b": bg.Classifier(nn.Linear(5, 2))},
            ValueError,
            r"classifier 'b' does not accept x of shape \[4, 4\]: .*mat1",
        ),
        ([FINE, bg.Classifier(nn.Linear(4, 2), num_classes=3)], ValueError, r"but num_classes is 3 \(classifier '1'\)"),
    ],
)
def test_classifiers_that_cannot_be_compared(classifiers, error: type, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        check_classifiers(classifiers, X, Y)
    assert "\n" not in str(caught.value)


def test_no_example_that_all_get_right() -> None:
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0])
    several = {"a": bg.Classifier(Linear(weight, -9)), "b": bg.Classifier(Linear(weight, 9))}
    with pytest.raises(ValueError, match=r"got none: of 3 are right 1 \('a'\), 2 \('b'\)"):
        check_shared(check_classifiers(several, X[:3], Y[:3]))
    nothing = bg.transfer_matrix(several, X[:3], Y[:3], attack="fgsm", eps=0.1)  # as of a part of a long run
    assert nothing.counts()[1].tolist() == [0, 0]
    assert nothing.rate().isnan().all()
    assert nothing.estimate("a", "b").n == 0
    with pytest.raises(ValueError, match=r"y must be in \[0, 2\), got values from 0 to 7 \(classifier 'a'\)"):
        check_classifiers(several, X, torch.tensor([0, 1, 0, 7]))


class AutoAttack:
    """An attack that has a model of its own."""

    def run_standard_evaluation(self) -> None: ...


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"attack": "cw"}, ValueError, "attack must be one of"),
        ({"norm": "l1"}, ValueError, "norm must be one of"),
        ({"eps": None}, ValueError, "attack 'pgd' needs eps"),
        ({"eps": -1.0}, ValueError, "eps must be a finite number >= 0"),
        ({"attack": "fgsm", "steps": 3}, TypeError, r"attack 'fgsm' has no settings \['steps'\]: use any of \[\]"),
        ({"max_norm": 3}, TypeError, r"no settings \['max_norm'\]"),
        ({"steps": 0}, ValueError, "steps must be a whole number, at least 1, got 0"),
        ({"attack": "minimal_norm", "steps": 3}, ValueError, "steps must be a whole number, at least 4, got 3"),
        ({"attack": "minimal_norm", "targets": 1 - Y}, ValueError, "'minimal_norm' is untargeted: pass targets=None"),
        ({"targets": Y}, ValueError, "targets must differ from y, got 4 equal ones"),
        ({"targets": Y + 5}, ValueError, r"targets must be in \[0, 2\)"),
        ({"index": [0, 1]}, ValueError, "index must be 4 integers"),
        ({"attack": 3}, TypeError, "attack must be a function .*, got int"),
        ({"attack": sign_step, "eps": None}, ValueError, "attack 'sign_step' needs eps"),
        ({"attack": sign_step, "steps": 3}, TypeError, r"attack 'sign_step' has no settings \['steps'\]"),
        ({"attack": sign_step, "targets": 1 - Y}, ValueError, "'sign_step' is untargeted: pass targets=None"),
        (
            {"attack": AutoAttack()},
            TypeError,
            "function of the module, and AutoAttack is made for one: pass e.g. lambda",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict, error: type, match: str) -> None:
    clf = bg.Classifier(Linear(torch.tensor([1.0, 0, 0, 0]), 0.5))
    with pytest.raises(error, match=match):
        transfer_matrix([clf, clf], X, Y, **({"eps": 0.1} | settings), **QUIET)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda matrix: matrix.rate("most"), ValueError, "over must be one of"),
        (
            lambda matrix: matrix.estimate("z", 0),
            ValueError,
            r"must be one of \['a', 'b'\], or a number below 2",
        ),
        (lambda matrix: matrix.estimate(0, 2), ValueError, "target must be one of .* got 2"),
        (lambda matrix: transfer_mistakes(matrix).shares(0, "z"), ValueError, "target must be one of"),
        (lambda _: transfer_mistakes(3), TypeError, "matrix must be a TransferMatrix, got int"),
    ],
)
def test_bad_queries_are_refused(call: Callable[[bg.TransferMatrix], object], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        call(matrix_of(torch.zeros(2, 2, 3).long(), torch.zeros(3).long()))


def test_random_starts_are_drawn_once_for_all_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    several, x, y = nets((0, 1), 40)
    drawn: list[int] = []

    def counting(shape: torch.Size, index: Tensor, norm: str, *, seed: int, draw: int) -> Tensor:
        drawn.extend(index.tolist())
        return random_in_ball(shape, index, norm, seed=seed, draw=draw)

    monkeypatch.setattr("boundarygeo.attacks.norms.random_in_ball", counting)
    matrix = transfer_matrix(several, x, y, eps=0.05, steps=2, index=range(10, 50), **QUIET)
    attacked = (matrix.clean == y).any(0).nonzero()[:, 0] + 10
    assert sorted(drawn) == attacked.tolist()
    for source, clf in enumerate(several):
        alone = bg.pgd(clf, x, y, eps=0.05, steps=2, index=range(10, 50), early_stop=False, **QUIET)
        assert torch.equal(matrix.predicted[source, source], alone.predicted)
        assert torch.equal(matrix.predicted[source, 1 - source], several[1 - source].predict(alone.x_adv))
