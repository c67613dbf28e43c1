"""Transferred directions, against linear classifiers whose boundary is known."""

import math

import pytest
import torch
from oracles import Linear, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.summary import at_least

D = 12


class Planes(nn.Module):
    """Class 0 has the logit 0; each further class one hyperplane."""

    def __init__(self, weights: Tensor, offsets: Tensor) -> None:
        super().__init__()
        self.weights, self.offsets = nn.Parameter(weights.clone()), nn.Parameter(offsets.clone())

    def forward(self, x: Tensor) -> Tensor:
        logits = x.flatten(1) @ self.weights.mT - self.offsets
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)


def planes(*weights: Tensor, offsets: list[float]) -> bg.Classifier:
    return bg.Classifier(Planes(torch.stack(weights), torch.tensor(offsets)), bounds=(-9, 9), device="cpu")


def axis(number: int) -> Tensor:
    return torch.eye(D)[number]


def linear(weight: Tensor, distance: float) -> bg.Classifier:
    """The origin is class 0, and the boundary so far away along a unit vector."""
    return bg.Classifier(Linear(weight / weight.norm(), distance), bounds=(-9, 9), device="cpu")


def origins(count: int = 1) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, D), torch.zeros(count, dtype=torch.int64)


def directions(source: bg.Classifier, x: Tensor, y: Tensor, *, eps: float = 1.0, **options) -> bg.AdversarialDimension:
    options = {"box": "ignore"} | options
    return bg.adversarial_dimension(source, x, y, eps=eps, keep_directions=True, **options)


def test_all_directions_fool_the_same_model() -> None:
    weight = torch.arange(1.0, D + 1)
    found = directions(linear(weight, 0.45), *origins(2))
    result = bg.transferred_dimension(linear(weight, 0.45), origins(2)[0], found)
    assert found.verified.tolist() == [4, 4]  # 1 / 0.45² = 4.9
    assert result.count.tolist() == result.source.tolist() == result.same.tolist() == [4, 4]
    assert result.correct.all()
    assert result.source_model == found.provenance.model
    assert (result.max_dimension, result.index.tolist()) == (D, [0, 1])


@pytest.mark.parametrize("distance", [0.01, 0.5, 2.0])
def test_the_gradient_of_one_model_is_nothing_to_an_orthogonal_one(distance: float) -> None:
    x, y = origins()
    found = directions(linear(axis(0), 0.9), x, y)
    assert found.verified.tolist() == [1]
    assert bg.transferred_dimension(linear(axis(1), distance), x, found).count.tolist() == [0]


@pytest.mark.parametrize("degrees", [10, 45, 80, 135])
@pytest.mark.parametrize("distance", [0.1, 0.5, 0.8])
def test_a_single_direction_transfers_by_the_cosine(degrees: float, distance: float) -> None:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = origins()
    found = directions(linear(axis(0), 0.9), x, y)
    result = bg.transferred_dimension(linear(cosine * axis(0) + sine * axis(1), distance), x, found)
    assert result.count.tolist() == [int(cosine > distance)]


def test_counts_are_those_of_the_directions_one_by_one() -> None:
    weights, change = images(4, shape=(D,)).sub(0.5).split(2)
    source = planes(*weights, offsets=[0.2, 0.3])
    target = planes(*(weights + change), offsets=[0.2, 0.3])
    x = images(12, seed=1, shape=(D,)) - 0.5
    y = source.predict(x)
    y[4] = (y[4] + 1) % 3  # excluded
    found = directions(source, x, y, eps=1.5, rule="count")
    result = bg.transferred_dimension(target, x, found)
    own, other = source.predict, target.predict
    count, same = [0] * 12, [0] * 12
    for delta, owner in zip(found.perturbations, found.owner.tolist(), strict=True):
        point = (x[owner] + delta)[None]
        if bool(found.correct[owner]) and other(x[owner : owner + 1]) == y[owner]:
            count[owner] += int(other(point) != y[owner])
            same[owner] += int(other(point) == own(point))
    assert result.count.tolist() == count
    assert result.same.tolist() == same
    assert result.correct.tolist() == (found.correct & (other(x) == y)).tolist()
    assert result.source.tolist() == torch.where(result.correct, found.verified, 0).tolist()
    # The case has what is to be told apart.
    assert found.correct.sum() == 11 > result.correct.sum() > 6
    assert any(0 < some < all_of for some, all_of in zip(count, result.source.tolist(), strict=True))
    assert any(0 < some < all_of for some, all_of in zip(same, count, strict=True))


