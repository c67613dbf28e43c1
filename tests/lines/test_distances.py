import math

import pytest
import torch
from oracles import Linear, SmallNet, Sphere, images
from torch import nn

import boundarygeo as bg
from boundarygeo.directions import class_directions, nearest_of_other_class, random_of_other_label, towards

X, Y = images(6), torch.arange(6) % 5


def linear(offset: float = 0.3) -> tuple[bg.Classifier, torch.Tensor]:
    weight = torch.tensor([3.0, -1.0, 0.5, 2.0])
    return bg.Classifier(Linear(weight, offset)), weight


@pytest.mark.parametrize("scan", [1, 7, 64])
def test_linear_classifier_exactly(scan: int) -> None:
    clf, weight = linear()
    x = images(20, shape=(4,))
    y = clf.predict(x)
    score = x.double() @ weight.double() - 0.3
    for direction, speed in (("fgsm", weight.abs().sum()), ("gradient", weight.norm())):
        result = bg.boundary_distance(clf, x, y, direction=direction, max_distance=3.0, scan=scan, clip=False)
        assert result.found.all()
        torch.testing.assert_close(result.distance, score.abs() / speed.double(), rtol=0, atol=4e-6)
        assert torch.equal(result.adversarial_label, 1 - y)


def test_sphere_exactly_and_the_box_is_respected() -> None:
    clf = bg.Classifier(Sphere(torch.full((4,), 0.5), 0.3))
    x = torch.full((1, 4), 0.5) + torch.tensor([[0.1, 0.0, 0.0, 0.0]])
    direction = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    result = bg.boundary_distance(clf, x, torch.tensor([0]), direction=direction, max_distance=1.0)
    assert float(result.distance[0]) == pytest.approx(math.sqrt(0.3**2 - 0.1**2), abs=2e-6)
    wide = bg.Classifier(Sphere(torch.full((4,), 0.5), 0.6))  # its boundary lies outside the bounds that way
    clipped, free = (
        bg.boundary_distance(wide, x, torch.tensor([0]), direction=direction, max_distance=1.0, clip=clip)
        for clip in (True, False)
    )
    assert not clipped.found.any()
    assert clipped.distance.isinf().all()
    assert clipped.adversarial_label.tolist() == [-1]
    assert float(free.distance[0]) == pytest.approx(math.sqrt(0.6**2 - 0.1**2), abs=2e-6)


def test_the_first_of_several_changes_is_found() -> None:
    class Stripes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stripe = (x[:, :1] * 10).floor() % 3
            return -((stripe - torch.arange(3.0)) ** 2)

    clf = bg.Classifier(Stripes())
    x = torch.tensor([[0.05, 0.5], [0.15, 0.5], [0.25, 0.5]])
    direction = torch.tensor([[1.0, 0.0]] * 3)
    result = bg.boundary_distance(clf, x, torch.tensor([0, 1, 2]), direction=direction, max_distance=0.7)
    torch.testing.assert_close(result.distance, torch.full((3,), 0.05, dtype=torch.float64), rtol=0, atol=1e-6)
    assert result.adversarial_label.tolist() == [1, 2, 0]


def test_distance_is_beyond_the_change_and_within_tolerance() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    result = bg.boundary_distance(clf, X, Y, direction="fgsm", max_distance=1.0, tolerance=1e-4)
    assert result.found.any()
    sign = clf.input_gradient(X, Y).sign()
    for step, same in ((0.0, False), (-1.01e-4, True)):
        eps = (result.distance + step).clamp_min(0).float().view(-1, 1, 1, 1)
        labels = clf.predict((X + eps * sign).clamp(0, 1)[result.found])
        assert torch.equal(labels == result.predicted[result.found], torch.full((len(labels),), same))


def test_no_change_within_reach_is_censored() -> None:
    clf, _ = linear()
    x = images(8, shape=(4,))
    result = bg.boundary_distance(clf, x, clf.predict(x), direction="fgsm", max_distance=1e-4)
    assert not result.found.any()
    assert result.distance.isinf().all()


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_zero_gradients_are_marked() -> None:
    clf = bg.Classifier(Linear(torch.zeros(4), 0.1))
    result = bg.boundary_distance(clf, images(2, shape=(4,)), torch.tensor([0, 1]), direction="fgsm", max_distance=1)
    assert not result.valid.any()
    assert result.distance.isnan().all()
    assert not result.found.any()


