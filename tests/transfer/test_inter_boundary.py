"""Distances between boundaries: lines at a known angle, identical models, censoring."""

import math

import pytest
import torch
from oracles import Linear, Sphere, images
from relatives import lines_at, nets, on_the_bisector

import boundarygeo as bg
from boundarygeo.results.statistics import mean, share
from boundarygeo.transfer.boundaries import inter_boundary_distance, labelled_pool

BOTH = ("legitimate", "random")
MARGIN = torch.arange(1, 11).double() / 10


@pytest.mark.parametrize(("degrees", "nearer"), [(45.0, 10), (75.0, 0)])
@pytest.mark.parametrize("adversarial", ["gradient", "fgsm"])
def test_adversarial_directions_of_lines_at_an_angle(degrees: float, nearer: int, adversarial: str) -> None:
    # Straight down its own margin m, a source meets its line at m and the other at m / cos: ID = m (1 / cos - 1).
    x, y = on_the_bisector(degrees)
    result = inter_boundary_distance(
        lines_at(degrees), x, y, directions=("adversarial",), max_distance=9.0, adversarial=adversarial
    )
    half = math.radians(degrees / 2)
    if adversarial == "gradient":
        own, other = MARGIN, MARGIN / math.cos(2 * half)
    else:  # both coordinates by the same step, along the signs of the own normal
        own, other = (MARGIN * math.sqrt(2) / (math.cos(half) + sign * math.sin(half)) for sign in (1, -1))
        nearer = int((other < 2 * own).sum())
    for source, target in ((0, 1), (1, 0)):
        torch.testing.assert_close(result.model_distance("adversarial", source, source), own, rtol=1e-6, atol=2e-5)
        torch.testing.assert_close(result.model_distance("adversarial", source, target), other, rtol=1e-6, atol=2e-5)
        gap = result.inter_distance("adversarial", source, target)
        torch.testing.assert_close(gap, other - own, rtol=1e-6, atol=3e-5)
        seen = result.compare("adversarial", source, target)
        assert (seen.n, seen.source_censored, seen.target_censored, seen.both_censored) == (10, 0, 0, 0)
        assert seen.nearer == seen.conservative == share(nearer, 10)
        assert seen.distance.value == pytest.approx(float(own.mean()), abs=1e-4)
        assert seen.inter == mean(gap.numpy())
        assert seen.difference.value == pytest.approx(float((2 * own - other).mean()), abs=1e-4)
        assert (seen.difference.low > 0) == (nearer == 10)


def test_directions_towards_points_along_the_bisector() -> None:
    # All points lie on the bisector: every point of the other class is straight across the corner of both lines.
    x, y = on_the_bisector(60)
    result = inter_boundary_distance(lines_at(60), x, y, directions=BOTH, max_distance=9.0)
    expected = x[:, 0].abs().double().expand(2, 2, 2, -1)
    torch.testing.assert_close(result.distance, expected, rtol=1e-6, atol=2e-5)
    for direction in BOTH:
        assert result.inter_distance(direction, "a", "b").max() < 4e-5
        assert result.compare(direction, "a", "b").nearer == share(10, 10)


def line(offset: float = 0.0) -> bg.Classifier:
    """The first coordinate against an offset."""
    return bg.Classifier(Linear(torch.tensor([1.0, 0.0]), offset), bounds=(-10, 10))


def test_a_pool_s_nearest_point_of_another_class_decides() -> None:
    x, y = torch.tensor([[0.5, 0.0]]), torch.tensor([1])
    # The second point is the nearest, but of the own class; the third is farther than the first.
    pool = torch.tensor([[-0.5, 0.75], [0.6, 0.0], [-3.0, 0.0]]), torch.tensor([0, 1, 0])
    both = line(), line(-0.2)
    result = inter_boundary_distance(both, x, y, directions=("legitimate",), max_distance=5.0, pool=pool)
    step = 1.25  # 0.8 of it against the normal
    assert result.distance[0, 0, :, 0].tolist() == pytest.approx([0.5 * step, 0.7 * step], abs=1e-5)
    assert torch.equal(result.distance[0, 0], result.distance[0, 1])


def test_legitimate_points_are_of_another_true_class_whatever_the_models_say() -> None:
    x, y = torch.tensor([[0.5, 0.0]]), torch.tensor([1])
    pool = torch.tensor([[0.2, 0.0], [-1.0, 2.0]]), torch.tensor([0, 0])  # both models give the first class 1
    result = inter_boundary_distance([line()] * 2, x, y, directions=("legitimate",), max_distance=5.0, pool=pool)
    assert result.distance.flatten().tolist() == pytest.approx([0.5] * 4, abs=1e-5)


