import math

import numpy as np
import pytest
from scipy import stats

from boundarygeo.statistics import Estimate, mean, median, rank_correlation, share

Z = 1.959963984540054  # of a central 95 %


@pytest.mark.parametrize(("hits", "n"), [(93, 100), (0, 10), (10, 10), (1, 3)])
def test_share_has_the_interval_of_wilson(hits: int, n: int) -> None:
    estimate = share(hits, n)
    middle = (hits + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * math.sqrt(hits * (n - hits) / n + Z**2 / 4)
    assert estimate.value == hits / n
    assert estimate.low == pytest.approx(middle - half, abs=1e-12)
    assert estimate.high == pytest.approx(middle + half, abs=1e-12)
    assert estimate.n == n


def test_median_lies_between_the_ranks_of_tables() -> None:
    # Order statistics 2 and 9 of 10, 40 and 61 of 100: the usual tables of 95 % intervals.
    for n, low, high in ((10, 2, 9), (100, 40, 61)):
        estimate = median(np.random.default_rng(0).permutation(n) + 1.0)
        assert (estimate.low, estimate.value, estimate.high) == (low, (n + 1) / 2, high)


def test_intervals_of_the_median_cover() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 30):
        covered = 0
        for _ in range(1000):
            estimate = median(rng.standard_normal(n))
            covered += estimate.low <= 0 <= estimate.high
        # At least 95 %, where n is large enough for that: 1 - 2/2⁵ otherwise. Four standard deviations.
        assert covered / 1000 > (0.95 if n > 5 else 0.9375) - 4 * math.sqrt(0.05 * 0.95 / 1000)


def test_censored_values_are_beyond_all_others() -> None:
    assert median(np.array([1.0, np.inf, np.inf])).value == np.inf
    assert median(np.array([1.0, 2.0, np.inf])).value == 2.0
    assert median(np.array([1.0, np.inf])).value == np.inf  # half of them do not change
    few = median(np.r_[np.arange(9.0), np.inf])
    assert few.value == 4.5
    assert few.high == 8


def test_nothing_to_measure_is_nan() -> None:
    for estimate in (share(0, 0), median(np.array([]))):
        assert math.isnan(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert estimate.n == 0


def test_estimates_are_printed_with_their_intervals() -> None:
    assert share(93, 100).percent() == "93.0 % [86.3, 96.6]"
    assert median(np.array([1.0, 2.0, np.inf])).plain(2) == "2.00 [1.00, inf] (75 %)"
    assert Estimate(-1e-4, -1e-17, 0.3, 7).plain(2) == "0.00 [0.00, 0.30]"  # no minus before zero
    assert Estimate(-0.0, 1234.5, 98765, 7).text(",.0f") == "0 [1,234, 98,765]"
    assert Estimate(-1e-5, -0.2, 1e-9, 7).percent() == "0.0 % [-20.0, 0.0]"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 30])
def test_the_median_of_few_values_says_how_often_its_interval_covers(n: int) -> None:
    rng = np.random.default_rng(n)
    estimates = [median(rng.standard_normal(n)) for _ in range(2000)]
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    stated = {estimate.confidence for estimate in estimates}
    if n < 6:  # the whole range: all values but those that are all above or all below
        assert stated == {1 - 2 / 2**n}
        assert covered == pytest.approx(1 - 2 / 2**n, abs=0.05)
        assert f"({100 * (1 - 2 / 2**n):.0f} %)" in estimates[0].plain()
        assert f"({100 * (1 - 2 / 2**n):.0f} %)" in estimates[0].percent()
    else:
        assert stated == {0.95}
        assert covered > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)
        assert "(" not in estimates[0].plain()


