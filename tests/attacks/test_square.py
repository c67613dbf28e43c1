import math

import pytest
import torch
from oracles import Linear, SmallNet, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import NORMS, pgd, square
from boundarygeo.attacks import random_squares as squares
from boundarygeo.attacks.norms import length

EPS = {"l2": 2.0, "linf": 0.2}
SHAPES = [(3, 8, 8), (1, 5, 12), (9, 7), (20,)]


def small_net(count: int = 24) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(SmallNet())
    x = images(count, seed=1)
    return clf, x, clf.predict(x)


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_reported_is_so_and_no_gradient_is_taken(norm: str) -> None:
    clf, x, y = small_net()
    y[:3] = (y[:3] + 1) % 5  # misclassified to begin with
    result = square(clf, x, y, eps=EPS[norm], norm=norm, queries=60)
    moved = length(result.x_adv.double() - x.double(), norm)
    assert moved.max() <= EPS[norm] + 1e-6
    assert torch.equal(clf.predict(result.x_adv), result.predicted)
    assert torch.equal(result.found, result.predicted != y)
    assert 3 < result.found.sum() < 24
    assert torch.equal(result.x_adv[:3], x[:3])
    torch.testing.assert_close(result.distance, torch.where(result.found, moved, torch.inf))
    robust = int((~result.found).sum())
    assert 24 + robust * 60 + (21 - robust) <= result.provenance.forwards < 24 + 21 * 60
    assert result.provenance.backwards == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_hyperplanes_are_reached_where_the_ball_does_in_every_shape(shape: tuple[int, ...], norm: str) -> None:
    size = math.prod(shape)
    weight = torch.randn(size, generator=torch.Generator().manual_seed(0))
    clf = bg.Classifier(Linear(weight, 0.0), bounds=(-5, 5))
    x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(1)) * 0.2
    y = clf.predict(x)
    distance = (x.flatten(1) @ weight).abs() / (weight.norm() if norm == "l2" else weight.abs().sum())
    beyond = distance.max().item() * 3  # in L2, random bumps come near the normal only slowly
    assert square(clf, x, y, eps=beyond, norm=norm, queries=400).found.all()
    assert not square(clf, x, y, eps=0.99 * distance.min().item(), norm=norm, queries=50).found.any()


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_are_never_worse_and_find_nearly_all_that_gradients_do(norm: str) -> None:
    clf, x, y = small_net(16)
    few, many = (square(clf, x, y, eps=EPS[norm], norm=norm, queries=queries) for queries in (30, 400))
    assert torch.equal(few.x_adv[few.found], many.x_adv[few.found])
    assert few.found.sum() < many.found.sum()
    assert (clf.margin(many.x_adv, y) <= clf.margin(few.x_adv, y)).all()
    assert many.found.sum() > 0.7 * pgd(clf, x, y, eps=EPS[norm], norm=norm).found.sum()


@pytest.mark.parametrize("norm", NORMS)
def test_results_depend_on_neither_order_nor_splitting(norm: str) -> None:
    clf, x, y = small_net()
    settings = {"eps": EPS[norm], "norm": norm, "queries": 130, "seed": 4}
    whole = square(clf, x, y, **settings)
    part = torch.arange(23, 3, -3)
    some = square(clf.with_batch_size(3), x[part], y[part], index=part, **settings)
    torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-5)
    assert torch.equal(some.found, whole.found[part])
    assert not torch.equal(square(clf, x, y, **settings | {"seed": 5}).x_adv, whole.x_adv)


def test_squares_cover_the_shares_of_the_schedule() -> None:
    area = [math.prod(squares._sides(query, 100, 100, 1)) / 10000 for query in (1, 10, 11, 51, 201, 501, 1001, 4001)]
    assert area == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.00625], rel=0.05)
    assert squares._sides(1, 1, 50, 1) == (1, 40)
    assert squares._sides(5000, 28, 28, 3) == (3, 3)


def test_a_square_gets_one_sign_per_channel_and_the_rest_stays() -> None:
    delta = torch.full((500, 2, 6, 9), 0.5)
    draws = 2 * torch.rand(500, 7, generator=torch.Generator().manual_seed(0)) - 1
    moved = squares._recolour(delta, 0.1, draws, 300)
    height, width = squares._sides(300, 6, 9, 1)
    changed = moved != 0.5
    assert (changed.sum((1, 2, 3)) == 2 * height * width).all()
    for channel in range(2):
        sign = torch.where(draws[:, channel] < 0, -0.1, 0.1)
        assert (moved[:, channel] == torch.where(changed[:, channel], sign[:, None, None], 0.5)).all()
    corners = {tuple(image.nonzero()[0].tolist()) for image in changed[:, 0]}
    assert corners == {(row, column) for row in range(7 - height) for column in range(10 - width)}