def test_cost_is_what_the_search_needs() -> None:
    clf, weight = linear(-10.0)  # no boundary within reach: the whole scan, and no bisection
    result = bg.boundary_distance(
        clf, images(5, shape=(4,)), torch.ones(5, dtype=torch.int64), direction=weight.expand(5, 4), max_distance=1
    )
    assert result.provenance.forwards == 5 * (1 + 64)


def test_splitting_and_order_do_not_matter() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    settings = {"direction": "random", "max_distance": 5.0, "seed": 2}
    whole = bg.boundary_distance(clf, X, Y, **settings)
    order = [4, 2, 0, 5, 1, 3]
    parts = bg.boundary_distance(clf, X[order], Y[order], index=order, **settings)
    assert torch.equal(parts.found, whole.found[order])
    torch.testing.assert_close(parts.distance, whole.distance[order], rtol=0, atol=2e-5)


def test_saved_distances_come_back(tmp_path) -> None:
    result = bg.boundary_distance(bg.Classifier(SmallNet()), X, Y, direction="fgsm", max_distance=1e-3)
    again = bg.load(result.save(tmp_path / "d.zarr"))
    assert isinstance(again, bg.BoundaryDistances)
    assert torch.equal(again.distance, result.distance)
    assert again.tolerance == result.tolerance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_distance": 0.0}, "max_distance must be a positive number, got 0"),
        ({"max_distance": math.inf}, "max_distance must be a positive number"),
        ({"scan": 0}, "scan must be a whole number, at least 1, got 0"),
        ({"tolerance": -1.0}, "tolerance must be a positive number"),
        ({"direction": torch.zeros_like(X)}, "direction must not be zero"),
        ({"direction": X[:, :1]}, "direction must have the shape of x"),
    ],
)
def test_unusable_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bg.boundary_distance(bg.Classifier(SmallNet()), X, Y, **({"direction": "fgsm", "max_distance": 1.0} | settings))


def test_nan_on_the_line_is_an_error() -> None:
    class Cliff(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x[:, :1], x[:, :1] - 1], 1) / (x[:, :1] < 0.9)

    with pytest.raises(ValueError, match="finite logits, got NaN"):
        bg.boundary_distance(
            bg.Classifier(Cliff()),
            torch.tensor([[0.5, 0.5]]),
            torch.tensor([0]),
            direction=torch.tensor([[1.0, 0.0]]),
            max_distance=0.5,
        )


def test_nearest_of_another_class_against_a_loop() -> None:
    pool, classes = images(40, seed=1), torch.arange(40) % 4
    nearest = nearest_of_other_class(X, Y % 4, pool, classes)
    for x, y, found in zip(X, Y % 4, nearest, strict=True):
        others = [p for p, c in zip(pool, classes, strict=True) if c != y]
        assert torch.equal(found, min(others, key=lambda p: float((p - x).norm())))
    with pytest.raises(ValueError, match="candidate of another class"):
        nearest_of_other_class(X, torch.zeros(6), pool, torch.zeros(40))


def test_random_targets_have_another_label_and_belong_to_the_example() -> None:
    pool, labels = images(40, seed=1), torch.arange(40) % 4
    chosen = random_of_other_label(Y % 4, pool, labels, seed=1)
    for target, label in zip(chosen, Y % 4, strict=True):
        number = int((pool == target).flatten(1).all(1).nonzero()[0])
        assert labels[number] != label
    part = random_of_other_label((Y % 4)[3:], pool, labels, seed=1, index=torch.arange(3, 6))
    assert torch.equal(part, chosen[3:])
    assert not torch.equal(chosen, random_of_other_label(Y % 4, pool, labels, seed=2))


