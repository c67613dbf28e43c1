"""Dimensions as a distribution, against counting by hand."""

import math

import numpy as np
import pytest
import torch
from dimensions_by_hand import dimensions, transferred

from boundarygeo.results.statistics import mean, share
from boundarygeo.subspace.summary import at_least, dimension_summary, included

COUNTS = [0, 7, 3, 10, 0, 10, 2, 5]
RIGHT = [True, True, True, True, True, True, True, False]  # the 5 is excluded
GRADIENT = [False, True, True, True, True, True, True, False]


def made():
    return dimensions(COUNTS, correct=RIGHT, valid=GRADIENT, claimed=[0, 20, 3, 9, 1, 10, 0, 40], cap=10)


def test_a_summary_by_hand() -> None:
    summary = dimension_summary(made())
    assert summary.mean == mean(np.array([0.0, 7, 3, 10, 0, 10, 2]))
    assert summary.mean.value == pytest.approx(32 / 7)
    assert summary.mean.n == 7
    # In order: 0 0 2 3 7 10 10; each quantile is a count that was found.
    assert summary.quantiles == (0, 0, 3, 10, 10)
    assert summary.at_zero == share(2, 7)
    assert summary.at_cap == share(2, 7)
    assert (summary.excluded, summary.without_gradient) == (1, 1)


def test_how_thorough_the_search_was() -> None:
    tried = torch.tensor([[1, 2, 3, 4], [1, 3, 4, 0], [1, 2, 4, 0], [1, 2, 3, 4]])
    hits = torch.tensor([[1, 2, 0, 1], [1, 0, 0, 0], [1, 2, 4, 0], [1, 2, 3, 4]])
    found = {"tried": tried, "successes": hits, "cap": 4, "correct": [True, True, True, False]}
    result = dimensions([2, 1, 4, 4], **found)
    summary = dimension_summary(result)
    assert summary.tried == mean(np.array([4.0, 3, 3]), within=(0, np.inf))
    assert summary.closed == share(2, 3)  # of the second 2 was left out
    for method in ("frame", "sequential"):
        assert dimension_summary(dimensions([2, 1, 4, 4], method=method, **found)).closed is None
    searches = dimension_summary(dimensions([2, 1], method="sequential", tried=torch.tensor([[5], [4]]))).tried
    assert searches == mean(np.array([5.0, 4]), within=(0, np.inf))
    sent = dimension_summary(transferred(result, [1, 1, 3, 0]))
    assert sent.tried is sent.closed is None


def test_other_counts_of_the_same_examples() -> None:
    result = made()
    summary = dimension_summary(result, counts=result.claimed)
    assert summary.mean.value == pytest.approx(43 / 7)
    assert summary.at_zero == share(2, 7)
    assert summary.at_cap == share(2, 7)  # one is above the cap, one at it
    assert included(result, result.claimed).tolist() == [0, 20, 3, 9, 1, 10, 0]


def test_the_mean_is_of_counts() -> None:
    summary = dimension_summary(made())
    assert summary.mean == mean(included(made()), within=(0, np.inf))


def test_without_examples_there_are_no_numbers() -> None:
    summary = dimension_summary(dimensions([3, 4], correct=[False, False]))
    assert math.isnan(summary.mean.value)
    assert math.isnan(summary.at_zero.value)
    assert summary.quantiles == ()
    assert summary.excluded == 2


def test_shares_with_at_least_k() -> None:
    sizes, shares = at_least(made())
    assert sizes.tolist() == list(range(1, 11))
    assert shares == [share(hits, 7) for hits in (5, 5, 4, 3, 3, 3, 3, 2, 2, 2)]
    assert shares[-1] == dimension_summary(made()).at_cap
    _, claimed = at_least(made(), made().claimed)
    assert [estimate.value for estimate in claimed] == [hits / 7 for hits in (5, 4, 4, 3, 3, 3, 3, 3, 3, 2)]


@pytest.mark.parametrize(
    "function", [included, at_least, lambda result, counts: dimension_summary(result, counts=counts)]
)
def test_counts_of_other_examples_are_refused(function) -> None:
    with pytest.raises(ValueError, match=r"counts must have one number per example, 8, got \[7\]"):
        function(made(), torch.ones(7))
