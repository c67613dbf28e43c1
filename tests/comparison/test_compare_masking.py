"""Signs of masked gradients: a network made to mislead them is flagged, honest ones are not."""

import functools

import pytest
import torch
from quick_attacks import few_steps
from scipy import stats
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.comparison import Settings, compare, masking_checks
from boundarygeo.results.statistics import paired_difference

EPS, GRID = 0.25, 8


def outcome(right: int, n: int = 40) -> Tensor:
    return torch.arange(n) < right


def test_an_attack_that_should_be_stronger_and_leaves_more_is_flagged_with_its_numbers() -> None:
    checks = masking_checks(outcome(10), outcome(25), outcome(31), {"a": outcome(30), "b": outcome(5)})
    assert [check.difference.value for check in checks] == pytest.approx([15 / 40, 6 / 40, 20 / 40])
    assert [check.difference for check in checks] == [paired_difference(lone, 0, 40) for lone in (15, 6, 20)]
    assert [(check.against, check.with_it) for check in checks] == [(15, 0), (6, 0), (20, 0)]
    # Six of six is one in 64: not enough at one in 100. The stronger of two sources: p counts twice.
    assert [check.p for check in checks] == pytest.approx([2**-15, 2**-6, 2 * 2**-20])
    assert [check.flagged for check in checks] == [True, False, True]
    assert "PGD-20 leaves +37.5 points of accuracy more than FGSM: 15 of 40 examples" in checks[0].reason
    assert "PGD-20 sent from b" in checks[2].reason


def test_an_attack_without_gradients_that_finds_more_is_flagged() -> None:
    checks = masking_checks(outcome(30), outcome(20), outcome(20), {"a": outcome(38)}, square=outcome(10))
    assert [check.flagged for check in checks] == [False, False, True, False]
    assert "PGD-100 leaves +25.0 points of accuracy more than Square" in checks[2].reason
    assert not masking_checks(outcome(30), outcome(20), outcome(20), {}, square=outcome(25))[2].flagged


def test_equal_outcomes_have_an_interval_too() -> None:
    check = masking_checks(outcome(25), outcome(25), outcome(25), {})[0]
    assert check.difference.value == 0
    assert -0.1 < check.difference.low < 0 < check.difference.high < 0.1
    nothing = masking_checks(*[outcome(0, 0)] * 3, {})[0]
    assert nothing.difference.n == 0
    assert not nothing.difference.has_interval


def test_examples_count_in_both_directions_as_in_mcnemars_test() -> None:
    fgsm, pgd = outcome(20), torch.roll(outcome(20), 12)
    check = masking_checks(fgsm, pgd, pgd, {})[0]
    assert (check.against, check.with_it, check.difference.value) == (12, 12, 0.0)
    assert check.p == pytest.approx(stats.binom.sf(11, 24, 0.5))
    assert not check.flagged


def test_stronger_attacks_that_are_stronger_are_no_sign() -> None:
    checks = masking_checks(outcome(30), outcome(20), outcome(15), {"a": outcome(38)})
    assert not any(check.flagged for check in checks)
    assert all(check.difference.value < 0 for check in checks)


def test_outcomes_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every attack must have one value for each of the 40 examples, got \[39\]"):
        masking_checks(outcome(3), outcome(3), outcome(3, 39), {})


class Misleading(nn.Module):
    """A linear network of rounded inputs, with a small sawtooth on top: it rises at the data, and falls elsewhere.

    On the grid, where the data are, the gradient tells the truth, so that FGSM works; a random start leaves the grid,
    and from there PGD climbs the wrong way.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        coarse = (x * GRID).round() / GRID
        rest = x - coarse
        return self.linear(coarse + 0.01 * torch.where(rest.abs() < 1e-4, rest, -rest))


class Scaled(nn.Module):
    """Logits so large that the softmax is saturated."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return 1e5 * self.linear(x)


CHECKS = ["PGD-20 − FGSM", "PGD-100 × 2 − PGD-20", "PGD-100 × 2 − Square-300", "PGD-20 − strongest transferred"]


@functools.cache
def problem() -> tuple[nn.Linear, Tensor]:
    """A linear network, and inputs half of which are on either side."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 2)
    x = torch.randint(2, GRID - 1, (120, 16)) / GRID
    linear.bias.data -= linear(x).mean(0).detach()
    return linear, x


def masked(**modules: nn.Module) -> dict[str, dict[str, bool]]:
    """Which checks are flagged, by model and quantity."""
    linear, x = problem()
    classifiers = {name: bg.Classifier(module, device="cpu") for name, module in modules.items()}
    settings = Settings(eps=EPS, restarts=2, queries=300)
    with few_steps():  # of the strongest attack, which is not checked
        found = compare(
            classifiers, x, linear(x).argmax(1), settings=settings, instruments=["accuracy", "masking"], progress=False
        )
    assert all(row.measured.estimate.n == 120 for row in found.rows)
    rows = [(row.name, row.measured) for row in found.rows if row.measured.instrument == "masking"]
    return {name: {each.quantity: each.flagged for own, each in rows if own == name} for name in modules}


def test_a_network_whose_gradients_mislead_is_flagged_and_an_honest_one_is_not() -> None:
    linear = problem()[0]
    assert masked(misleading=Misleading(linear), honest=linear) == {
        "misleading": dict(zip(CHECKS, [True, False, True, True], strict=True)),
        "honest": dict.fromkeys(CHECKS, False),
    }


def test_logits_of_any_scale_are_attacked_alike() -> None:
    linear = problem()[0]
    flags = masked(scaled=Scaled(linear), plain=linear)
    assert flags == dict.fromkeys(("scaled", "plain"), dict.fromkeys(CHECKS, False))


def test_one_classifier_alone_has_no_transferred_attack() -> None:
    assert list(masked(alone=problem()[0])["alone"]) == CHECKS[:3]
