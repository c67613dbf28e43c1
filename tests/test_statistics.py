import math

import numpy as np
import pytest

from boundarygeo.statistics import median, share

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
    assert median(np.array([1.0, 2.0, np.inf])).plain(2) == "2.00 [1.00, inf]"