def test_intervals_of_the_mean_stay_within_the_values() -> None:
    # Without the cut, rounding leaves some of these below the smallest value: -1e-17 for a count.
    for n in range(2, 60):
        values = np.zeros(n)
        values[:2] = 0.1, 0.7
        estimate = mean(values)
        assert values.min() <= estimate.low <= estimate.value <= estimate.high <= values.max()
        assert "-" not in estimate.plain(1)


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_mean_has_the_interval_of_the_textbook(offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boundarygeo.statistics._RESAMPLES", 100_000)  # of the interval's error 0.003 are left
    values = np.random.default_rng(1).exponential(size=40) + offset
    estimate = mean(values)
    expected = stats.bootstrap((values - offset,), np.mean, n_resamples=99_999, batch=9_999, method="BCa", rng=2)
    assert estimate.value == values.mean()
    assert estimate.n == 40
    assert estimate.low - offset == pytest.approx(expected.confidence_interval.low, abs=0.015)
    assert estimate.high - offset == pytest.approx(expected.confidence_interval.high, abs=0.015)
    # Skewed to the right, as the values are.
    assert estimate.high - estimate.value > 1.1 * (estimate.value - estimate.low)


def test_intervals_of_the_mean_cover() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        estimate = mean(rng.exponential(size=50))
        covered += estimate.low <= 1 <= estimate.high
    assert 0.87 < covered / 200 < 0.99


def test_mean_is_repeatable_and_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).standard_normal(30)
    assert mean(values, seed=1) == mean(values, seed=1) != mean(values, seed=2)
    whole = mean(values)
    monkeypatch.setattr("boundarygeo.statistics._RESAMPLED_AT_ONCE", 1000)
    assert mean(values) == whole


def test_means_of_few_or_equal_values() -> None:
    assert mean(np.array([2.5, 2.5, 2.5])).plain(1) == "2.5 [2.5, 2.5]"
    one = mean(np.array([3.0]))
    assert (one.value, one.n) == (3.0, 1)
    assert math.isnan(one.low)
    nothing = mean(np.array([]))
    assert math.isnan(nothing.value)
    assert nothing.n == 0
    rare = mean(np.r_[np.zeros(99), 1.0])  # one in a hundred: the interval holds it, and no negative share
    assert 0 <= rare.low < 0.01 < rare.high < 0.1
    with pytest.raises(ValueError, match="values must be finite: censored values have a median, but no mean"):
        mean(np.array([1.0, np.inf]))


def test_rank_correlation_is_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(6, size=60).astype(float)
    b = a + rng.integers(5, size=60)
    estimate = rank_correlation(a, b)
    assert estimate.value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    half = Z * math.sqrt((1 + estimate.value**2 / 2) / 57)
    assert math.atanh(estimate.high) - math.atanh(estimate.low) == pytest.approx(2 * half)
    assert math.atanh(estimate.high) + math.atanh(estimate.low) == pytest.approx(2 * math.atanh(estimate.value))
    assert estimate.n == 60
    assert rank_correlation(np.exp(a), b) == estimate
    assert rank_correlation(-a, b).value == pytest.approx(-estimate.value)


def test_intervals_of_the_rank_correlation_cover() -> None:
    # Of normal variables with correlation r it is 6/π asin(r/2).
    rng = np.random.default_rng(0)
    for r in (0.0, 0.5, 0.9):
        truth, covered = 6 / math.pi * math.asin(r / 2), 0
        for _ in range(500):
            a, noise = rng.standard_normal((2, 40))
            estimate = rank_correlation(a, r * a + math.sqrt(1 - r**2) * noise)
            covered += estimate.low <= truth <= estimate.high
        assert 0.95 - 4 * math.sqrt(0.05 * 0.95 / 500) < covered / 500 < 0.99


def test_rank_correlations_at_the_edges() -> None:
    infinite = rank_correlation(np.array([1.0, 2, 3, np.inf]), np.array([1.0, 2, 3, 4]))
    assert infinite.value == 1
    assert rank_correlation(np.arange(11.0), -(np.arange(11.0) ** 2)).value == -1
    assert math.isnan(infinite.low)
    assert math.isnan(rank_correlation(np.ones(9), np.arange(9.0)).value)
    assert math.isnan(rank_correlation(np.array([]), np.array([])).value)
    few = rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 3, 2]))
    assert few.value == pytest.approx(0.5)
    assert math.isnan(few.low)
    with pytest.raises(ValueError, match=r"a and b must be one value per example, got \[2\] and \[3\]"):
        rank_correlation(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="a and b must be numbers, got NaN"):
        rank_correlation(np.array([1.0, np.nan]), np.ones(2))
