"""Dimensions as a distribution, against counting by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from dimensions_by_hand import dimensions, transferred
from oracles import SmallNet, images

import boundarygeo as bg
from boundarygeo.results.statistics import mean, rank_correlation, share
from boundarygeo.subspace.summary import (
    at_least,
    dimension_summary,
    included,
    mean_attempts,
    mean_effective_rank,
    noise_summary,
    shortest_lengths,
    stop_shares,
)

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
    assert dimension_summary(dimensions([2, 1, 4, 4], method="frame", **found)).closed is None
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


def test_noise_stands_beside_the_counts_of_the_same_examples() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(12)
    y = clf.predict(x)
    y[:2] = (y[:2] + 1) % 3  # misclassified
    result = bg.adversarial_dimension(clf, x, y, eps=2.0, max_dimension=20)
    noise = bg.noise_success(clf, x, y, eps=2.0)
    right = torch.arange(12) >= 2
    summary = noise_summary(result, noise, input_size=x[0].numel())
    assert summary.success == mean(noise.share[right].numpy(), within=(0, 1))
    expected = bg.theory.cone_probability(result.gradient_norm, 2.0, result.gamma, x[0].numel())[right]
    assert summary.predicted == mean(expected.numpy(), within=(0, 1))
    for found, counts in ((summary.rank_claimed, result.claimed), (summary.rank_verified, result.verified)):
        assert found == rank_correlation(counts[right].double().numpy(), noise.share[right].numpy())
    assert mean_effective_rank(result) == mean(result.effective_rank[right].numpy(), within=(0, np.inf))
    linf = bg.adversarial_dimension(clf, x, y, eps=0.1, norm="linf")
    assert noise_summary(linf, noise, input_size=x[0].numel()).predicted is None


@pytest.mark.usefixtures("short_start")
def test_sequential_searches_end_for_a_reason() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(6)
    y = clf.predict(x)
    y[0] = (y[0] + 1) % 3  # misclassified
    result = bg.sequential_directions(clf, x, y, eps=2.0, max_directions=3)
    summary, right = dimension_summary(result), result.valid
    assert right.sum() == 5
    assert summary.mean == mean(result.count[right].double().numpy(), within=(0, np.inf))
    assert summary.at_cap == share(int((result.count == 3).sum()), 5)
    assert summary.excluded == 1
    assert summary.tried is summary.closed is None
    assert mean_attempts(result) == mean(result.attempts[right].double().numpy(), within=(0, np.inf))
    assert shortest_lengths(result) == tuple(sorted(result.distance[right, 0].tolist()))
    ended = dataclasses.replace(result, stopped=torch.tensor([3, 0, 2, 1, 2, 4]))  # the first is not searched
    expected = {"max_directions": 0.2, "failures": 0.2, "eps": 0.4, "misclassified": 0.0, "no_gradient": 0.2}
    assert stop_shares(ended) == expected
