"""Summaries of dimensions as distributions, not only means."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from boundarygeo.evaluation import analysis
from boundarygeo.results.statistics import Estimate, mean, rank_correlation, share
from boundarygeo.subspace.dimension import AdversarialDimension
from boundarygeo.subspace.noise import NoiseSuccess, cone_probability
from boundarygeo.subspace.sequential.sequential import SequentialDirections

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class Counted(Protocol):
    """A count for each example, some of which are excluded: `AdversarialDimension`, `TransferredDimension`, …."""

    @property
    def verified(self) -> Tensor:
        """The count, int64 `[example]`."""
        ...

    @property
    def correct(self) -> Tensor:
        """Whether the example counts, bool `[example]`: all models involved classify it correctly."""
        ...

    @property
    def valid(self) -> Tensor:
        """Whether there is a direction, bool `[example]`."""
        ...

    @property
    def max_dimension(self) -> int:
        """Largest count."""
        ...


@runtime_checkable
class Searched(Counted, Protocol):
    """Counts from a search over frames: `AdversarialDimension`, `SharedDimension`."""

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
        tried: mean number of frames tried per example; None where there are none: for transferred counts and sequential
            directions.
        closed: share of examples whose count is proven to be the best over all sizes up to the cap; None where nothing
            can be proven: where there are no frames, or `method="frame"`.
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
        result: result of `adversarial_dimension`, `sequential_directions`, `transferred_dimension` or
            `shared_dimension`. Transferred counts are averaged over the examples that both models classify correctly;
            for the source's own count on those examples, pass the transferred result with `counts=transferred.source`.
        counts: other counts of the same examples, such as `claimed`, `[example]`; by default the verified ones. `tried`
            and `closed` always refer to the verified ones.

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
    """Counts of the examples that were not excluded, float64 `[n]`."""
    values = result.verified if counts is None else counts
    if values.shape != result.correct.shape:
        raise ValueError(f"counts must have one number per example, {len(result.correct)}, got {list(values.shape)}")
    return values[result.correct].double().numpy()


def at_least(result: Counted, counts: Tensor | None = None) -> tuple[np.ndarray, list[Estimate]]:
    """Share of examples with at least k dimensions, for k from 1 to the cap: the curves of Tramèr et al. 2018.

    Returns the k, int64 `[k]`, and for each the share with its 95 % Wilson interval.
    """
    numbers = included(result, counts)
    sizes = np.arange(1, result.max_dimension + 1)
    return sizes, [share(int((numbers >= k).sum()), len(numbers)) for k in sizes]


@dataclass(frozen=True)
class NoiseSummary:
    """Success of random noise next to the adversarial counts of the same examples.

    Attributes:
        success: mean share of noise vectors that change the label, with its 95 % interval.
        predicted: success predicted by first-order theory, ignoring bounds; None in L∞, where it makes no prediction.
        rank_claimed: rank correlation of the noise success with the claimed counts.
        rank_verified: rank correlation of the noise success with the verified counts.
    """

    success: Estimate
    predicted: Estimate | None
    rank_claimed: Estimate
    rank_verified: Estimate


def noise_summary(result: AdversarialDimension, noise: NoiseSuccess, *, input_size: int) -> NoiseSummary:
    """How often noise changes the label of correctly classified examples, and how well the counts predict where."""
    success, predicted = included(result, noise.share), None
    if result.norm == "l2":
        expected = cone_probability(result.gradient_norm, result.eps, result.gamma, input_size)
        predicted = mean(included(result, expected), within=(0, 1))
    return NoiseSummary(
        mean(success, within=(0, 1)),
        predicted,
        rank_correlation(included(result, result.claimed), success),
        rank_correlation(included(result, result.verified), success),
    )


def mean_effective_rank(result: AdversarialDimension) -> Estimate:
    """Effective rank of the perturbations counted, with its 95 % interval over the examples."""
    return mean(included(result, result.effective_rank), within=(0, np.inf))


def mean_attempts(result: SequentialDirections) -> Estimate:
    """Number of searches made for an example."""
    return mean(included(result, result.attempts), within=(0, np.inf))


def shortest_lengths(result: SequentialDirections) -> tuple[float, ...]:
    """The `QUANTILES` over the examples of the length of the shortest direction; inf for examples without one."""
    return tuple(np.quantile(included(result, result.distance[:, 0]), QUANTILES, method="inverted_cdf").tolist())


def stop_shares(result: SequentialDirections) -> dict[str, float]:
    """Share of examples for each of the reasons in `result.stops` for which their search ended."""
    stopped = included(result, result.stopped)
    return {name: float((stopped == code).mean()) for code, name in enumerate(result.stops)}
