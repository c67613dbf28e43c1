import math

import numpy as np
import pytest
import torch
from oracles import Linear, SmallNet, Sphere, images
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import minimal_norm
from boundarygeo.subspace.sequential import sequential
from boundarygeo.subspace.sequential.orthogonal import PRECISE, Bounds, nearest, nearest_beyond, orthogonal_unit
from boundarygeo.subspace.sequential.sequential import BOXES

INSIDE = 1.002  # how far from the optimum a search may end where the boundary is flat

pytestmark = pytest.mark.usefixtures("short_start")


class Facets(nn.Module):
    """Class 0 where wᵀx < b for each of several hyperplanes, else the class of the facet that is farthest behind."""

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.weight, self.offset = nn.Parameter(weight.clone()), nn.Parameter(offset.clone())

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight.T - self.offset
        return torch.cat([torch.zeros_like(score[:, :1]), score], 1)


class Ellipsoid(nn.Module):
    """Class 0 inside an ellipsoid whose half-axes are the columns of a rotation times given lengths."""

    def __init__(self, centre: Tensor, rotation: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre.clone())
        self.register_buffer("map", rotation / lengths)

    def forward(self, x: Tensor) -> Tensor:
        score = ((x - self.centre).flatten(1) @ self.map).square().sum(1, keepdim=True) - 1
        return torch.cat([-score, score], 1)


def rotation(size: int, seed: int = 0) -> Tensor:
    normal = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal)[0].float()


def found_by(clf: bg.Classifier, x: Tensor, y: Tensor, **settings) -> bg.SequentialDirections:
    return bg.sequential_directions(clf, x, y, **{"max_directions": 4, "steps": 30, "progress": False, **settings})


def reasons(result: bg.SequentialDirections) -> list[str]:
    return [result.stops[code] for code in result.stopped]


def saturated(count: int = 6, seed: int = 0) -> tuple[bg.Classifier, Tensor, Tensor]:
    """A random net, images with a third of their pixels on a bound, and as true classes what it predicts."""
    clf = bg.Classifier(SmallNet(seed))
    x = ((images(count, seed=seed + 1) - 0.5) * 2.4 + 0.5).clamp(0, 1)
    assert 0.2 < ((x == 0) | (x == 1)).float().mean() < 0.5
    return clf, x, clf.predict(x)


def cosines(perturbations: Tensor) -> Tensor:
    """|cos| between any two, float64."""
    flat = perturbations.double().flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    return (unit @ unit.T - torch.eye(len(unit), dtype=torch.float64)).abs()


@pytest.mark.parametrize("box", BOXES)
def test_a_half_space_has_one_direction_and_it_is_the_nearest(box: str) -> None:
    weight = torch.randn(7, generator=torch.Generator().manual_seed(0))
    clf = bg.Classifier(Linear(weight, 0.2), bounds=(-10, 10))
    x = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))
    result = found_by(clf, x, clf.predict(x), box=box)
    ratio = result.distance[:, 0] / ((x @ weight - 0.2).abs() / weight.norm())
    assert ratio.min() > 1 - 1e-6
    assert ratio.max() < INSIDE
    # Nothing orthogonal to w is adversarial: three searches fail.
    assert result.count.tolist() == [1] * 8
    assert result.attempts.tolist() == [4] * 8
    assert reasons(result) == ["failures"] * 8
    assert result.distance[:, 1:].isinf().all()
    assert (result.adversarial_label[:, 1:] == -1).all()


@pytest.mark.parametrize("box", BOXES)
def test_orthogonal_facets_are_found_in_order(box: str) -> None:
    generator = torch.Generator().manual_seed(0)
    normals = rotation(12)[:5]
    offsets, scales = torch.rand(5, generator=generator) + 0.2, torch.rand(5, generator=generator) * 3 + 0.3
    clf = bg.Classifier(Facets(normals * scales[:, None], offsets * scales), bounds=(-5, 5))
    x = torch.cat([torch.zeros(1, 12), (torch.rand(5, 5, generator=generator) - 0.7) * 0.2 @ normals])
    expected, facet = (offsets - x @ normals.T).double().sort(1)
    result = found_by(clf, x, torch.zeros(6, dtype=torch.int64), box=box, max_directions=8)
    assert result.count.tolist() == [5] * 6
    ratio = result.distance[:, :5] / expected
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < INSIDE
    clear = (expected.diff(dim=1) > 0.01).all(1)
    assert clear.sum() > 2
    assert torch.equal(result.adversarial_label[clear, :5], facet[clear] + 1)
    assert reasons(result) == ["failures"] * 6


