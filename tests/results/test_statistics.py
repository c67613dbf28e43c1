import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from boundarygeo.results.statistics import (
    Estimate,
    _influence,
    mean,
    median,
    paired_difference,
    rank_correlation,
    rank_correlation_of_pairs,
    share,
)

Z = 1.959963984540054  # of a central 95 %


@pytest.mark.parametrize(("hits", "n"), [(93, 100), (0, 10), (10, 10), (4, 8)])
def test_share_has_the_interval_of_wilson(hits: int, n: int) -> None:
    estimate = share(hits, n)
    middle = (hits + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * math.sqrt(hits * (n - hits) / n + Z**2 / 4)
    assert estimate.value == hits / n
    assert estimate.low == pytest.approx(middle - half, abs=1e-12)
    assert estimate.high == pytest.approx(middle + half, abs=1e-12)
    assert estimate.n == n


@pytest.mark.parametrize(("hits", "n"), [(1, 1), (1, 2), (2, 9), (3, 100), (1, 5000)])
def test_the_interval_of_few_hits_ends_where_so_many_are_rare(hits: int, n: int) -> None:
    estimate, mirrored = share(hits, n), share(n - hits, n)
    assert stats.poisson.sf(hits - 1, estimate.low * n) == pytest.approx(0.05)
    assert (estimate.low, estimate.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))
    assert estimate.low < hits / n <= estimate.high


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20, 50, 200])
def test_intervals_of_every_share_cover(n: int) -> None:
    # Exactly, for a grid of shares. Wilson's own hold 84 % near 0.
    true = np.concatenate([np.geomspace(1e-4, 0.05, 200), np.linspace(0.05, 0.5, 200)])
    estimates = [share(hits, n) for hits in range(n + 1)]
    low, high = (np.array([getattr(e, end) for e in estimates])[:, None] for end in ("low", "high"))
    chances = stats.binom.pmf(np.arange(n + 1)[:, None], n, true)
    coverage = (chances * ((low <= true) & (true <= high))).sum(0)
    assert coverage.min() > 0.918
    assert coverage[true >= 0.05].mean() > 0.949


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


def test_estimates_without_an_interval_say_so() -> None:
    for estimate in (mean(np.array([2.0])), mean(np.array([2.0, 2.0, 2.0]))):
        assert not estimate.has_interval
        assert estimate.plain(1) == "2.0 (no interval)"
        assert estimate.text(",.0f") == "2 (no interval)"
        assert estimate.percent() == "200.0 % (no interval)"
    assert replace(mean(np.array([2.0])), confidence=0.88).mark == ""  # of what there is not
    assert mean(np.array([1.0, 2.0])).mark == " (88 %)"
    assert share(0, 0).percent() == "nan % (no interval)"
    assert share(0, 5).has_interval


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