def test_random_directions_go_where_the_source_says_otherwise() -> None:
    # Of three candidates each source calls one other than 1: (-1, 1) and (1, -1).
    normals = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    several = [bg.Classifier(Linear(w, 0.0), bounds=(-10, 10)) for w in normals]
    x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([1])
    pool = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [2.0, 2.0]]), torch.tensor([0, 0, 1])
    result = inter_boundary_distance(several, x, y, directions=("random",), max_distance=9.0, pool=pool)
    distance = result.distance[0, :, :, 0]
    assert distance.diagonal().tolist() == pytest.approx([math.sqrt(2.5) / 3] * 2, abs=2e-5)
    assert bool(distance[[0, 1], [1, 0]].isinf().all())  # away from the other's line
    assert result.censored[0].tolist() == [[0, 1], [1, 0]]


def test_identical_models_have_no_distance_between_them() -> None:
    several, x, y = nets((0, 0), 12)
    result = inter_boundary_distance(several, x, y, max_distance=3.0, index=range(3, 15))
    assert result.directions == ("legitimate", "adversarial", "random")
    assert torch.equal(result.distance[:, :, 0], result.distance[:, :, 1])
    assert result.found.any(-1).all()
    for direction in result.directions:
        seen = result.compare(direction, 0, 1)
        assert seen.nearer == share(seen.distance.n, seen.distance.n)
        assert seen.inter.value == 0
    along = bg.boundary_distance(several[0], x, y, direction="gradient", max_distance=3.0)
    assert torch.equal(result.distance[1, 0, 0], along.distance)
    assert result.index.tolist() == list(range(3, 15))


def test_what_is_out_of_reach_is_counted_and_decides_nothing() -> None:
    # At 60° the other line is twice as far: of margins 0.11, …, 1.1 it is within reach for four, the own for nine.
    x, y = on_the_bisector(60)
    result = inter_boundary_distance(lines_at(60), x * 1.1, y, directions=("adversarial",), max_distance=1.05)
    torch.testing.assert_close(result.censored[0], torch.tensor([[0.1, 0.6], [0.6, 0.1]], dtype=torch.float64))
    seen = result.compare("adversarial", "a", "b")
    assert (seen.n, seen.source_censored, seen.target_censored, seen.both_censored) == (10, 0, 5, 1)
    assert seen.distance.n == seen.inter.n == seen.difference.n == seen.nearer.n == 4
    assert seen.conservative.n == 10
    assert result.inter_distance("adversarial", "a", "b").isnan().sum() == 6
    # At 45° it is nearer than twice as far: ID < MD wherever both are known, but who knows the others.
    wide = inter_boundary_distance(lines_at(45), x, y, directions=("adversarial",), max_distance=0.75)
    seen = wide.compare("adversarial", "a", "b")
    assert seen.nearer.n < 10
    assert seen.nearer.value == 1
    assert seen.conservative == share(seen.nearer.n, 10)


def test_only_the_source_may_be_out_of_reach() -> None:
    # Spheres of radius 1 and 2: from the centre, the larger one is out of a reach of 1.5.
    several = [bg.Classifier(Sphere(torch.zeros(3), radius), bounds=(-9, 9)) for radius in (2.0, 1.0)]
    x = torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [5.0, 0.0, 0.0]])
    y = torch.tensor([0, 0, 1])
    result = inter_boundary_distance(several, x, y, directions=("legitimate",), max_distance=1.5)
    seen = result.compare("legitimate", 0, 1)
    assert (seen.n, seen.source_censored, seen.target_censored, seen.both_censored) == (3, 2, 0, 1)
    assert seen.conservative == share(0, 3)
    assert seen.nearer.n == 0
    assert math.isnan(seen.difference.value)


def test_examples_that_a_model_gets_wrong_are_left_out_and_counted() -> None:
    x, y = on_the_bisector(60)
    wrong = torch.cat([x, torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.3, 0.0]])])
    classes = torch.cat([y, torch.tensor([1, 1, 0])])
    result = inter_boundary_distance(lines_at(60), wrong, classes, directions=("adversarial",), max_distance=3.0)
    assert result.correct.sum(1).tolist() == [11, 11]
    assert result.shared.tolist() == [True] * 10 + [False] * 3
    assert result.distance[..., 10:].isnan().all()
    assert torch.equal(result.valid[0, 0], result.shared)
    alone = inter_boundary_distance(lines_at(60), x, y, directions=("adversarial",), max_distance=3.0)
    assert torch.equal(result.distance[..., :10], alone.distance)
    assert result.compare("adversarial", 0, 1) == alone.compare("adversarial", 0, 1)
    # The others cost no more than their labels, by each of the two models.
    assert result.provenance.forwards == alone.provenance.forwards + 3 * 2
    none = inter_boundary_distance(lines_at(60), wrong[10:], classes[10:], max_distance=3.0)
    assert none.distance.isnan().all()
    assert none.compare("random", 0, 1).n == 0
    assert none.censored.isnan().all()


