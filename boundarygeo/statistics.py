"""Numbers with their intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

_RESAMPLES = 10_000
_RESAMPLED_AT_ONCE = 1_000_000
"""Values drawn at once when resampling: 8 MB."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample.

    Attributes:
        value: the number; NaN where there is nothing to measure.
        low: lower end of its 95 % interval.
        high: upper end.
        n: size of the sample.
        confidence: how often such an interval holds the true value: 0.95, but less for the median of few values.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE

    def percent(self) -> str:
        """The number as a percentage with its interval, e.g. `93.0 % [86.3, 96.6]`; marked as in `plain`."""
        return f"{100 * self.value:z.1f} % [{100 * self.low:z.1f}, {100 * self.high:z.1f}]{self._mark}"

    def plain(self, digits: int = 4) -> str:
        """The number with its interval, e.g. `0.0123 [0.0101, 0.0150]`.

        An interval that holds the true value less often than 95 % says so: `2.0 [1.0, 4.0] (75 %)`.
        """
        return self.text(f".{digits}f")

    def text(self, form: str) -> str:
        """The same as `plain` with any format of numbers, e.g. `,.0f`; zero never has a minus."""
        value, low, high = (f"{number:z{form}}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]{self._mark}"

    @property
    def _mark(self) -> str:
        return f" ({100 * self.confidence:.0f} %)" if self.confidence < CONFIDENCE else ""


def share(hits: int, n: int) -> Estimate:
    """A share with its 95 % Wilson score interval (Wilson 1927).

    Args:
        hits: how many have the property.
        n: how many there are.

    Returns:
        The estimate.

    Examples:
        >>> share(93, 100).percent()
        '93.0 % [86.3, 96.6]'
    """
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(hits / n, float(interval.low), float(interval.high), n)


def median(values: np.ndarray) -> Estimate:
    """A median with its 95 % interval from the order statistics (distribution-free; infinite values are allowed).

    The interval runs between the order statistics whose ranks bound the central 95 % of a binomial distribution
    with p = 1/2; with fewer than six values no two of them do, and the interval is their whole range, which holds the
    population's median with probability 1 - 2/2ⁿ: the estimate's `confidence`. Censored values enter as infinity, so
    that a median among them is reported as infinite.

    Args:
        values: sample, `[n]`.

    Returns:
        The estimate.

    Examples:
        >>> median(np.arange(101.0)).plain(0)
        '50 [40, 60]'
        >>> median(np.array([1.0, 2.0, 4.0])).plain(1)
        '2.0 [1.0, 4.0] (75 %)'
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
    low, high = max(rank - 1, 0), min(n - rank, n - 1)
    middle = ordered[[(n - 1) // 2, n // 2]]
    return Estimate(
        float(middle.mean()) if np.isfinite(middle).all() else float(middle[1]),
        float(ordered[low]),
        float(ordered[high]),
        n,
        min(CONFIDENCE, 1 - 2 / 2**n),  # the whole range misses where all values are on one side
    )


def mean(values: np.ndarray, *, seed: int = 0) -> Estimate:
    r"""A mean with its 95 % bootstrap interval: bias-corrected and accelerated (BCa, Efron 1987).

    The interval runs between the percentiles :math:`\Phi(z_0+\frac{z_0+z}{1-a(z_0+z)})` of the means of 10,000 samples
    drawn with replacement, z = ±1.96, where :math:`\Phi(z_0)` is the share of them below the mean (ties count half)
    and a is a sixth of the skewness of the mean, :math:`\frac16\sum d_i^3/(\sum d_i^2)^{3/2}` of the deviations d_i.
    It is a point where all values are equal; at n = 1 nothing is known, and the interval is NaN.

    Args:
        values: sample, `[n]`, finite.
        seed: seed of the resampling.

    Returns:
        The estimate.

    Raises:
        ValueError: if a value is infinite or NaN: a censored one has no place in a mean, but in a median.

    Examples:
        >>> mean(np.arange(101.0)).plain(1)
        '50.0 [44.4, 55.7]'
    """
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        raise ValueError("values must be finite: censored values have a median, but no mean")
    n = len(sample)
    if n < 2:
        return Estimate(float(sample[0]) if n else np.nan, np.nan, np.nan, n)
    middle = float(sample.mean())
    deviations = sample - middle
    if not deviations.any():
        return Estimate(middle, middle, middle, n)
    rng = np.random.default_rng(seed)
    block = max(1, _RESAMPLED_AT_ONCE // n)
    sizes = [min(block, _RESAMPLES - done) for done in range(0, _RESAMPLES, block)]
    # Of the deviations, not of the values: nothing is lost where they are small beside the mean.
    resampled = np.concatenate([deviations[rng.integers(n, size=(size, n))].mean(1) for size in sizes])
    below = ((resampled < 0).sum() + (resampled == 0).sum() / 2) / _RESAMPLES
    bias = stats.norm.ppf(np.clip(below, 1 / _RESAMPLES, 1 - 1 / _RESAMPLES))
    scaled = deviations / np.abs(deviations).max()
    acceleration = (scaled**3).sum() / (6 * (scaled**2).sum() ** 1.5)
    shifted = bias + stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    ends = np.quantile(resampled, stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)))
    # No mean of values that were drawn lies outside their range: what does is rounding.
    low, high = np.clip(middle + ends, sample.min(), sample.max())
    return Estimate(middle, float(low), float(high), n)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> Estimate:
    r"""Spearman's rank correlation with its 95 % interval (Bonett & Wright 2000).

    Equal values share the mean of their ranks, and infinite ones are the largest. The interval is
    :math:`\tanh(\mathrm{artanh}\,\rho\pm1.96\sqrt{(1+\rho^2/2)/(n-3)})`. It is made for values without many ties.

    Args:
        a: values `[n]`.
        b: values of the same examples `[n]`.

    Returns:
        The estimate; NaN where all values of a or b are equal. The interval is NaN below n = 4 and at ±1, where the
        formula has nothing to say.

    Raises:
        ValueError: if they do not match, or a value is NaN.

    Examples:
        >>> rank_correlation(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 4, 9, 25, 16])).plain(2)
        '0.90 [-0.17, 1.00]'
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a and b must be one value per example, got {list(first.shape)} and {list(second.shape)}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("a and b must be numbers, got NaN")
    n = len(first)
    # Multiples of a half: the sums are exact, and so is a correlation of ±1.
    ranks = [stats.rankdata(values) - (n + 1) / 2 for values in (first, second)]
    squares = float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    if not squares:
        return Estimate(np.nan, np.nan, np.nan, n)
    value = float(ranks[0] @ ranks[1] / np.sqrt(squares))
    if n < 4 or abs(value) == 1:
        return Estimate(value, np.nan, np.nan, n)
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((1 + value**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high), n)
