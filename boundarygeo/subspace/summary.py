"""Dimensions as a distribution: never the mean alone."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from boundarygeo.evaluation import analysis
from boundarygeo.results.statistics import Estimate, mean, share

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class Counted(Protocol):
    """A count for each example, some of which are excluded: `AdversarialDimension`, `TransferredDimension`, …."""

    @property
    def verified(self) -> Tensor:
        """The count, int64 `[example]`."""
        ...

    @property
    def correct(self) -> Tensor:
        """Whether the example counts, bool `[example]`: every model that is concerned classifies it correctly."""
        ...

    @property
    def valid(self) -> Tensor:
        """Whether there is a direction to begin with, bool `[example]`."""
        ...

    @property
    def max_dimension(self) -> int:
        """Largest count that could be found."""
        ...


@runtime_checkable
class Searched(Counted, Protocol):
    """Counts that a search over frames found itself: `AdversarialDimension`, `SharedDimension`."""

    @property
    def attempts(self) -> Tensor:
        """How many frames were tried, int64 `[example]`."""
        ...

    @property
    def closed(self) -> Tensor:
        """Whether the count is proven to be the best of all sizes, bool `[example]`."""
        ...

    @property
    def method(self) -> str:
        """How frames are found."""
        ...


@dataclass(frozen=True)
class DimensionSummary:
    """The distribution of a count over examples.

    Attributes:
        mean: with its 95 % interval; a lower bound where some examples are at the cap.
        quantiles: 10, 25, 50, 75 and 90 %.
        at_zero: share of examples without a direction.
        at_cap: share of examples whose count was limited by the cap.
        excluded: number of examples left out because a model misclassifies them.
        without_gradient: number of examples that have no gradient; they count as zero.
        tried: mean number of frames that were tried per example (`method="sequential"`: of searches that were made);
            None for transferred counts.
        closed: share of examples whose count is proven to be the best of all sizes up to the cap; None where nothing
            can be proven: for transferred counts, and for methods other than `"gaas"`.
    """

    mean: Estimate
    quantiles: tuple[float, ...]
    at_zero: Estimate
    at_cap: Estimate
    excluded: int
    without_gradient: int
    tried: Estimate | None
    closed: Estimate | None


@analysis
def dimension_summary(result: Counted, *, counts: Tensor | None = None) -> DimensionSummary:
    """Mean, quantiles, the shares at zero and at the cap, and how thorough the search was.

    Args:
        result: what `adversarial_dimension`, `transferred_dimension` or `shared_dimension` gave. Transferred counts are
            averaged over the examples that both models get right: summarise their own result, and with it
            `counts=transferred.source` for the source's directions of the same examples.
        counts: other counts of the same examples, such as `claimed`, `[example]`; by default the verified ones, of
            which alone `tried` and `closed` speak.

    Returns:
        The summary, over examples that were not excluded.
    """
    numbers = included(result, counts)
    at_cap = numbers >= result.max_dimension
    tried, closed = None, None
    if isinstance(result, Searched):
        tried = mean(included(result, result.attempts), within=(0, np.inf))
        if result.method == "gaas":
            closed = share(int(included(result, result.closed).sum()), len(numbers))
    return DimensionSummary(
        mean(numbers, within=(0, np.inf)),
        tuple(np.quantile(numbers, QUANTILES, method="inverted_cdf").tolist()) if len(numbers) else (),
        share(int((numbers == 0).sum()), len(numbers)),
        share(int(at_cap.sum()), len(numbers)),
        int((~result.correct).sum()),
        int((result.correct & ~result.valid).sum()),
        tried,
        closed,
    )


def included(result: Counted, counts: Tensor | None = None) -> np.ndarray:
    """Counts of the examples that were not excluded, float64 `[n]`.

    Args:
        result: as in `dimension_summary`.
        counts: as in `dimension_summary`.

    Returns:
        The counts.

    Raises:
        ValueError: if there is not one count per example.
    """
    values = result.verified if counts is None else counts
    if values.shape != result.correct.shape:
        raise ValueError(f"counts must have one number per example, {len(result.correct)}, got {list(values.shape)}")
    return values[result.correct].double().numpy()


def at_least(result: Counted, counts: Tensor | None = None) -> tuple[np.ndarray, list[Estimate]]:
    """Share of examples with at least k dimensions, for k from 1 to the cap: the curves of Tramèr et al. 2018.

    Args:
        result: as in `dimension_summary`.
        counts: as in `dimension_summary`.

    Returns:
        The k, int64 `[k]`, and for each the share with its 95 % Wilson interval.
    """
    numbers = included(result, counts)
    sizes = np.arange(1, result.max_dimension + 1)
    return sizes, [share(int((numbers >= k).sum()), len(numbers)) for k in sizes]