@pytest.mark.parametrize("box", BOXES)
def test_the_nearest_class_is_found_where_the_gradient_leads_to_another(box: str) -> None:
    # Class 2 is second nearest, but so steep that its logit hardly counts at the input.
    offsets, slopes = torch.tensor([0.5, 0.2, 0.1]), torch.tensor([0.5, 40.0, 0.5])
    clf = bg.Classifier(Facets(torch.eye(4)[:3] * slopes[:, None], offsets * slopes), bounds=(-1, 1))
    x, y = torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
    assert clf.input_gradient(x, y, loss="log_odds")[0].abs()[:2].argmax() == 0
    result = found_by(clf, x, y, box=box, starts=1, failures=1)
    assert result.adversarial_label[0].tolist() == [3, 2, 1, -1]
    assert result.distance[0, :3].tolist() == pytest.approx([0.1, 0.2, 0.5], rel=2e-3)


@pytest.mark.parametrize("box", BOXES)
def test_the_first_directions_do_not_depend_on_how_many_are_wanted(box: str) -> None:
    clf, x, y = saturated(6)
    y[1] = (y[1] + 1) % 5
    most = found_by(clf, x, y, box=box, max_directions=5, steps=16)
    assert (most.distance.diff(dim=1) < -0.01).any()  # an earlier search missed one: no reason to change the order
    for wanted in (1, 3):
        fewer = found_by(clf, x, y, box=box, max_directions=wanted, steps=16)
        torch.testing.assert_close(fewer.distance, most.distance[:, :wanted], rtol=1e-4, atol=0)
        assert torch.equal(fewer.adversarial_label, most.adversarial_label[:, :wanted])
        assert torch.equal(fewer.count, most.count.clamp_max(wanted))
        same = most.rank < wanted
        assert torch.equal(fewer.owner, most.owner[same])
        torch.testing.assert_close(fewer.perturbations, most.perturbations[same], rtol=0, atol=1e-4)


def test_a_sphere_has_as_many_directions_as_dimensions() -> None:
    centre = torch.full((1, 3, 3), 0.5)
    clf = bg.Classifier(Sphere(centre, 0.3))
    result = found_by(clf, centre[None].repeat(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64), max_directions=20)
    assert result.distance.shape == (2, 9)
    assert result.distance.min() > 0.3 - 1e-6
    assert result.distance.max() < 0.3 * INSIDE
    assert reasons(result) == ["max_directions"] * 2
    assert cosines(result.of(1)).max() < 1e-6


@pytest.mark.parametrize("box", BOXES)
def test_the_directions_of_an_ellipsoid_are_its_axes(box: str) -> None:
    # No gradient at the centre, and all of the boundary bent: every axis is a saddle but the shortest that is left.
    lengths = torch.tensor([0.05, 0.08, 0.1, 0.16, 0.25, 0.4])
    turned = rotation(6, seed=1)
    clf = bg.Classifier(Ellipsoid(torch.full((6,), 0.5), turned, lengths))
    x = torch.full((3, 6), 0.5)
    result = found_by(clf, x, torch.zeros(3, dtype=torch.int64), box=box, max_directions=6, steps=60)
    assert result.count.tolist() == [6] * 3
    ratio = result.distance / lengths.double()
    assert ratio.min() > 1 - 1e-3  # a direction beside its axis leaves a little of it to the next
    assert ratio.median() < 1.005
    assert ratio.max() < 1.02
    along = (result.of(0) @ turned).abs() / result.distance[0][:, None]
    assert along.diagonal().min() > 0.98


