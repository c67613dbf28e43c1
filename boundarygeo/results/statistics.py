"""Numbers with their intervals."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

_SKEWED = 20
_SKEWED_CONFIDENCE = 0.88
"""Actual coverage of intervals of the mean of fewer than 20 values, measured in benchmarks/coverage.py."""

_RARE = 3
"""Number of hits up to which an interval's end near 0 is that of a Poisson distribution."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample.

    Attributes:
        value: the number; NaN without data.
        low: lower end of its 95 % interval; NaN if unknown.
        high: upper end.
        n: size of the sample.
        confidence: coverage of the interval: 0.95, but less for the mean and median of few values.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE

    def percent(self) -> str:
        """The number as a percentage with its interval, e.g. `93.0 % [86.3, 96.6]`; marked as in `plain`."""
        return self._printed("z.1f", 100, " %")

    def plain(self, digits: int = 4) -> str:
        """The number with its interval, e.g. `0.0123 [0.0101, 0.0150]`.

        An interval with less than 95 % coverage shows it: `2.0 [1.0, 4.0] (75 %)`. Without an interval: `2.0 (no
        interval)`.
        """
        return self.text(f".{digits}f")

    def text(self, form: str) -> str:
        """As `plain`, with any number format, e.g. `,.0f`; zero never has a minus sign."""
        return self._printed(f"z{form}", 1, "")

    @property
    def mark(self) -> str:
        """Text after an interval with less than 95 % coverage, e.g. ` (88 %)`; otherwise empty."""
        return f" ({100 * self.confidence:.0f} %)" if self.confidence < CONFIDENCE and self.has_interval else ""

    @property
    def has_interval(self) -> bool:
        """Whether the interval is known."""
        return not math.isnan(self.low)

    def _printed(self, form: str, scale: int, unit: str) -> str:
        value, low, high = (f"{scale * number:{form}}" for number in (self.value, self.low, self.high))
        return f"{value}{unit} [{low}, {high}]{self.mark}" if self.has_interval else f"{value}{unit} (no interval)"


def share(hits: int, n: int) -> Estimate:
    r"""A share with its 95 % Wilson score interval (Wilson 1927), modified near 0 and 1 (Brown, Cai & DasGupta 2001).

    Where the true share is near 0, Wilson's interval of one to three hits starts too high: its coverage is 84 % at
    worst. There it starts at :math:`\frac1{2n}\chi^2_{0.05,\,2\,\mathrm{hits}}`, the exact one-sided bound of a Poisson
    distribution, and likewise near 1. The coverage is then 92 % or more for every share, and 95 % on average.

    Args:
        hits: number with the property.
        n: total number.

    Returns:
        The estimate.

    Examples:
        >>> share(93, 100).percent()
        '93.0 % [86.3, 96.6]'
    """
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    low, high = float(interval.low), float(interval.high)
    if 0 < hits <= _RARE:
        low = min(low, _rarest(hits) / n)
    if 0 < n - hits <= _RARE:
        high = max(high, 1 - _rarest(n - hits) / n)
    return Estimate(hits / n, low, high, n)


def lower_bound(hits: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """One-sided lower Clopper-Pearson bounds of shares at level alpha, float64."""
    return np.where(hits > 0, stats.beta.ppf(alpha, np.maximum(hits, 1), n - hits + 1), 0.0)


def _rarest(hits: int) -> float:
    """The smallest mean of a Poisson distribution that gives this many hits or more in 5 % of cases."""
    return float(stats.chi2.ppf(1 - CONFIDENCE, 2 * hits)) / 2


def paired_difference(first: int, second: int, n: int) -> Estimate:
    r"""Difference of two shares of the same examples with its 95 % interval (after Bonett & Price 2012).

    This is Student's interval of the n differences, each -1, 0 or 1, with one more of -1 and of 1 added to them: of
    :math:`p_1=\frac{\mathrm{first}+1}{n+2}` and :math:`p_2=\frac{\mathrm{second}+1}{n+2}`

    .. math:: p_1-p_2\pm t_{n+1}\sqrt{\frac{p_1+p_2-(p_1-p_2)^2}{n+1}}.

    So it also shows how large a difference may be if none was seen. With 1.96, as in the paper, the coverage is 89 % at
    worst, with t it is 93 %, for all shares.

    Args:
        first: number with the first property and not the second.
        second: number with the second property and not the first.
        n: total number.

    Returns:
        The estimate of the first share minus the second.

    Examples:
        >>> paired_difference(6, 2, 40).percent()
        '10.0 % [-5.6, 24.6]'
    """
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    one, other = (first + 1) / (n + 2), (second + 1) / (n + 2)
    middle = one - other
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n + 1) * math.sqrt((one + other - middle**2) / (n + 1))
    return Estimate((first - second) / n, max(-1.0, float(middle - half)), min(1.0, float(middle + half)), n)