def test_directions_towards_points_and_classes() -> None:
    target = X.flip(0)
    along = towards(X, target)
    length = (target - X).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(X + length * along.vectors, target, rtol=0, atol=1e-5)
    clf, weight = linear()
    uphill = class_directions(clf, images(3, shape=(4,)), torch.tensor([1, 0, 1]))
    expected = torch.stack([weight, -weight, weight]) / weight.norm()
    torch.testing.assert_close(uphill.vectors, expected)
    with pytest.raises(ValueError, match="targets must have the shape"):
        towards(X, X[:2])


def test_exact_distances_of_a_linear_classifier() -> None:
    clf, weight = linear()
    x = images(20, shape=(4,))
    y = clf.predict(x)
    score = x.double() @ weight.double() - 0.3
    for direction, speed in (("fgsm", weight.abs().sum()), ("gradient", weight.norm())):
        result = bg.exact_boundary_distance(clf, x, y, direction=direction, max_distance=3.0, clip=False)
        assert result.found.all()
        # float32 directions are not exactly of length 1
        torch.testing.assert_close(result.distance, score.abs() / speed.double(), rtol=1e-6, atol=0)
        assert torch.equal(result.adversarial_label, 1 - y)
    short = bg.exact_boundary_distance(clf, x, y, direction="gradient", max_distance=0.1, clip=False)
    within = score.abs() / weight.norm() <= 0.1
    assert torch.equal(short.found, within)
    assert short.distance[~within].isinf().all()
    assert set(short.adversarial_label[~within].tolist()) == {-1}


def test_exact_distances_see_regions_that_a_scan_steps_over() -> None:
    class Sliver(nn.Module):
        """Class 1 where 0.5 < x < 0.5001, and behind 0.9."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = x[:, :1]
            inside = torch.relu(first - 0.5) - 2 * torch.relu(first - 0.50005) + torch.relu(first - 0.5001)
            score = inside + torch.relu(first - 0.9) - 1e-9
            return torch.cat([-score, score], 1)

    clf = bg.Classifier(Sliver())
    x, y, along = torch.full((1, 2), 0.2), torch.tensor([0]), torch.tensor([[1.0, 0.0]])
    scanned = bg.boundary_distance(clf, x, y, direction=along, max_distance=0.8)
    exact = bg.exact_boundary_distance(clf, x, y, direction=along, max_distance=0.8)
    assert float(scanned.distance[0]) == pytest.approx(0.7, abs=1e-5)
    assert float(exact.distance[0]) == pytest.approx(0.3, abs=1e-7)
    assert exact.adversarial_label.tolist() == [1]


def test_exact_and_scanned_distances_agree_on_a_network() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    for direction, most in (("fgsm", 2.0), ("gradient", 20.0)):
        exact = bg.exact_boundary_distance(clf, X, Y, direction=direction, max_distance=most)
        scanned = bg.boundary_distance(clf, X, Y, direction=direction, max_distance=most, scan=2000)
        assert torch.equal(exact.found, scanned.found)
        assert exact.found.any()
        torch.testing.assert_close(exact.distance, scanned.distance, rtol=0, atol=1.5e-6 * most)
        assert torch.equal(exact.adversarial_label, scanned.adversarial_label)


def test_exact_distances_do_not_depend_on_where_blocks_end() -> None:
    # The boundary lies exactly where the first block, 1/64 of the reach, ends.
    clf = bg.Classifier(Linear(torch.tensor([1.0, 0.0]), 0.515625))
    x, along = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    result = bg.exact_boundary_distance(clf, x, torch.tensor([0]), direction=along, max_distance=1.0, clip=False)
    assert result.found.all()
    assert float(result.distance[0]) == pytest.approx(1 / 64, abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_exact_distances_mark_missing_directions_and_refuse_smooth_networks() -> None:
    constant = bg.Classifier(Linear(torch.zeros(4), 0.3))
    x = images(3, shape=(4,))
    result = bg.exact_boundary_distance(
        constant, x, torch.zeros(3, dtype=torch.int64), direction="fgsm", max_distance=1.0
    )
    assert not result.valid.any()
    assert result.distance.isnan().all()
    smooth = bg.Classifier(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="anh"):
        bg.exact_boundary_distance(smooth, x, torch.zeros(3, dtype=torch.int64), direction="random", max_distance=1.0)