def test_examples_that_either_model_gets_wrong_are_marked() -> None:
    x, y = origins(3)
    x[1], y[2] = 5 * axis(1), 1
    found = directions(linear(axis(0), 0.9), x, y)
    assert found.verified.tolist() == [1, 1, 0]
    result = bg.transferred_dimension(linear(axis(0) + axis(1), 0.5), x, found)
    assert result.correct.tolist() == [True, False, False]  # the target is beyond its boundary at the second
    assert result.count.tolist() == result.source.tolist() == [1, 0, 0]
    # The third is right for this one, and wrong for the source.
    opposite = planes(axis(0), offsets=[-0.5])
    assert opposite.predict(x[2:]).tolist() == [1]
    assert bg.transferred_dimension(opposite, x, found).correct.tolist() == [False, False, False]


def test_a_summary_is_over_the_examples_that_both_get_right() -> None:
    x, y = origins(4)
    x[1] = 5 * axis(1)  # beyond the target's boundary, and nothing to the source
    source = linear(axis(0), 0.45)
    found = directions(source, x, y)
    result = bg.transferred_dimension(linear(axis(0) + axis(1), 0.2), x, found)
    assert result.correct.tolist() == [True, False, True, True]
    summary = bg.dimension_summary(result)
    assert summary.mean.n == 3
    assert summary.excluded == 1
    assert summary.mean.value == result.count[result.correct].double().mean() > 0
    assert bg.dimension_summary(result, counts=result.source).mean.value == 4  # 1 / 0.45² = 4.9
    sizes, shares = at_least(result)
    assert len(sizes) == D
    assert (shares[0].value, shares[0].n) == (1, 3)
    assert result.valid.tolist() == found.valid.tolist()


def test_the_same_mistake_is_told_from_another() -> None:
    x, y = origins()
    source = planes(axis(0), axis(1), offsets=[0.5, 9.0])
    swapped = planes(axis(1), axis(0), offsets=[9.0, 0.5])
    found = directions(source, x, y)
    assert found.adversarial_label.tolist() == [1] * int(found.verified)
    result = bg.transferred_dimension(swapped, x, found)
    assert result.source_model == found.provenance.model != result.provenance.model
    assert result.count.tolist() == found.verified.tolist()
    assert result.same.tolist() == [0]
    assert bg.transferred_dimension(source, x, found).same.tolist() == found.verified.tolist()


def test_targets_are_to_be_reached_on_the_other_model_too() -> None:
    x, y = origins()
    source = planes(axis(0), axis(1), offsets=[0.45, 9.0])
    found = directions(source, x, y, targets=torch.tensor([1]))
    assert found.verified.tolist() == [4]  # 1 / 0.45² = 4.9
    assert bg.transferred_dimension(source, x, found).count.tolist() == found.verified.tolist()
    swapped = planes(axis(1), axis(0), offsets=[9.0, 0.45])  # fooled, but not to class 1
    assert bg.transferred_dimension(swapped, x, found).count.tolist() == [0]


def test_without_a_direction_there_is_nothing_to_send() -> None:
    x, y = origins(2)
    found = directions(linear(axis(0), 0.9), x, y, eps=0.1)
    result = bg.transferred_dimension(linear(axis(0), 0.9), x, found)
    assert result.count.tolist() == result.source.tolist() == [0, 0]
    assert result.correct.all()


def test_the_provenance_names_the_search_and_counts_the_passes() -> None:
    x, y = origins(2)
    clf = linear(axis(0), 0.4)
    result = bg.transferred_dimension(clf, x, directions(clf, x, y, index=[7, 3]))
    assert result.index.tolist() == [7, 3]
    assert "transferred_dimension(dimension=adversarial_dimension(eps=1.0" in result.provenance.command
    assert result.provenance.forwards >= 2 + int(result.source.sum())


@pytest.mark.parametrize(
    ("x", "keep", "error", "match"),
    [
        (torch.zeros(1, D), True, ValueError, "x must be the 2 examples on which `dimension` was computed, got 1"),
        # Broadcast over the perturbations, these would be other points without an error.
        (torch.zeros(2, 1), True, ValueError, rf"on which `dimension` was computed, of shape \[{D}\], got \[1\]"),
        (torch.zeros(2, D).long(), True, TypeError, "x must"),
        (torch.zeros(2, D), False, ValueError, "dimension holds no directions: pass keep_directions=True"),
    ],
)
def test_bad_input_is_refused(x: Tensor, keep: bool, error: type, match: str) -> None:
    clf = linear(axis(0), 0.4)
    found = bg.adversarial_dimension(clf, *origins(2), eps=1.0, box="ignore", keep_directions=keep)
    with pytest.raises(error, match=match):
        bg.transferred_dimension(clf, x, found)