def median(values: np.ndarray) -> Estimate:
    """Median with its 95 % interval from the order statistics (distribution-free; infinite values are allowed).

    The interval runs between the order statistics whose ranks bound the central 95 % of a binomial distribution with p
    = 1/2. With fewer than six values no two of them do, and the interval is their whole range, which contains the
    population's median with probability 1 - 2/2ⁿ: the estimate's `confidence`. Censored values enter as infinity, so a
    median among them is reported as infinite.

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
        min(CONFIDENCE, 1 - 2 / 2**n),  # the whole range misses if all values are on one side
    )


def mean(values: np.ndarray, *, within: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    r"""Mean with its 95 % interval: Student's t, extended on the side to which the values are skewed (Hall 1992).

    For skewed values, :math:`t=(\bar x-\mu)/\mathrm{se}` is skewed the other way. Hall's transformation removes that:

    .. math:: g(t) = t + at^2 + \tfrac{a^2}3t^3 + \tfrac a2, \qquad a = \frac{\text{skewness}}{3\sqrt n}.

    The interval contains every μ for which t or g(t) is between the 2.5 and 97.5 % points of Student's distribution:
    for symmetric values it is the textbook interval, and it is never shorter.

    Its coverage is 95 % for normal values from n = 2 on, and about that for values as skewed as lognormal ones (σ = 1)
    from n = 20 on. Fewer values cannot show their skewness: for these the coverage is 88 % or more, the estimate's
    `confidence`. No interval works for every distribution (Bahadur & Savage 1956): it cannot include rare, large values
    that were not seen. If all values are equal, their variation is unknown and the interval is NaN.

    Args:
        values: sample of independent values, `[n]`, finite.
        within: smallest and largest possible value, if known: the interval is cut there.

    Returns:
        The estimate. The interval is also NaN for n < 2.

    Raises:
        ValueError: if a value is infinite or NaN: use `median` for censored values.

    Examples:
        >>> mean(np.arange(101.0)).plain(1)
        '50.0 [44.2, 55.8]'
        >>> mean(np.array([1.0, 2.0, 4.0])).plain(1)
        '2.3 [-1.5, 10.1] (88 %)'
    """
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        raise ValueError("values must be finite: use the median for censored values, which have no mean")
    n = len(sample)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    middle = float(sample.mean())
    deviations = sample - middle
    largest = float(np.abs(deviations).max())
    if n < 2 or np.ptp(sample) == 0:
        return Estimate(middle, np.nan, np.nan, n)
    scaled = deviations / largest  # no square overflows
    variance = (scaled**2).mean()
    error = largest * np.sqrt(variance / (n - 1))
    a = (scaled**3).mean() / variance**1.5 / (3 * np.sqrt(n))
    ends = stats.t.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n - 1)
    root = np.cbrt(1 + 3 * a * (ends - a / 2))
    inverse = 3 * (ends - a / 2) / (root**2 + root + 1)  # of g: (root - 1) / a, for every a
    low = max(within[0], float(middle - error * max(ends[1], inverse[1])))
    high = min(within[1], float(middle - error * min(ends[0], inverse[0])))
    return Estimate(middle, low, high, n, CONFIDENCE if n >= _SKEWED else _SKEWED_CONFIDENCE)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> Estimate:
    r"""Spearman's rank correlation with its 95 % interval (Bonett & Wright 2000, or wider).

    Equal values share the mean of their ranks, and infinite ones are the largest. The interval is
    :math:`\tanh(\mathrm{artanh}\,\rho\pm1.96\sqrt{v/(n-3)})`. Bonett and Wright's :math:`v=1+\rho^2/2` is that of
    normal values. It is too small if one value determines how far the other scatters, or if extremes coincide: v is at
    least the sample's own variance of :math:`\mathrm{artanh}\,\rho`, from the influence of each pair (Hampel 1974).

    Args:
        a: values `[n]`.
        b: values of the same examples `[n]`.

    Returns:
        The estimate; NaN if all values of a or b are equal. The interval is NaN for n < 4 and at ±1, where the formula
        is undefined.

    Raises:
        ValueError: if their shapes differ, or a value is NaN.

    Examples:
        >>> rank_correlation(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 4, 9, 25, 16])).plain(2)
        '0.90 [-0.84, 1.00]'
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a and b must be one value per example, got {list(first.shape)} and {list(second.shape)}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("a and b must be numbers, got NaN")
    n = len(first)
    # Multiples of one half: the sums are exact, and so is a correlation of ±1.
    ranks = [stats.rankdata(values) - (n + 1) / 2 for values in (first, second)]
    squares = float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    if not squares:
        return Estimate(np.nan, np.nan, np.nan, n)
    value = float(ranks[0] @ ranks[1] / np.sqrt(squares))
    if n < 4 or abs(value) == 1:
        return Estimate(value, np.nan, np.nan, n)
    own = float((_influence(*ranks) ** 2).mean()) / (1 - value**2) ** 2
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(max(1 + value**2 / 2, own) / (n - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high), n)


