"""Dimensions as a distribution: never the mean alone."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from boundarygeo.statistics import Estimate, mean, share
from boundarygeo.subspace.dimension import AdversarialDimension

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class DimensionSummary:
    """The distribution of a count over examples.

    Attributes:
        mean: with its 95 % bootstrap interval; a lower bound where some examples are at the cap.
        quantiles: 10, 25, 50, 75 and 90 %.
        at_zero: share of examples without a direction.
        at_cap: share of examples whose count was limited by the cap.
        excluded: number of examples left out because they were misclassified.
        without_gradient: number of examples that have no gradient; they count as zero.
    """

    mean: Estimate
    quantiles: tuple[float, ...]
    at_zero: Estimate
    at_cap: Estimate
    excluded: int
    without_gradient: int


def dimension_summary(result: AdversarialDimension, *, counts: Tensor | None = None, seed: int = 0) -> DimensionSummary:
    """Mean, quantiles, and the shares at zero and at the cap.

    Args:
        result: what `adversarial_dimension` gave.
        counts: other counts of the same examples, such as `claimed` or those that transfer, `[example]`; by default the
            verified ones.
        seed: seed of the bootstrap.

    Returns:
        The summary, over examples that were not excluded.
    """
    numbers = included(result, counts)
    at_cap = numbers >= result.max_dimension
    return DimensionSummary(
        mean(numbers, seed=seed),
        tuple(np.quantile(numbers, QUANTILES, method="inverted_cdf").tolist()) if len(numbers) else (),
        share(int((numbers == 0).sum()), len(numbers)),
        share(int(at_cap.sum()), len(numbers)),
        int((~result.correct).sum()),
        int((result.correct & ~result.valid).sum()),
    )


def included(result: AdversarialDimension, counts: Tensor | None = None) -> np.ndarray:
    """Counts of the examples that were not excluded, float64 `[n]`.

    Args:
        result: what `adversarial_dimension` gave.
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


def at_least(result: AdversarialDimension, counts: Tensor | None = None) -> tuple[np.ndarray, list[Estimate]]:
    """Share of examples with at least k dimensions, for k from 1 to the cap: the curves of Tramèr et al. 2018.

    Args:
        result: what `adversarial_dimension` gave.
        counts: as in `dimension_summary`.

    Returns:
        The k, int64 `[k]`, and for each the share with its 95 % Wilson interval.
    """
    numbers = included(result, counts)
    sizes = np.arange(1, result.max_dimension + 1)
    return sizes, [share(int((numbers >= k).sum()), len(numbers)) for k in sizes]