def test_labels_of_the_pool_may_be_known() -> None:
    several, x, y = nets((0, 0), 12)
    pool = labelled_pool(several, x, y)
    assert pool[2].tolist() == [clf.predict(x).tolist() for clf in several]
    settings = {"max_distance": 3.0, "scan": 16, "tolerance": 1e-3}
    known, found = (inter_boundary_distance(several, x[:4], y[:4], pool=p, **settings) for p in (pool, (x, y)))
    assert torch.equal(known.distance, found.distance)
    assert known.provenance.forwards == found.provenance.forwards - 12 * len(several)
    other = (x, y, (pool[2] + 1) % 5)  # a lie, which shows: random directions lead elsewhere
    turned = inter_boundary_distance(several, x[:4], y[:4], pool=other, **settings)
    assert not torch.equal(turned.distance[2], found.distance[2])


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_missing_directions_are_marked() -> None:
    clf = bg.Classifier(Linear(torch.zeros(2), -0.1))  # class 1 everywhere
    other = bg.Classifier(Linear(torch.tensor([1.0, 0.0]), 0.1))
    x, y = images(3, shape=(2,)), torch.ones(3).long()
    result = inter_boundary_distance([clf, other], x, y, directions=("adversarial",), max_distance=1.0)
    assert result.valid[0].tolist() == [[False] * 3, [True] * 3]
    assert result.censored[0, 0].isnan().all()
    seen = result.compare("adversarial", 0, 1)
    assert (seen.n, seen.source_censored, seen.both_censored) == (0, 0, 0)
    assert math.isnan(seen.conservative.value)
    assert result.compare("adversarial", 1, 0).target_censored == 3


def test_examples_and_their_order_do_not_matter() -> None:
    several, x, y = nets((0, 0), 8)
    settings = {"max_distance": 3.0, "pool": (x, y), "seed": 2, "scan": 16}
    whole = inter_boundary_distance(several, x, y, **settings)
    order = [7, 2, 4, 0]
    part = inter_boundary_distance(several, x[order], y[order], index=order, **settings)
    torch.testing.assert_close(part.distance, whole.distance[..., order], rtol=0, atol=2e-5)
    other = inter_boundary_distance(several, x, y, **(settings | {"seed": 3}))
    assert torch.equal(other.distance[:2], whole.distance[:2])
    assert not torch.equal(other.distance[2], whole.distance[2])


ZEROS, ZERO_ONE = torch.zeros(2, 2), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"directions": ()}, ValueError, "directions must be distinct names from"),
        ({"directions": ("random", "random")}, ValueError, "directions must be distinct names from"),
        ({"directions": ("upwards",)}, ValueError, r"got \['upwards'\]"),
        ({"adversarial": "pgd"}, ValueError, r"adversarial must be one of \['gradient', 'fgsm'\], got 'pgd'"),
        *[
            (settings, ValueError, match)
            for settings, match in (
                ({"max_distance": 0.0}, "max_distance must be a positive number, got 0.0"),
                ({"scan": 0}, "scan must be a whole number"),
                ({"tolerance": -1.0}, "tolerance must be a positive number, got -1.0"),
            )
            for settings in (settings, settings | {"y": 1 - on_the_bisector(60)[1]})  # even with nothing to do
        ],
        ({"pool": (torch.zeros(2, 3), ZERO_ONE)}, ValueError, r"shape \[2\] of x, got \[3\]"),
        ({"pool": (ZEROS + 11, ZERO_ONE)}, ValueError, "pool must lie in"),
        ({"pool": (ZEROS, torch.tensor([0, 2]))}, ValueError, r"classes of the pool must be in \[0, 2\)"),
        ({"pool": (ZEROS, ZERO_ONE, torch.zeros(2, 3).long())}, ValueError, r"int64 of shape \[2, 2\], got .*3\]"),
        (
            {"pool": (ZEROS, ZERO_ONE, torch.tensor([[0, 1], [0, 2]]))},
            ValueError,
            r"labels of the pool must be in \[0, 2\), got values from 0 to 2",
        ),
        ({"pool": (ZEROS, ZERO_ONE, [[0, 1]] * 2)}, TypeError, r"must be a tensor of shape \[2, 2\], got list"),
        ({"pool": (torch.ones(2, 2), torch.tensor([1, 1]))}, ValueError, "a candidate of another class"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(settings: dict, error: type, match: str) -> None:
    x, y = on_the_bisector(60)
    with pytest.raises(error, match=match):
        inter_boundary_distance(lines_at(60), **({"x": x, "y": y, "max_distance": 1.0} | settings))


def test_bad_queries_are_refused() -> None:
    x, y = on_the_bisector(60)
    result = inter_boundary_distance(lines_at(60), x, y, directions=("random",), max_distance=1.0, scan=2)
    with pytest.raises(ValueError, match=r"direction must be one of \['random'\], got 'adversarial'"):
        result.compare("adversarial", 0, 1)
    with pytest.raises(ValueError, match="source must be one of"):
        result.inter_distance("random", "z", 1)