def test_what_moves_in_l2_keeps_the_length_and_empties_its_source() -> None:
    delta = torch.randn(40, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    delta *= 0.9 / length(delta, "l2").view(-1, 1, 1, 1)  # the bounds have cut off a tenth
    draws = 2 * torch.rand(40, 8, generator=torch.Generator().manual_seed(1)) - 1
    moved = squares._transfer(delta.clone(), 1.0, draws, 300)
    torch.testing.assert_close(length(moved, "l2"), torch.ones(40))
    side = squares._sides(300, 10, 10, 3)[0]
    for old, new, draw in zip(delta, moved, draws, strict=True):
        (down, right), (top, left) = (((1 + draw[k : k + 2]) / 2 * (11 - side)).long().tolist() for k in (4, 6))
        goal, source = torch.zeros(10, 10, dtype=torch.bool), torch.zeros(10, 10, dtype=torch.bool)
        goal[top : top + side, left : left + side] = True
        source[down : down + side, right : right + side] = True
        assert (new[:, source & ~goal] == 0).all()
        rest = ~(goal | source)
        spent = old[:, goal | source].square().sum(1) + 0.19 / 3  # in each channel
        scale = 1 / (old[:, rest].square().sum() + spent.sum()).sqrt()
        torch.testing.assert_close(new[:, rest], scale * old[:, rest], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(new[:, goal].square().sum(1), scale**2 * spent, rtol=1e-4, atol=1e-6)


def test_bumps_are_those_of_the_paper() -> None:
    # η of §3.3 with h = 6: halves of 3 × 6 pixels, Σ 1/(n + 1 - k)² over the rectangles that a pixel lies in.
    expected = torch.zeros(3, 6)
    for k in range(4):
        rows, columns = slice(max(1 - k, 0), 2 + k), slice(max(3 - k, 0), 4 + k)
        expected[rows, columns] += 1 / (k + 1) ** 2
    found = squares._bumps(6, 6, torch.tensor([-1.0, 1.0]))
    expected = torch.cat([expected, -expected])
    torch.testing.assert_close(found[0], expected / expected.norm())
    assert torch.equal(found[1], found[0].T)
    assert squares._bumps(1, 6, torch.tensor([-1.0])).shape == (1, 1, 6)


def test_modules_without_a_gradient_are_attacked() -> None:
    class Steps(nn.Module):
        """A classifier of images in eight grey values: no gradient comes through the rounding."""

        def __init__(self) -> None:
            super().__init__()
            self.net = SmallNet()

        def forward(self, x: Tensor) -> Tensor:
            return self.net((x * 8).round() / 8)

    clf, x = bg.Classifier(Steps()), images(12, seed=1)
    y = clf.predict(x)
    with pytest.warns(UserWarning, match="exactly zero"):
        assert not pgd(clf, x, y, eps=0.2, random_start=False).found.any()
    assert square(clf, x, y, eps=0.2, queries=300).found.sum() > 9


def test_the_search_wanders_on_a_plateau() -> None:
    class Lock(nn.Module):
        """Class 1 where five of twenty coordinates are high, low, high, low, high; logits ±1 without a hint."""

        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.zeros(()))  # gives every input a (zero) gradient

        def forward(self, x: Tensor) -> Tensor:
            high = x[:, ::4] > 0.5
            opened = (high == torch.tensor([True, False, True, False, True])).all(1, keepdim=True)
            score = 2.0 * opened - 1 + self.slope * x.sum(1, keepdim=True)
            return torch.cat([-score, score], 1)

    x, y = torch.full((20, 20), 0.5), torch.zeros(20, dtype=torch.int64)
    assert square(bg.Classifier(Lock()), x, y, eps=0.1, queries=800).found.all()


def test_no_random_number_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = small_net(3)
    drawn = []

    def noted(shape, index, norm, *, seed, draw):
        drawn.append((draw, seed, index.tolist()))
        return squares_draw(shape, index, norm, seed=seed, draw=draw)

    squares_draw = squares.random_in_ball
    monkeypatch.setattr(squares, "random_in_ball", noted)
    square(clf, x, y, eps=0.001, queries=202, seed=5, index=[7, 8, 3])
    assert drawn == [(draw, 5, [7, 8, 3]) for draw in range(4)]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"eps": math.inf}, "eps must be a finite number >= 0"),
        ({"queries": 0}, "queries must be a whole number, at least 1, got 0"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"index": [1]}, "index must be 3 integers"),
    ],
)
def test_bad_settings_are_refused_before_work(change: dict, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    with pytest.raises(ValueError, match=match):
        square(clf, images(3), torch.tensor([0, 1, 2]), **{"eps": 0.1, **change})
    assert clf.counts.forwards == 0