def test_the_box_forces_disjoint_supports() -> None:
    # From black, pixels only get brighter: after a + b = 0.4 was
    # reached by both pixels, b + c = 0.6 is left to c alone.
    # Without the box, b = -a + ... may compensate, and no third direction is left in either case.
    clf = bg.Classifier(Facets(torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0]]), torch.tensor([0.4, 0.6])))
    x, y = torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
    inside = found_by(clf, x, y)
    assert inside.count.tolist() == [2]
    assert inside.distance[0, :2].tolist() == pytest.approx([math.sqrt(0.08), 0.6], rel=2e-3)
    torch.testing.assert_close(inside.of(0)[1], torch.tensor([0, 0, 0.6, 0]), rtol=2e-3, atol=1e-5)
    assert inside.adversarial_label[0, :2].tolist() == [1, 2]
    anywhere = found_by(clf, x, y, box="ignore")
    assert anywhere.count.tolist() == [2]
    assert anywhere.distance[0, :2].tolist() == pytest.approx([math.sqrt(0.08), math.sqrt(0.24)], rel=2e-3)


@pytest.mark.parametrize("box", BOXES)
def test_what_is_reported_is_so(box: str) -> None:
    clf, x, y = saturated(9)
    y[::4] = (y[::4] + 1) % 5
    result = found_by(clf, x, y, box=box, index=range(10, 19))
    owner = result.owner
    points = x[owner] + result.perturbations
    if box == "feasible":
        assert points.min() == 0
        assert points.max() == 1
        assert torch.equal(clf.predict(points), result.adversarial_label[owner, result.rank])
    else:
        assert points.min() < 0
        with clf.session(x) as session:
            assert torch.equal(session.evaluate(points).argmax(1), result.adversarial_label[owner, result.rank])
    assert (result.adversarial_label[owner, result.rank] != y[owner]).all()
    size = result.perturbations.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(result.distance[owner, result.rank], size)
    assert torch.equal(result.distance.isfinite(), torch.arange(4) < result.count[:, None])
    assert torch.equal(owner.bincount(minlength=9), result.count)
    assert torch.equal(owner * 4 + result.rank, (owner * 4 + result.rank).sort().values)
    for example in range(9):
        largest = cosines(result.of(example)).max().item() if result.count[example] else 0.0
        assert largest == pytest.approx(result.orthogonality[example].item(), abs=1e-12)
        assert largest <= result.tolerance == 1e-5
    assert result.valid.tolist() == [i % 4 != 0 for i in range(9)]
    assert (result.count[result.valid] >= 2).all()
    assert (result.count[~result.valid] == 0).all()
    assert (result.attempts[~result.valid] == 0).all()
    assert {result.stops[code] for code in result.stopped[~result.valid]} == {"misclassified"}
    assert result.index.tolist() == list(range(10, 19))
    assert torch.equal(result.true_labels, y)


def test_the_bounds_hold_in_float32_whatever_they_are() -> None:
    bounds = (-2.1179039, 2.64)
    clf = bg.Classifier(SmallNet(), bounds=bounds)
    x = ((images(6) - 0.5) * 20).clamp(*bounds)
    y = clf.predict(x)
    result = found_by(clf, x, y)
    points = x[result.owner] + result.perturbations
    low, high = torch.tensor(bounds)
    assert (points >= low).all()
    assert (points <= high).all()
    assert (points == high).any()
    assert result.count.min() > 0