def rank_correlation_of_pairs(a: np.ndarray, b: np.ndarray) -> Estimate:
    r"""Spearman's rank correlation over ordered pairs of the same m members, with its 95 % interval.

    Pairs that share a member are dependent: m members carry less information than m (m - 1) independent pairs. The
    interval is :math:`\tanh(\mathrm{artanh}\,\rho\pm t\,s/(1-\rho^2))`, with t from Student's distribution with m - 1
    degrees of freedom and s the jackknife's standard error, which leaves out one member at a time with all its pairs
    (Efron & Stein 1981: on average it is not too small). It is never shorter than that of `rank_correlation`.

    Args:
        a: values `[first, second]`; the diagonal is ignored.
        b: values of the same pairs `[first, second]`. Pairs with a NaN are ignored.

    Returns:
        The estimate; n is the number of pairs. The interval is NaN for m < 4, where `rank_correlation` has none, and if
        leaving out one member makes all values equal.

    Raises:
        ValueError: if they are not square, or do not match.
    """
    one, other = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if one.shape != other.shape or one.ndim != 2 or one.shape[0] != one.shape[1]:
        raise ValueError(f"a and b must be square and match, got {list(one.shape)} and {list(other.shape)}")
    known = ~(np.isnan(one) | np.isnan(other) | np.eye(len(one), dtype=bool))
    whole = rank_correlation(one[known], other[known])
    members = np.flatnonzero(known.any(0) | known.any(1))
    if len(members) < 4 or not whole.has_interval:
        return replace(whole, low=np.nan, high=np.nan)
    numbers = np.arange(len(one))
    rest = [known & (numbers != member) & (numbers[:, None] != member) for member in members]
    values = np.array([rank_correlation(one[kept], other[kept]).value for kept in rest])
    error = np.sqrt((len(members) - 1) * values.var()) / (1 - whole.value**2)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(members) - 1) * error
    low, high = np.tanh(np.arctanh(whole.value) + np.array([-half, half]))
    return replace(whole, low=float(np.minimum(low, whole.low)), high=float(np.maximum(high, whole.high)))


def _influence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Each pair's contribution to the correlation of centred ranks, times n, `[n]`; mean square / n is the variance."""
    size = len(a)
    a, b = a / size, b / size
    ab, aa, bb = (a * b).mean(), (a * a).mean(), (b * b).mean()
    # A pair counts by itself, and through the ranks of all pairs above it.
    cross = a * b - ab + _above(a, b) + _above(b, a) - 2 * ab
    first, second = (own * own - square + 2 * (_above(own, own) - square) for own, square in ((a, aa), (b, bb)))
    return (cross - ab / 2 * (first / aa + second / bb)) / np.sqrt(aa * bb)


def _above(ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each rank, the sum of the weights of larger ranks, plus half of those of equal ones, over n, `[n]`."""
    _, group = np.unique(ranks, return_inverse=True)
    sums = np.bincount(group, weights)
    return (sums.sum() - np.cumsum(sums) + sums / 2)[group] / len(ranks)