@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_means_of_symmetric_values_have_the_interval_of_student(n: int) -> None:
    half = np.random.default_rng(n).standard_normal(n // 2)
    values = np.r_[3 - half, 3 + half, [3.0] * (n % 2)]
    estimate = mean(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    if n > 2:
        # Of Hall's transformation without skewness only t is left.
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.value == pytest.approx(3)
    assert estimate.n == n


@pytest.mark.parametrize("n", [3, 5, 20, 200])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_ends_of_the_mean_lie_where_the_transformed_t_is_rare(n: int, sign: int) -> None:
    values = sign * np.random.default_rng(n).lognormal(size=n)
    estimate = mean(values)
    skewness, error, rare = stats.skew(values), stats.sem(values), stats.t.ppf(0.975, n - 1)
    tail, other = (estimate.high, estimate.low) if sign > 0 else (estimate.low, estimate.high)
    t = (estimate.value - tail) / error
    transformed = t + skewness * t**2 / (3 * n**0.5) + skewness**2 * t**3 / (27 * n) + skewness / (6 * n**0.5)
    assert transformed == pytest.approx(-sign * rare)
    assert (estimate.value - other) / error == pytest.approx(sign * rare)  # away from the tail it is Student's
    assert abs(tail - estimate.value) > abs(other - estimate.value)


SAMPLERS = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "lognormal": (lambda rng, shape: rng.lognormal(size=shape), math.exp(0.5)),
    "of two values": (lambda rng, shape: (rng.random(shape) < 0.2).astype(float), 0.2),
    "counts": (lambda rng, shape: rng.poisson(2, shape).astype(float), 2.0),
    "heavy tails": (lambda rng, shape: rng.standard_t(3, shape), 0.0),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [2, 3, 5, 8, 20, 50, 200])
def test_intervals_of_the_mean_cover_as_often_as_they_say(name: str, n: int) -> None:
    draw, true = SAMPLERS[name]
    estimates = [mean(values) for values in draw(np.random.default_rng(n), (500, n))]
    known = [each for each in estimates if not math.isnan(each.low)]
    covered = np.mean([each.low <= true <= each.high for each in known])
    (stated,) = {each.confidence for each in known}
    assert stated == (0.95 if n >= 20 else 0.88)
    assert covered > stated - 4 * math.sqrt(stated * (1 - stated) / 500)
    if name in ("normal", "lognormal") and n >= 20:
        assert covered < 0.98


def test_a_mean_depends_on_the_values_alone() -> None:
    values = np.random.default_rng(1).lognormal(size=30)
    estimate = mean(values)
    numbers = np.array([estimate.value, estimate.low, estimate.high])
    assert mean(values) == estimate
    for changed, expected in (
        (values[::-1], numbers),
        (1e9 + values, 1e9 + numbers),  # nothing is lost where deviations are small beside the mean
        (-values, -numbers[[0, 2, 1]]),
        (1e-200 * values, 1e-200 * numbers),
        (1e200 * values, 1e200 * numbers),
    ):
        again = mean(changed)
        assert [again.value, again.low, again.high] == pytest.approx(expected, rel=1e-15 if changed[0] > 1e8 else 1e-9)


def test_means_of_few_or_equal_values() -> None:
    for equal in ([3.0], [2.5, 2.5, 2.5], [0.1] * 100):
        estimate = mean(np.array(equal))
        assert (estimate.value, estimate.n) == (pytest.approx(equal[0]), len(equal))
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    nothing = mean(np.array([]))
    assert math.isnan(nothing.value)
    assert nothing.n == 0
    assert mean(np.array([1.0, 2.0])).plain(1) == "1.5 [-4.9, 7.9] (88 %)"
    counts = np.array([0.0, 0.0, 7.0])
    assert mean(counts, within=(0, np.inf)) == replace(mean(counts), low=0)
    assert mean(counts, within=(0, 9)) == replace(mean(counts), low=0, high=9)
    rare = mean(np.r_[np.zeros(99), 1.0])  # one in a hundred: up to 5.4 % by Clopper & Pearson
    assert rare.low < 0.01 < 0.054 < rare.high < 0.1
    for censored in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="values must be finite: use the median for censored values"):
            mean(np.array([1.0, censored]))


def test_rank_correlation_is_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(6, size=60).astype(float)
    b = a + rng.integers(5, size=60)
    estimate = rank_correlation(a, b)
    assert estimate.value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    # Values that tie as these do scatter less than normal ones: Bonett and Wright's interval.
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


def test_rank_correlations_that_scatter_more_have_the_variance_of_the_jackknife() -> None:
    rng = np.random.default_rng(3)
    a, noise = rng.standard_normal((2, 300))
    b = np.round(a * (0.5 + noise))  # one says how far the other scatters; with ties
    estimate = rank_correlation(a, b)
    left_out = [np.arange(300) != i for i in range(300)]
    values = np.arctanh([stats.spearmanr(a[kept], b[kept]).statistic for kept in left_out])
    spread = math.sqrt(299 / 300 * ((values - values.mean()) ** 2).sum())
    half = (math.atanh(estimate.high) - math.atanh(estimate.low)) / 2
    assert half == pytest.approx(Z * spread, rel=0.02)
    assert half > 1.2 * Z * math.sqrt((1 + estimate.value**2 / 2) / 297)
    ranks = [stats.rankdata(values) - 150.5 for values in (a, b)]
    assert _influence(*ranks).mean() == pytest.approx(0, abs=1e-12)  # ties count half


@pytest.mark.parametrize("n", [6, 20, 100])
def test_intervals_of_the_rank_correlation_cover_without_normal_values(n: int) -> None:
    rng = np.random.default_rng(n)

    def scattered(size: int) -> tuple[np.ndarray, np.ndarray]:
        a, noise = rng.standard_normal((2, size))
        return a, a * (0.5 + noise)

    def tied(size: int) -> tuple[np.ndarray, np.ndarray]:
        a, noise = rng.standard_normal((2, size))
        return a, np.where(a + noise > 0.5, a + noise, 0.5)  # two thirds are equal

    for draw in (scattered, tied):
        true = stats.spearmanr(*draw(400_000)).statistic
        estimates = [rank_correlation(*draw(n)) for _ in range(500)]
        known = [each for each in estimates if not math.isnan(each.low)]
        covered = np.mean([each.low <= true <= each.high for each in known])
        assert covered > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 500)