@pytest.mark.parametrize("box", BOXES)
def test_the_first_direction_is_a_minimal_perturbation(box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = []
    monkeypatch.setattr(sequential, "minimal_norm", lambda *a, **s: known.append(minimal_norm(*a, **s)) or known[0])
    clf, x, y = saturated(8)
    x = x if box == "feasible" else images(8)
    y = clf.predict(x)
    ours = found_by(clf, x, y, box=box, max_directions=1).distance[:, 0]
    assert (ours / known[0].distance).max() < 1 + 1e-5
    ratio = ours / minimal_norm(clf, x, y, steps=300).distance
    assert ratio.median() < 1.005
    assert ratio.max() < 1.02
    assert ratio.min() > (0.97 if box == "feasible" else 0.9)


def test_each_direction_is_about_as_short_as_a_reference_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 24), nn.Tanh(), nn.Linear(24, 4))
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * (1 if weight.shape[0] == 24 else 0.5))
    clf = bg.Classifier(module)
    x = torch.rand(6, 20, generator=generator)
    y = clf.predict(x)
    result = found_by(clf, x, y, box="ignore", max_directions=4, starts=8)
    assert result.count.tolist() == [4] * 6
    directions = torch.stack([result.of(example) for example in range(6)])
    for k in (1, 3):
        ratios = (result.distance[:, k] / shortest_orthogonal(clf, x, y, directions[:, :k])).sort().values
        assert ratios[3] < 1.02
        assert ratios[-1] < 1.4


