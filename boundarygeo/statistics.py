"""Numbers with their intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample.

    Attributes:
        value: the number; NaN where there is nothing to measure.
        low: lower end of its 95 % interval.
        high: upper end.
        n: size of the sample.
    """

    value: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        """The number as a percentage with its interval, e.g. `93.0 % [86.3, 96.6]`."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def plain(self, digits: int = 4) -> str:
        """The number with its interval, e.g. `0.0123 [0.0101, 0.0150]`."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


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
    with p = 1/2. Censored values enter as infinity, so that a median among them is reported as infinite.

    Args:
        values: sample, `[n]`.

    Returns:
        The estimate.

    Examples:
        >>> median(np.arange(101.0)).plain(0)
        '50 [40, 60]'
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
    )