def test_the_interval_of_a_paired_difference_is_that_of_student_with_one_more_on_either_side() -> None:
    for first, second, n in ((6, 2, 40), (0, 0, 10), (0, 7, 7), (1, 0, 1)):
        estimate = paired_difference(first, second, n)
        outcomes = np.r_[np.ones(first + 1), -np.ones(second + 1), np.zeros(n - first - second)]
        expected = stats.ttest_1samp(outcomes, 0).confidence_interval()
        assert estimate.value == (first - second) / n
        assert estimate.low == pytest.approx(max(-1, expected.low))
        assert estimate.high == pytest.approx(min(1, expected.high))
        assert estimate.low < estimate.value + 1e-12
        assert estimate.value - 1e-12 < estimate.high
        swapped = paired_difference(second, first, n)
        assert (swapped.low, swapped.high) == pytest.approx((-estimate.high, -estimate.low))
    assert math.isnan(paired_difference(0, 0, 0).value)


@pytest.mark.parametrize("n", [2, 5, 10, 20, 60])
def test_intervals_of_every_paired_difference_cover(n: int) -> None:
    # Exactly, for a grid of shares: those of the trinomial distribution.
    counts = [(first, second) for first in range(n + 1) for second in range(n + 1 - first)]
    estimates = [paired_difference(*each, n) for each in counts]
    low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("low", "high"))
    everything = np.array([(*each, n - sum(each)) for each in counts])
    coverage = []
    for first in (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.5):
        for second in (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.5):
            chances = stats.multinomial.pmf(everything, n, [first, second, 1 - first - second])
            inside = (low <= first - second + 1e-12) & (first - second - 1e-12 <= high)
            coverage.append(float(chances[inside].sum()))
    assert min(coverage) > 0.933
    assert np.mean(coverage) > 0.95


def test_correlations_over_pairs_have_the_spread_of_leaving_members_out() -> None:
    rng = np.random.default_rng(4)
    a = np.broadcast_to(rng.standard_normal((7, 1)), (7, 7))
    b = a + rng.standard_normal((1, 7)) + 0.5 * rng.standard_normal((7, 7))
    estimate = rank_correlation_of_pairs(a, b)

    def without(*members: int) -> float:
        pairs = [(i, j) for i in range(7) for j in range(7) if i != j and not {i, j} & set(members)]
        return float(stats.spearmanr([a[pair] for pair in pairs], [b[pair] for pair in pairs]).statistic)

    values = np.array([without(member) for member in range(7)])
    half = stats.t.ppf(0.975, 6) * math.sqrt(6 / 7 * ((values - values.mean()) ** 2).sum()) / (1 - without() ** 2)
    assert estimate.value == pytest.approx(without())
    assert estimate.n == 42
    assert math.atanh(estimate.high) == pytest.approx(math.atanh(without()) + half)
    assert math.atanh(estimate.low) == pytest.approx(math.atanh(without()) - half)
    mixed = rng.permutation(7)
    assert rank_correlation_of_pairs(a[mixed][:, mixed], b[mixed][:, mixed]).low == pytest.approx(estimate.low)
    changed = b.copy()
    np.fill_diagonal(changed, 100.0)  # is ignored
    assert rank_correlation_of_pairs(a, changed) == estimate


def test_correlations_over_pairs_of_which_some_are_unknown() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 6, 6))
    a[5], a[:, 5] = np.nan, np.nan  # a member without any pair is none
    estimate = rank_correlation_of_pairs(a, b)
    assert estimate == rank_correlation_of_pairs(a[:5, :5], b[:5, :5])
    assert estimate.n == 20
    off = ~np.eye(5, dtype=bool)
    apart = rank_correlation(a[:5, :5][off], b[:5, :5][off])
    assert estimate.low <= apart.low
    assert estimate.high >= apart.high
    few = rank_correlation_of_pairs(a[:3, :3], b[:3, :3])
    assert few.n == 6
    assert not few.has_interval
    alone = np.zeros((5, 5))
    alone[2] = np.arange(5)  # without this one all are equal
    assert not rank_correlation_of_pairs(alone, b[:5, :5]).has_interval
    assert not rank_correlation_of_pairs(a[:5, :5], a[:5, :5]).has_interval  # ρ = 1
    with pytest.raises(ValueError, match=r"a and b must be square and match, got \[3, 4\] and \[3, 4\]"):
        rank_correlation_of_pairs(a[:3, :4], b[:3, :4])


@pytest.mark.parametrize("members", [4, 6, 10])
@pytest.mark.parametrize("own", [0.0, 1.0, 3.0])
def test_correlations_over_pairs_of_few_members_cover(members: int, own: float) -> None:
    rng = np.random.default_rng(members)
    covered, runs = 0, 150
    for _ in range(runs):
        a = np.broadcast_to(rng.standard_normal((members, 1)), (members, members))
        sides = rng.standard_normal((members, 1)) + rng.standard_normal((1, members))
        estimate = rank_correlation_of_pairs(a, own * sides + rng.standard_normal((members, members)))
        covered += estimate.low <= 0 <= estimate.high
    assert covered / runs > 0.95 - 4 * math.sqrt(0.05 * 0.95 / runs)


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