def shortest_orthogonal(clf: bg.Classifier, x: Tensor, y: Tensor, before: Tensor) -> Tensor:
    """As a user would write it: Adam on a penalty, in coordinates of the orthogonal complement, from several starts."""
    examples, k, _ = before.shape
    complement = torch.linalg.svd((before / before.norm(dim=2, keepdim=True)).double())[2][:, k:].float()
    module = clf.module.eval().requires_grad_(False)
    best = torch.full((examples,), torch.inf)
    start = torch.randn(8, complement.shape[1], generator=torch.Generator().manual_seed(0))
    point = (start / math.sqrt(start.shape[1])).repeat(examples, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([point], lr=0.02)
    weight = torch.ones(examples, 8)
    true = y[:, None, None].expand(-1, 8, 1)
    for _ in range(300):
        logits = module((x[:, None] + point @ complement).flatten(0, 1)).view(examples, 8, -1)
        margin = logits.gather(2, true)[:, :, 0] - logits.scatter(2, true, -torch.inf).amax(2)
        size = point.norm(dim=2)
        fooled = margin.detach() < 0
        best = torch.minimum(best, torch.where(fooled, size.detach(), torch.inf).amin(1))
        weight = torch.where(fooled, 0.95 * weight, 1.05 * weight)
        optimiser.zero_grad()
        (size + weight * margin.clamp_min(-0.01)).sum().backward()
        optimiser.step()
    return best


@pytest.mark.parametrize("box", BOXES)
def test_results_depend_on_neither_order_nor_splitting(box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = saturated(5)
    settings = {"box": box, "max_directions": 3, "failures": 2}
    whole = found_by(clf, x, y, **settings)
    assert whole.count.min() > 1
    alone = [found_by(clf, x[i : i + 1], y[i : i + 1], index=[i], **settings) for i in range(5)]
    assert [int(one.count) for one in alone] == whole.count.tolist()
    torch.testing.assert_close(torch.cat([one.distance for one in alone]), whole.distance, rtol=1e-3, atol=0)
    turned = torch.arange(4, -1, -1)
    backwards = found_by(clf, x[turned], y[turned], index=turned, **settings)
    torch.testing.assert_close(backwards.distance[turned], whole.distance, rtol=1e-3, atol=0)
    again = found_by(clf, x, y, **settings)
    assert torch.equal(again.perturbations, whole.perturbations)
    monkeypatch.setattr(sequential, "_WORKING_BYTES", 3 * 8 * 192 * (3 * 5 + 20))
    parts = found_by(clf, x, y, **settings)
    torch.testing.assert_close(parts.distance, whole.distance, rtol=1e-3, atol=0)
    assert torch.equal(parts.owner, whole.owner)


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_seed_and_index_decide_random_starts() -> None:
    centre = torch.full((1, 2, 3), 0.5)
    clf = bg.Classifier(Sphere(centre, 0.2))  # no gradient at the input: every search starts at random
    x, y = centre[None].repeat(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64)
    first = found_by(clf, x, y, seed=1, index=[0, 1, 0])
    assert torch.equal(first.of(0), first.of(2))
    assert not torch.allclose(first.of(0), first.of(1), atol=1e-2)
    assert torch.equal(found_by(clf, x, y, seed=1, index=[0, 1, 0]).perturbations, first.perturbations)
    assert not torch.allclose(found_by(clf, x, y, seed=2, index=[0, 1, 0]).of(0), first.of(0), atol=1e-2)


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_searches_that_fail_are_repeated_from_random_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a slope at the input and with a hole in one direction only, the first start can miss it.
    class Spike(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1) - 0.5
            flat_top = torch.relu(flat[:, 0].abs() - 0.02) - 0.1
            slope = 1e-3 * flat[:, 1].clamp(-0.3, 0.3) - 0.01
            return torch.stack([torch.zeros_like(slope), torch.maximum(flat_top, slope)], 1)

    clf = bg.Classifier(Spike())
    x, y = torch.full((12, 4), 0.5), torch.zeros(12, dtype=torch.int64)
    monkeypatch.setattr(sequential._Chains, "_offer_minimal", lambda self, best, seed: None)  # it would find one
    settings = {"box": "ignore", "max_directions": 1, "starts": 1}
    once = found_by(clf, x, y, failures=1, **settings)
    assert once.count.sum() == 0  # it follows the slope, which leads nowhere
    often = found_by(clf, x, y, failures=4, **settings)
    assert often.count.sum() > 6
    assert often.distance[often.count > 0].max() < 0.125
    assert often.attempts[often.count > 0].float().mean() > 1
    assert (often.attempts[often.count == 0] == 4).all()


def test_longer_ones_than_max_norm_are_no_finds() -> None:
    clf = bg.Classifier(Facets(torch.eye(3), torch.tensor([0.1, 0.2, 0.4])))
    x, y = torch.full((2, 3), 0.01), torch.zeros(2, dtype=torch.int64)
    result = found_by(clf, x, y, eps=0.3)
    assert result.count.tolist() == [2, 2]
    assert result.attempts.tolist() == [2 + 3] * 2
    assert reasons(result) == ["eps"] * 2
    assert result.distance[:, 2:].isinf().all()
    assert result.eps == 0.3
    some = found_by(clf, x, y, max_directions=1)
    assert reasons(some) == ["max_directions"] * 2
    assert some.attempts.tolist() == [1, 1]
    none = found_by(clf, x, y, eps=0.01, failures=2)
    assert none.count.sum() == 0
    assert none.attempts.tolist() == [2, 2]
    assert none.perturbations.shape == (0, 3)
    assert (none.orthogonality == 0).all()


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_no_gradient_is_a_reason_of_its_own() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] * 0 + torch.tensor([0.0, 1.0, 0.5])

    result = found_by(bg.Classifier(Constant()), images(3), torch.tensor([1, 1, 0]))
    assert reasons(result) == ["no_gradient", "no_gradient", "misclassified"]
    assert result.count.tolist() == [0, 0, 0]


def test_counts_are_those_of_the_module() -> None:
    seen = []

    class Counting(SmallNet):  # its list makes it another module each time, which is checked on three inputs, twice
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    clf = bg.Classifier(Counting())
    x = images(5)
    y = clf.predict(x)
    y[0] = (y[0] + 1) % 5
    found_by(clf, x, y, max_directions=1)
    seen.clear()
    result = found_by(clf, x, y, max_directions=2, steps=10, starts=3)
    assert result.provenance.forwards == sum(seen) - 6 - 1  # one more for the minimal perturbations
    # Each of five logits of each example once; in each search three points from each of three starts, and seven from
    # the best; checks of what was found are forward passes alone.
    first = sequential.minimal_norm(clf, x[1:], y[1:]).provenance
    assert result.provenance.backwards == 25 + first.backwards + (3 * 3 + 7) * result.attempts.sum()
    checks = result.provenance.forwards - first.forwards - 5 - (3 * 3 + 7) * result.attempts.sum()
    assert 2 * result.count.sum() <= checks <= 20 * result.count.sum()


def test_results_are_saved_and_loaded(tmp_path) -> None:
    clf, x, y = saturated(3)
    for number, settings in enumerate(({"max_directions": 2}, {"eps": 1e-3, "failures": 1})):
        result = found_by(clf, x, y, **settings)
        assert bool(result.count.any()) == (number == 0)
        loaded = bg.load(result.save(tmp_path / f"{number}.zarr"))
        assert isinstance(loaded, bg.SequentialDirections)
        for name, value in vars(result).items():
            other = getattr(loaded, name)
            assert torch.equal(other, value) if isinstance(value, Tensor) else other == value, name
    assert "sequential_directions(eps=0.001, max_directions=4, box='feasible'" in loaded.provenance.command


@pytest.mark.parametrize("box", BOXES)
def test_the_count_is_that_of_the_facets_within_reach(box: str) -> None:
    # Orthogonal facets at 0.2, 0.4, …, 1: with ε between two of them, those before it count.
    clf = bg.Classifier(Facets(rotation(12)[:5], torch.arange(1, 6) * 0.2), bounds=(-5, 5))
    x, y = torch.zeros(2, 12), torch.zeros(2, dtype=torch.int64)
    for eps, expected in ((0.15, 0), (0.25, 1), (0.7, 3), (0.9, 4), (2.0, 5)):
        result = found_by(clf, x, y, eps=eps, box=box, max_directions=50)
        assert result.count.tolist() == result.verified.tolist() == [expected] * 2
        assert result.attempts.tolist() == [expected + 3] * 2  # three that fail are the end
        assert reasons(result) == ["eps" if expected < 5 else "failures"] * 2
        distance = 0.2 * torch.arange(1.0, expected + 1).double().expand(2, -1)
        torch.testing.assert_close(result.distance[:, :expected], distance, rtol=2e-3, atol=0)
        assert result.distance[:, expected:].isinf().all()
        assert result.adversarial_label[:, :expected].tolist() == [[1, 2, 3, 4, 5][:expected]] * 2
    capped = found_by(clf, x, y, eps=2.0, box=box, max_directions=3)
    assert capped.count.tolist() == [3, 3]
    assert reasons(capped) == ["max_directions"] * 2


def test_by_default_fifty_directions_are_wanted() -> None:
    for size, most in ((60, 50), (9, 9)):
        clf = bg.Classifier(Facets(torch.eye(size), torch.linspace(0.1, 0.2, size)))
        x, y = torch.zeros(1, size), torch.zeros(1, dtype=torch.int64)
        result = bg.sequential_directions(clf, x, y, eps=1.0, box="ignore", steps=10, starts=2, progress=False)
        assert result.distance.shape == (1, most)
        assert result.count.tolist() == [most] == [result.max_dimension]


def test_directions_are_sent_through_another_model() -> None:
    clf, x, y = saturated(4)
    other = bg.Classifier(SmallNet(5))
    y[1] = (y[1] + 1) % 5
    result = found_by(clf, x, y, eps=2.0)
    sent = bg.transferred_dimension(other, x, result)
    label = other.predict(x[result.owner] + result.perturbations)
    right = (other.predict(x) == y) & result.valid
    fools = (label != y[result.owner]) & right[result.owner]
    same = fools & (label == result.adversarial_label[result.owner, result.rank])
    assert sent.correct.tolist() == right.tolist()
    assert sent.source.tolist() == torch.where(right, result.count, 0).tolist()
    assert sent.count.tolist() == result.owner[fools].bincount(minlength=4).tolist()
    assert sent.same.tolist() == result.owner[same].bincount(minlength=4).tolist()
    assert (sent.source_model, sent.max_dimension) == (result.provenance.model, 4)
    # Every direction of these facets reaches another class; the model itself gives the same.
    clf = bg.Classifier(Facets(torch.eye(3), torch.tensor([0.1, 0.2, 0.4])))
    x = torch.full((2, 3), 0.01)
    result = found_by(clf, x, torch.zeros(2, dtype=torch.int64))
    assert result.adversarial_label[:, :3].tolist() == [[1, 2, 3]] * 2
    assert bg.transferred_dimension(clf, x, result).same.tolist() == [3, 3]


def test_it_is_no_method_of_adversarial_dimension() -> None:
    clf = bg.Classifier(SmallNet())
    with pytest.raises(ValueError, match="use sequential_directions"):
        bg.adversarial_dimension(clf, images(1), torch.tensor([0]), eps=1.0, method="sequential")  # type: ignore[arg-type]


def test_nan_is_an_error() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([score - 1, 1 - score], 1) + torch.where(score < 1.5, torch.nan, 0.0)

    with pytest.raises(ValueError, match="module must return finite logits, got NaN"):
        found_by(bg.Classifier(Breaks()), torch.full((2, 2), 0.8), torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"box": "clip"}, ValueError, r"box must be one of \['feasible', 'ignore'\], got 'clip'"),
        ({"eps": -1.0}, ValueError, "eps must be a finite number >= 0, in input units, got -1.0"),
        ({"eps": math.nan}, ValueError, "eps must be a finite number"),
        ({"max_directions": 0}, ValueError, "max_directions must be a whole number, at least 1, got 0"),
        ({"steps": 3}, ValueError, "steps must be a whole number, at least 4, got 3"),
        ({"starts": 0}, ValueError, "starts must be a whole number, at least 1, got 0"),
        ({"failures": 0}, ValueError, "failures must be a whole number, at least 1, got 0"),
        ({"index": [0, 1]}, ValueError, "index must be 3 integers >= 0"),
        ({"x": torch.rand(3, 3, 8, 8) + 1}, ValueError, "x must lie in"),
        ({"x": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, TypeError, "x must be a float tensor"),
        ({"y": torch.tensor([0, 1])}, ValueError, "y must have shape"),
        ({"y": torch.tensor([0.0, 1, 2])}, TypeError, "y must be an integer tensor"),
    ],
)
def test_bad_input_is_refused_before_work(change: dict, error: type, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    problem = {"x": images(3), "y": torch.tensor([0, 1, 2]), **change}
    with pytest.raises(error, match=match):
        found_by(clf, problem.pop("x"), problem.pop("y"), **problem)
    assert clf.counts.forwards == 0
    with pytest.raises(ValueError, match="y must be in"):
        found_by(clf, images(3), torch.tensor([0, 1, 5]))


def problems(count: int, size: int, k: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Bounds]:
    """Anchors, normals, orthonormal bases, and bounds, a third of which are zero."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(count, size, k, generator=generator, dtype=torch.float64))[0].transpose(1, 2)
    anchor, normal = torch.randn(2, count, size, generator=generator, dtype=torch.float64)
    closed, room = torch.rand(2, 2, count, size, generator=generator, dtype=torch.float64)
    low, high = torch.where(closed < 0.3, 0.0, room)
    return anchor, normal, basis, Bounds(-low, high, 1.0)


def solved(anchor: Tensor, basis: Tensor, bounds: Bounds, normal: Tensor | None = None, gain: float = 0.0) -> Tensor:
    """Of one example, by sequential quadratic programming."""
    a, rows, target = anchor.numpy(), basis.numpy(), np.zeros(len(basis))
    constraints = [{"type": "eq", "fun": lambda d: rows @ d - target, "jac": lambda d: rows}] if len(rows) else []
    if normal is not None:
        n = normal.numpy() / normal.norm().item()
        c = gain / normal.norm().item()
        constraints.append({"type": "ineq", "fun": lambda d: n @ d - c, "jac": lambda d: n})
    best = minimize(
        lambda d: ((d - a) ** 2).sum() / 2,
        np.zeros(len(a)),
        jac=lambda d: d - a,
        method="SLSQP",
        bounds=list(zip(bounds.low.numpy(), bounds.high.numpy(), strict=True)),
        constraints=constraints,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best.success, best.message
    return torch.from_numpy(best.x)


def assert_feasible(delta: Tensor, basis: Tensor, bounds: Bounds) -> None:
    assert (delta >= bounds.low).all()
    assert (delta <= bounds.high).all()
    product = torch.bmm(basis, delta[:, :, None])[:, :, 0].abs()
    assert (product <= PRECISE * delta.norm(dim=1, keepdim=True)).all()


@pytest.mark.parametrize("k", [0, 1, 5])
def test_nearest_orthogonal_points_inside_bounds(k: int) -> None:
    anchor, normal, basis, bounds = problems(10, 20, k, seed=k)
    delta, multipliers, precise = nearest(anchor, basis, bounds)
    assert precise.all()
    assert_feasible(delta, basis, bounds)
    most = (normal * delta).sum(1)  # what a gain must be above to bind
    gain = most + torch.linspace(0.05, 0.2, 10, dtype=torch.float64) * normal.norm(dim=1)
    beyond, more, well = nearest_beyond(anchor, normal, gain, basis, bounds)
    assert well.all()
    assert_feasible(beyond, basis, bounds)
    for i in range(10):
        one = Bounds(bounds.low[i], bounds.high[i], 1.0)
        torch.testing.assert_close(delta[i], solved(anchor[i], basis[i], one), rtol=0, atol=1e-5)
        expected = solved(anchor[i], basis[i], one, normal[i], gain[i].item())
        torch.testing.assert_close(beyond[i], expected, rtol=0, atol=1e-5)
    # From their own multipliers they are there at once, and where no half-space binds, it does not matter.
    again, _, precise = nearest(anchor, basis, bounds, multipliers, newton_steps=0)
    assert precise.all()
    torch.testing.assert_close(again, delta)
    again, _, precise = nearest_beyond(anchor, normal, gain, basis, bounds, more, newton_steps=0)
    assert precise.all()
    torch.testing.assert_close(again, beyond)
    slack, _, _ = nearest_beyond(anchor, normal, most - 0.1, basis, bounds)
    torch.testing.assert_close(slack, delta, rtol=0, atol=1e-5)


def test_a_half_space_out_of_reach_leaves_the_other_constraints() -> None:
    anchor, normal, basis, bounds = problems(10, 20, 4, seed=7)
    delta, _, precise = nearest_beyond(0 * anchor, normal, torch.full((10,), 1e3), basis, bounds)
    assert precise.all()
    assert_feasible(delta, basis, bounds)
    for i in range(10):
        box = list(zip(bounds.low[i].tolist(), bounds.high[i].tolist(), strict=True))
        farthest = linprog(-normal[i].numpy(), A_eq=basis[i].numpy(), b_eq=[0] * 4, bounds=box)
        assert normal[i] @ delta[i] > -0.99 * farthest.fun


def test_without_bounds_the_solutions_are_projections() -> None:
    anchor, normal, basis, _ = problems(6, 20, 5, seed=3)
    anchor = orthogonal_unit(anchor, basis)
    assert nearest(anchor, basis, None)[0] is anchor
    gain = (normal * anchor).sum(1) + torch.linspace(-1, 1, 6, dtype=torch.float64)
    delta, _, precise = nearest_beyond(anchor, normal, gain, basis, None)
    assert precise.all()
    assert torch.bmm(basis, delta[:, :, None]).abs().max() < 1e-12
    torch.testing.assert_close((normal * delta).sum(1), torch.maximum(gain, (normal * anchor).sum(1)))
    wide = torch.full_like(anchor, 1e6)
    boxed, _, _ = nearest_beyond(anchor, normal, gain, basis, Bounds(-wide, wide, 1.0))
    torch.testing.assert_close(delta, boxed, rtol=0, atol=1e-6)


def test_what_is_rounding_has_no_direction() -> None:
    _, _, basis, _ = problems(4, 20, 5, seed=4)
    inside = basis.sum(1)
    assert (orthogonal_unit(inside, basis) == 0).all()
    tilted = inside + 1e-3 * orthogonal_unit(torch.ones_like(inside), basis)
    unit = orthogonal_unit(tilted, basis)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.bmm(basis, unit[:, :, None]).abs().max() < 1e-10
    assert (orthogonal_unit(0 * inside, basis) == 0).all()
