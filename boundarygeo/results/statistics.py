"""Numbers with their intervals."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

_SKEWED = 20
_SKEWED_CONFIDENCE = 0.88
"""What intervals of the mean of fewer than 20 values hold, measured in benchmarks/coverage.py."""

_RARE = 3
"""Hits so few that their interval's end near 0 is that of a Poisson distribution."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample.

    Attributes:
        value: the number; NaN where there is nothing to measure.
        low: lower end of its 95 % interval; NaN where nothing is known.
        high: upper end.
        n: size of the sample.
        confidence: how often such an interval holds the true value: 0.95, but less for the mean and median of few
            values.
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

        An interval that holds the true value less often than 95 % says so: `2.0 [1.0, 4.0] (75 %)`. Where there
        is none: `2.0 (no interval)`.
        """
        return self.text(f".{digits}f")

    def text(self, form: str) -> str:
        """The same as `plain` with any format of numbers, e.g. `,.0f`; zero never has a minus."""
        return self._printed(f"z{form}", 1, "")

    @property
    def mark(self) -> str:
        """What follows an interval that holds less often than 95 %, e.g. ` (88 %)`; otherwise nothing."""
        return f" ({100 * self.confidence:.0f} %)" if self.confidence < CONFIDENCE and self.has_interval else ""

    @property
    def has_interval(self) -> bool:
        """Whether anything is known of how far the number may be off."""
        return not math.isnan(self.low)

    def _printed(self, form: str, scale: int, unit: str) -> str:
        value, low, high = (f"{scale * number:{form}}" for number in (self.value, self.low, self.high))
        return f"{value}{unit} [{low}, {high}]{self.mark}" if self.has_interval else f"{value}{unit} (no interval)"


def share(hits: int, n: int) -> Estimate:
    r"""A share with its 95 % Wilson score interval (Wilson 1927), modified near 0 and 1 (Brown, Cai & DasGupta 2001).

    Where the true share is near 0, Wilson's interval of one to three hits begins too high: it holds 84 % at the worst.
    There it begins at :math:`\frac1{2n}\chi^2_{0.05,\,2\,\mathrm{hits}}`, the exact one-sided bound of a Poisson
    distribution, and likewise near 1. Then 92 % or more of the intervals hold, whatever the share, 95 % on average.

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
    low, high = float(interval.low), float(interval.high)
    if 0 < hits <= _RARE:
        low = min(low, _rarest(hits) / n)
    if 0 < n - hits <= _RARE:
        high = max(high, 1 - _rarest(n - hits) / n)
    return Estimate(hits / n, low, high, n)


def _rarest(hits: int) -> float:
    """The smallest mean of a Poisson distribution that gives so many hits in 5 % of all cases."""
    return float(stats.chi2.ppf(1 - CONFIDENCE, 2 * hits)) / 2


def paired_difference(first: int, second: int, n: int) -> Estimate:
    r"""A difference of two shares of the same examples with its 95 % interval (after Bonett & Price 2012).

    It is Student's interval of the n differences, each -1, 0 or 1, with one more of -1 and of 1 added to them: of
    :math:`p_1=\frac{\mathrm{first}+1}{n+2}` and :math:`p_2=\frac{\mathrm{second}+1}{n+2}`

    .. math:: p_1-p_2\pm t_{n+1}\sqrt{\frac{p_1+p_2-(p_1-p_2)^2}{n+1}}.

    So it says, too, how large a difference may be where none was seen. With 1.96, as in the paper, 89 % of the
    intervals hold at the worst, with t 93 %, whatever the shares.

    Args:
        first: how many have the first property and not the second.
        second: how many have the second property and not the first.
        n: how many there are.

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


def mean(values: np.ndarray, *, within: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    r"""A mean with its 95 % interval: Student's t, made longer on the side to which the values are skewed (Hall 1992).

    Of skewed values, :math:`t=(\bar x-\mu)/\mathrm{se}` is skewed the other way. Hall's transformation removes that:

    .. math:: g(t) = t + at^2 + \tfrac{a^2}3t^3 + \tfrac a2, \qquad a = \frac{\text{skewness}}{3\sqrt n}.

    The interval holds every μ that t or g(t) finds between the 2.5 and 97.5 % points of Student's distribution: for
    symmetric values it is that of the textbook, and it is never shorter.

    It holds 95 % for normal values from n = 2 on, and about that for values as skewed as lognormal ones (σ = 1) from
    n = 20 on. Fewer values cannot show how skewed they are: for these it holds 88 % or more, the estimate's
    `confidence`. No interval holds for every distribution (Bahadur & Savage 1956): what is rare and large, and was not
    seen, is not in it. Where all values are equal, nothing is known of how they vary, and the interval is NaN.

    Args:
        values: sample of independent values, `[n]`, finite.
        within: smallest and largest possible value, where they are known: the interval is cut there.

    Returns:
        The estimate. The interval is NaN below n = 2, too.

    Raises:
        ValueError: if a value is infinite or NaN: a censored one has no place in a mean, but in a median.

    Examples:
        >>> mean(np.arange(101.0)).plain(1)
        '50.0 [44.2, 55.8]'
        >>> mean(np.array([1.0, 2.0, 4.0])).plain(1)
        '2.3 [-1.5, 10.1] (88 %)'
    """
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        raise ValueError("values must be finite: censored values have a median, but no mean")
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
    normal values. Where one value says how far the other scatters, or extremes go together, it is too small: v is at
    least the sample's own variance of :math:`\mathrm{artanh}\,\rho`, from the influence of each pair (Hampel 1974).

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
        '0.90 [-0.84, 1.00]'
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
    own = float((_influence(*ranks) ** 2).mean()) / (1 - value**2) ** 2
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(max(1 + value**2 / 2, own) / (n - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high), n)


def rank_correlation_of_pairs(a: np.ndarray, b: np.ndarray) -> Estimate:
    r"""Spearman's rank correlation over ordered pairs of the same m members, with its 95 % interval.

    Pairs that share a member depend on each other: m members say less than m (m - 1) independent pairs. The interval
    is :math:`\tanh(\mathrm{artanh}\,\rho\pm t\,s/(1-\rho^2))`, t that of Student's distribution with m - 1 degrees, s
    the jackknife's standard error, which leaves out one member at a time with all its pairs (Efron & Stein 1981: on
    average it is not too small). It is never shorter than that of `rank_correlation`.

    Args:
        a: values `[first, second]`; the diagonal is ignored.
        b: values of the same pairs `[first, second]`. A pair counts where both are known, not NaN.

    Returns:
        The estimate; n is the number of pairs. The interval is NaN below m = 4, where `rank_correlation` has none, and
        where all values are equal without one of the members.

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
    """What each pair adds to the correlation of centred ranks, times n, `[n]`: mean square / n is the variance."""
    size = len(a)
    a, b = a / size, b / size
    ab, aa, bb = (a * b).mean(), (a * a).mean(), (b * b).mean()
    # A pair counts by itself, and by the ranks of all that are above it.
    cross = a * b - ab + _above(a, b) + _above(b, a) - 2 * ab
    first, second = (own * own - square + 2 * (_above(own, own) - square) for own, square in ((a, aa), (b, bb)))
    return (cross - ab / 2 * (first / aa + second / bb)) / np.sqrt(aa * bb)


def _above(ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each rank, the sum of the weights of larger ranks, and half of those of equal ones, over n, `[n]`."""
    _, group = np.unique(ranks, return_inverse=True)
    sums = np.bincount(group, weights)
    return (sums.sum() - np.cumsum(sums) + sums / 2)[group] / len(ranks)
