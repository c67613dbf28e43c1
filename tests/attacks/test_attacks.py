import itertools
import math

import numpy as np
import pytest
import torch
from oracles import Linear, SmallNet, Sphere, images
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import AdversarialExamples, fgsm, minimal_norm, pgd
from boundarygeo.attacks.norms import DrawnOnce, length, project, random_in_ball, steepest, to_half_space

ATTACKS = {
    "fgsm": lambda clf, x, y, **kw: fgsm(clf, x, y, **{"eps": 0.1, **kw}),
    "pgd": lambda clf, x, y, **kw: pgd(clf, x, y, **{"eps": 0.1, "steps": 5, **kw}),
    "minimal_norm": lambda clf, x, y, **kw: minimal_norm(clf, x, y, **{"steps": 12, **kw}),
}
NORMS = ("l2", "linf")
EPS = {"l2": 0.7, "linf": 0.07}  # about half of the small net's images are nearer to the boundary
DUAL = {"l2": 2, "linf": 1}


def small_net(count: int = 24, seed: int = 0) -> tuple[bg.Classifier, Tensor, Tensor]:
    """A random net, images, and as true classes what it predicts."""
    clf = bg.Classifier(SmallNet(seed))
    x = images(count, seed=seed + 1)
    return clf, x, clf.predict(x)


def linear(count: int = 16) -> tuple[bg.Classifier, Tensor, Tensor, Tensor]:
    """A linear classifier far from the bounds, and |wᵀx - b| of each example."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, generator=generator)
    clf = bg.Classifier(Linear(weight, 0.2), bounds=(-10, 10))
    x = torch.randn(count, 7, generator=generator)
    return clf, x, clf.predict(x), (x @ weight - 0.2).abs().double()


def dual_norm(weight: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(weight.detach().double(), DUAL[norm], dim=-1)


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_norm_is_the_distance_to_a_hyperplane(norm: str) -> None:
    clf, x, y, height = linear()
    result = minimal_norm(clf, x, y, norm=norm)
    ratio = result.distance / (height / dual_norm(clf.module.weight, norm))
    assert result.found.all()
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.0015


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_norm_finds_the_nearest_of_several_hyperplanes(norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(8, 5)
    with torch.no_grad():
        module.weight.copy_(torch.randn(5, 8, generator=generator) * torch.tensor([3.0, 1, 1, 1, 0.3])[:, None])
        module.bias.copy_(torch.randn(5, generator=generator))
    clf = bg.Classifier(module, bounds=(-50, 50))
    x = torch.randn(40, 8, generator=generator)
    y = clf.predict(x)
    logits, weight = clf.logits(x).double(), module.weight.detach().double()
    gaps = logits.gather(1, y[:, None]) - logits
    distance = (gaps / dual_norm(weight[y][:, None] - weight[None], norm)).scatter(1, y[:, None], torch.inf)
    result = minimal_norm(clf, x, y, norm=norm)
    ratio = result.distance / distance.amin(1)
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.0015
    nearest, second = distance.sort(1).values[:, :2].T
    clear = second > 1.01 * nearest
    assert clear.sum() > 30
    assert torch.equal(result.predicted[clear], distance.argmin(1)[clear])


@pytest.mark.parametrize(("norm", "expected"), [("l2", math.sqrt(0.1)), ("linf", 0.3)])
def test_minimal_norm_goes_round_an_active_bound(norm: str, expected: float) -> None:
    # From (0.9, 0.2) the boundary 3a + b = 3.5 is 0.6 away in wᵀx; a can only move by 0.1, so that b must by 0.3.
    clf = bg.Classifier(Linear(torch.tensor([3.0, 1.0]), 3.5))
    x = torch.tensor([[0.9, 0.2]])
    result = minimal_norm(clf, x, clf.predict(x), norm=norm)
    assert result.distance.item() == pytest.approx(expected, rel=5e-3)
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_a_boundary_out_of_bounds_is_not_found(norm: str) -> None:
    clf = bg.Classifier(Linear(torch.tensor([3.0, 1.0]), 4.5))
    x = torch.tensor([[0.9, 0.2]])
    result = minimal_norm(clf, x, clf.predict(x), norm=norm)
    assert not result.found.any()
    assert result.distance.isinf().all()
    assert torch.equal(result.x_adv, x)
    assert torch.equal(result.predicted, clf.predict(x))


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_are_never_worse(norm: str) -> None:
    clf, x, y = small_net(16)
    clf = clf.with_batch_size(16)
    distances = [minimal_norm(clf, x, y, norm=norm, steps=steps).distance for steps in (4, 12, 13, 30, 31, 70, 130)]
    for shorter, longer in itertools.pairwise(distances):
        assert bool((longer <= shorter).all())
    assert bool((distances[-1] < distances[0]).all())


class Wells(nn.Module):
    """Another class inside two discs: logits lead to the left one on the left of 0.48, else to the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.tensor([[0.2, 0.5], [0.95, 0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        left, right = 0.1 - torch.cdist(x, self.centres).T
        inside = torch.where(x[:, 0] < 0.48, left, right)
        return torch.stack([torch.zeros_like(inside), inside], 1)


def test_far_starts_find_a_nearer_basin() -> None:
    clf = bg.Classifier(Wells())
    x = torch.full((8, 2), 0.5) + torch.tensor([0.0, 0.002]) * torch.arange(8)[:, None]
    y = torch.zeros(8, dtype=torch.int64)
    near = minimal_norm(clf, x, y, steps=12)
    far = minimal_norm(clf, x, y)
    assert near.distance.min() > 0.33  # the disc on the right, 0.35 away, to which the gradient leads
    assert far.distance.max() < 0.21  # the disc on the left, 0.2 away


def test_random_starts_depend_on_seed_and_number_alone() -> None:
    clf, x, y = small_net(12)
    clf = clf.with_batch_size(5)
    whole = minimal_norm(clf, x, y, steps=160)
    chosen = torch.tensor([10, 3, 7])
    some = minimal_norm(clf, x[chosen], y[chosen], steps=160, index=chosen)
    assert torch.allclose(some.distance, whole.distance[chosen], rtol=1e-3)
    others = minimal_norm(clf, x[chosen], y[chosen], steps=160, index=chosen, seed=1)
    assert not torch.allclose(others.distance, some.distance, rtol=1e-6)


@pytest.mark.parametrize("radius", [0.05, 0.35])
def test_minimal_norm_is_the_distance_to_a_sphere(radius: float) -> None:
    centre = torch.full((1, 6, 6), 0.5)
    generator = torch.Generator().manual_seed(0)
    offset = torch.randn(30, 1, 6, 6, generator=generator)
    offset *= torch.linspace(0.01, 0.45, 30)[:, None, None, None] / length(offset, "l2")[:, None, None, None]
    x = centre + offset
    clf = bg.Classifier(Sphere(centre, radius))
    y = clf.predict(x)
    assert 0 < y.sum() < len(y)
    result = minimal_norm(clf, x, y)
    distance = (length(offset.double(), "l2") - radius).abs()
    assert result.found.all()
    ratio = result.distance / distance
    assert ratio.min() > 1 - 1e-3  # float32, so close to the surface
    assert ratio.max() < 1.01
    assert ratio.median() < 1.0015


def test_max_norm_rejects_what_is_longer() -> None:
    clf, x, y, height = linear()
    distance = height / dual_norm(clf.module.weight, "l2")
    limit = distance.median().item() * 1.01
    result = minimal_norm(clf, x, y, eps=limit)
    assert torch.equal(result.found, distance < limit)
    assert result.distance[~result.found].isinf().all()
    assert torch.equal(result.x_adv[~result.found], x[~result.found])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_one_and_many_steps_reach_a_hyperplane_exactly_when_the_ball_does(attack: str, norm: str) -> None:
    clf, x, y, height = linear()
    distance = height / dual_norm(clf.module.weight, norm)
    for number in range(len(x)):
        one = x[number : number + 1], y[number : number + 1]
        steps = {"steps": 20} if attack == "pgd" else {}
        # In L2 the projected steps come near the pole of the ball, and no nearer than their length allows.
        slack = 1.05 if (attack, norm) == ("pgd", "l2") else 1.001
        beyond = ATTACKS[attack](clf, *one, eps=slack * distance[number].item(), norm=norm, **steps)
        short = ATTACKS[attack](clf, *one, eps=0.999 * distance[number].item(), norm=norm, **steps)
        assert beyond.found.item()
        assert not short.found.item()
        assert short.distance.isinf().item()


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_targets_are_reached(attack: str) -> None:
    clf, x, y = small_net()
    target = (y + 1) % 5
    target[0] = y[0]  # there already
    result = ATTACKS[attack](clf, x, y, eps=0.3, targets=target)
    assert torch.equal(result.targets, target)
    assert torch.equal(result.true_labels, y)
    assert 0.2 < result.found.float().mean() < 1 or attack == "pgd"
    assert torch.equal(result.found, clf.predict(result.x_adv) == target)
    assert result.distance[0] == 0
    tiny = ATTACKS[attack](clf, x, y, eps=1e-5, targets=target)
    assert tiny.found.nonzero()[:, 0].tolist() == [0]
    # Towards the target, not merely away from the label: its log-odds grow for every example.
    step = ATTACKS[attack](clf, x, y, eps=1e-3, targets=target)
    assert (clf.margin(step.x_adv, target)[1:] > clf.margin(x, target)[1:]).float().mean() > 0.9


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_reported_is_so(attack: str, norm: str) -> None:
    clf, x, y = small_net()
    y[::5] = (y[::5] + 1) % 5  # misclassified to begin with
    eps = EPS[norm]
    result = ATTACKS[attack](clf, x, y, norm=norm, eps=eps)
    assert torch.equal(result.predicted, clf.predict(result.x_adv))
    assert torch.equal(result.found, result.predicted != y)
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    moved = length((result.x_adv - x).double(), norm)
    torch.testing.assert_close(result.distance[result.found], moved[result.found])
    assert moved.max() <= eps * (1 + 1e-4)
    assert result.distance[~result.found].isinf().all()
    assert (result.distance[::5] == 0).all()
    assert (result.distance[result.found] > 0).sum() > 1
    assert not result.found.all()


def test_bounds_hold_where_they_are_active() -> None:
    clf, x, _ = small_net()
    x = ((x - 0.5) * 3 + 0.5).clamp(0, 1)
    assert ((x == 0) | (x == 1)).float().mean() > 0.1
    y = clf.predict(x)
    for attack in ATTACKS.values():
        for norm in NORMS:
            result = attack(clf, x, y, norm=norm)
            assert result.x_adv.min() >= 0
            assert result.x_adv.max() <= 1
            assert torch.equal(result.found, clf.predict(result.x_adv) != y)


@pytest.mark.parametrize("norm", NORMS)
def test_results_depend_on_neither_order_nor_splitting(norm: str) -> None:
    clf, x, y = small_net(20)
    settings = {"norm": norm, "eps": EPS[norm], "steps": 4, "restarts": 2, "seed": 3}
    whole = pgd(clf, x, y, **settings)
    backwards = torch.arange(19, -1, -1)
    turned = pgd(clf, x[backwards], y[backwards], index=backwards, **settings)
    torch.testing.assert_close(turned.x_adv[backwards], whole.x_adv, rtol=0, atol=1e-6)
    for part in (torch.arange(7), torch.arange(7, 20)):
        some = pgd(clf, x[part], y[part], index=part, **settings)
        torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-6)
        assert torch.equal(some.found, whole.found[part])
    other = pgd(clf, x, y, **{**settings, "seed": 4})
    assert not torch.allclose(other.x_adv, whole.x_adv, atol=1e-4)
    nearest = minimal_norm(clf, x, y, norm=norm, steps=10)
    alone = minimal_norm(clf, x[5:6], y[5:6], norm=norm, steps=10)
    torch.testing.assert_close(alone.distance, nearest.distance[5:6], rtol=1e-4, atol=0)


@pytest.mark.parametrize("early_stop", [True, False])
def test_restarts_are_never_worse(early_stop: bool) -> None:
    clf, x, y = small_net(60)
    settings = {"eps": 0.06, "steps": 2, "early_stop": early_stop}
    once, often = pgd(clf, x, y, **settings), pgd(clf, x, y, restarts=6, **settings)
    assert not (once.found & ~often.found).any()
    assert often.found.sum() > once.found.sum()
    failed = ~often.found
    better = clf.margin(once.x_adv, y)[failed] - clf.margin(often.x_adv, y)[failed]
    assert better.min() > -1e-5
    assert better.max() > 1e-4


def test_done_examples_drop_out() -> None:
    clf, x, y = small_net(10)
    wrong = (y + 1) % 5
    costs = {"fgsm": (10, 10), "pgd": (10, 0), "minimal_norm": (10, 50)}
    for attack, cost in costs.items():
        provenance = ATTACKS[attack](clf, x, wrong).provenance
        assert (provenance.forwards, provenance.backwards) == cost, attack
    right = minimal_norm(clf, x, y, steps=12).provenance
    assert (right.forwards, right.backwards) == (10 * 12, 10 * 5 + 10 * 11)
    everything = pgd(clf, x, y, eps=0.3, steps=20, early_stop=False)
    assert everything.provenance.forwards == 10 * (1 + 20 + 1)
    early = pgd(clf, x, y, eps=0.3, steps=20)
    assert torch.equal(early.found, everything.found)
    assert early.provenance.forwards < 0.3 * everything.provenance.forwards


def test_counts_are_those_of_the_module() -> None:
    seen = []

    class Counting(SmallNet):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    clf = bg.Classifier(Counting())
    x = images(9)
    y = clf.predict(x)
    for attack in ATTACKS.values():
        attack(clf, x, y)
        seen.clear()
        # Checking the module, which its list makes another one each time, on three inputs, together and alone, is not
        # counted.
        assert attack(clf, x, y).provenance.forwards == sum(seen) - 6


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ["fgsm", "minimal_norm"])
def test_without_a_gradient_nothing_is_found(attack: str, norm: str) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] * 0 + torch.tensor([0.0, 1.0, 0.5])

    x = images(3)
    result = ATTACKS[attack](bg.Classifier(Constant()), x, torch.tensor([1, 1, 0]), norm=norm)
    assert result.found.tolist() == [False, False, True]
    assert torch.equal(result.x_adv, x)


def test_gradients_of_the_largest_logits() -> None:
    clf, x, _ = small_net(6)
    with clf.session(x) as session:
        logits, top, gradients = session.differentiate_top(x, 3)
    reference = SmallNet().eval()
    inputs = x.clone().requires_grad_()
    expected = reference(inputs)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-4)
    assert torch.equal(top, expected.argsort(1, descending=True)[:, :3])
    for rank in range(3):
        (gradient,) = torch.autograd.grad(expected.gather(1, top)[:, rank].sum(), inputs, retain_graph=True)
        torch.testing.assert_close(gradients[:, rank], gradient, rtol=1e-3, atol=1e-4)


def test_the_gradient_does_not_vanish_where_the_classifier_is_sure() -> None:
    weight = torch.full((4,), 500.0)
    clf = bg.Classifier(Linear(weight, 0.0))
    x = torch.full((1, 4), 0.5)
    moved = fgsm(clf, x, clf.predict(x), eps=0.125).x_adv
    torch.testing.assert_close(moved, torch.full((1, 4), 0.375))


def test_nan_is_an_error_and_not_an_adversarial_example() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([score - 1, 1 - score], 1) + torch.where(score < 1.5, torch.nan, 0.0)

    clf = bg.Classifier(Breaks())
    x = torch.full((2, 2), 0.8)
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match="module must return finite logits, got NaN"):
            attack(clf, x, torch.tensor([0, 0]))


@pytest.mark.parametrize("norm", NORMS)
def test_smallest_steps_to_half_spaces_inside_the_bounds(norm: str) -> None:
    generator = torch.Generator().manual_seed(2)
    x, normal = torch.rand(25, 6, generator=generator), torch.randn(25, 6, generator=generator) * 1e-3
    normal[:, 0] = 0
    most = (torch.where(normal > 0, 1 - x, x) * normal.abs()).sum(1)
    gain = most * torch.linspace(0.05, 1.1, 25)
    delta, reached = to_half_space(x, normal, gain, norm, (0.0, 1.0))
    assert torch.equal(reached, gain < most)
    assert (x + delta).min() >= -1e-6
    assert (x + delta).max() <= 1 + 1e-6
    size = length(delta, norm)
    for i in reached.nonzero()[:, 0].tolist():
        w, c, start = (1e3 * normal[i]).double().numpy(), 1e3 * gain[i].item(), x[i].double().numpy()
        box = [(-a, 1 - a) for a in start]
        if norm == "l2":
            best = minimize(
                lambda d: d @ d,
                delta[i].double().numpy() * 0.5,
                jac=lambda d: 2 * d,
                bounds=box,
                constraints={"type": "ineq", "fun": lambda d, w=w, c=c: w @ d - c, "jac": lambda d, w=w: w},
                options={"ftol": 1e-12},
            )
            expected = math.sqrt(best.fun)
        else:
            expected = linf_program(w, c, box)
        assert size[i].item() == pytest.approx(expected, rel=1e-3)
        assert float(w @ delta[i].double().numpy()) == pytest.approx(c, rel=1e-3)


def linf_program(w, c, box) -> float:
    """Smallest L∞ norm by linear programming."""
    d = len(w)
    each = np.vstack([np.hstack([np.eye(d), -np.ones((d, 1))]), np.hstack([-np.eye(d), -np.ones((d, 1))])])
    solved = linprog(
        np.r_[np.zeros(d), 1],
        A_ub=np.vstack([each, np.r_[-w, 0]]),
        b_ub=np.r_[np.zeros(2 * d), -c],
        bounds=[*box, (0, None)],
    )
    return float(solved.fun)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_and_balls(norm: str) -> None:
    gradient = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * 1e-30
    step = steepest(gradient, norm)
    torch.testing.assert_close(length(step, norm), torch.ones(5))
    assert (steepest(torch.zeros(2, 3), norm) == 0).all()
    far = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    near = project(far, 0.5, norm)
    assert (length(near, norm) <= 0.5 + 1e-6).all()
    assert torch.equal(project(near * 0.9, 0.5, norm), near * 0.9)
    assert (project(far, 0.0, norm) == 0).all()


def test_random_starts_are_uniform_in_the_ball() -> None:
    index = torch.arange(4000)
    ball = random_in_ball(torch.Size([3]), index, "l2", seed=0, draw=0)
    radius = length(ball, "l2")
    assert radius.max() <= 1
    # P(|r| < s) = s³ in three dimensions
    for s in (0.3, 0.6, 0.9):
        assert (radius < s).float().mean().item() == pytest.approx(s**3, abs=0.03)
    cube = random_in_ball(torch.Size([3]), index, "linf", seed=0, draw=0)
    assert cube.abs().max() <= 1
    for s in (-0.5, 0.0, 0.5):
        assert (cube < s).float().mean().item() == pytest.approx((s + 1) / 2, abs=0.02)
    assert not torch.equal(cube, random_in_ball(torch.Size([3]), index, "linf", seed=0, draw=1))
    assert torch.equal(cube[7:9], random_in_ball(torch.Size([3]), index[7:9], "linf", seed=0, draw=0))


@pytest.mark.parametrize("norm", NORMS)
def test_points_that_are_drawn_once_are_those_of_each_example(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counting(shape: torch.Size, index: Tensor, norm: str, *, seed: int, draw: int) -> Tensor:
        drawn.extend(index.tolist())
        return random_in_ball(shape, index, norm, seed=seed, draw=draw)

    monkeypatch.setattr("boundarygeo.attacks.norms.random_in_ball", counting)
    shape, once = torch.Size([2, 3]), DrawnOnce()
    for numbers in ([4, 0, 7], [7, 4], [0, 9, 9]):
        index = torch.tensor(numbers)
        for settings in ({"seed": 0, "draw": 0}, {"seed": 0, "draw": 1}, {"seed": 5, "draw": 0}):
            expected = random_in_ball(shape, index, norm, **settings)
            assert torch.equal(once(shape, index, norm, **settings), expected)
    assert sorted(drawn) == sorted(3 * [0, 4, 7, 9])


def test_examples_are_saved_and_loaded(tmp_path) -> None:
    clf, x, y = small_net(4)
    result = pgd(clf, x, y, eps=0.01, steps=2, index=[4, 5, 6, 7])
    loaded = bg.load(result.save(tmp_path / "examples.zarr"))
    assert isinstance(loaded, AdversarialExamples)
    for name in ("x_adv", "found", "predicted", "distance", "true_labels", "index"):
        assert torch.equal(getattr(loaded, name), getattr(result, name)), name
    assert loaded.provenance == result.provenance
    assert "pgd(eps=0.01, norm='linf'" in loaded.provenance.command
    assert (loaded.attack, loaded.norm, loaded.eps, loaded.targets) == ("pgd", "linf", 0.01, None)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"norm": "l1"}, ValueError, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
        ({"x": torch.rand(3, 3, 8, 8) + 1}, ValueError, "x must lie in"),
        ({"x": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, TypeError, "x must be a float tensor"),
        ({"y": torch.tensor([0, 1])}, ValueError, "y must have shape"),
        ({"y": torch.tensor([0, 1, 5])}, ValueError, "y must be in"),
    ],
)
def test_bad_problems_are_refused(attack: str, change: dict, error: type, match: str) -> None:
    problem = {"x": images(3), "y": torch.tensor([0, 1, 2]), **change}
    with pytest.raises(error, match=match):
        ATTACKS[attack](bg.Classifier(SmallNet()), problem.pop("x"), problem.pop("y"), **problem)


@pytest.mark.parametrize(
    ("attack", "settings", "match"),
    [
        ("fgsm", {"eps": -0.1}, "eps must be a finite number >= 0, in input units, got -0.1"),
        ("fgsm", {"eps": math.nan}, "eps must be a finite number >= 0"),
        ("pgd", {"eps": math.inf}, "eps must be a finite number >= 0"),
        ("pgd", {"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ("pgd", {"restarts": 0}, "restarts must be a whole number, at least 1, got 0"),
        ("pgd", {"restarts": 2, "random_start": False}, "restarts must be 1 without random_start, got 2"),
        ("pgd", {"step_size": -1.0}, "step_size must be a finite number >= 0"),
        ("pgd", {"index": [0, 1]}, "index must be 3 integers >= 0"),
        ("minimal_norm", {"steps": 3}, "steps must be a whole number, at least 4, got 3"),
        ("minimal_norm", {"eps": -1.0}, "eps must be a finite number >= 0"),
    ],
)
def test_bad_settings_are_refused_before_work(attack: str, settings: dict, match: str) -> None:
    clf = bg.Classifier(SmallNet())
    with pytest.raises(ValueError, match=match):
        ATTACKS[attack](clf, images(3), torch.tensor([0, 1, 2]), **settings)
    assert clf.counts.forwards == 0


@pytest.fixture
def foolbox_net():
    """The same small net in foolbox."""
    foolbox = pytest.importorskip("foolbox")
    clf, x, y = small_net(48)
    return foolbox, foolbox.PyTorchModel(clf.module.eval(), bounds=(0, 1), device="cpu"), clf, x, y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", NORMS)
def test_fixed_radius_attacks_are_those_of_foolbox(norm: str, foolbox_net) -> None:
    foolbox, model, clf, x, y = foolbox_net
    eps = EPS[norm]
    name = {"l2": "L2", "linf": "Linf"}[norm]
    one_step = getattr(foolbox.attacks, {"l2": "L2FastGradientAttack", "linf": "LinfFastGradientAttack"}[norm])()
    assert_same_points(fgsm(clf, x, y, eps=eps, norm=norm), one_step(model, x, y, epsilons=eps))
    many = getattr(foolbox.attacks, f"{name}ProjectedGradientDescentAttack")(
        steps=7, abs_stepsize=eps / 3, random_start=False
    )
    ours = pgd(clf, x, y, eps=eps, norm=norm, steps=7, step_size=eps / 3, random_start=False, early_stop=False)
    assert_same_points(ours, many(model, x, y, epsilons=eps))


def assert_same_points(ours: AdversarialExamples, theirs: tuple) -> None:
    _, points, found = theirs
    assert 3 < found.sum() < len(found)
    assert torch.equal(ours.found, found)
    # A gradient that is zero but for rounding may have either sign.
    same = (ours.x_adv - points).abs() < 1e-5
    assert same.float().mean() > 0.999


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [30, 60])
@pytest.mark.parametrize("norm", NORMS)
def test_minimal_norm_is_as_near_as_the_best_of_foolbox(norm: str, steps: int, foolbox_net) -> None:
    foolbox, model, clf, x, y = foolbox_net
    peers = {
        "l2": ["L2DeepFoolAttack", "DDNAttack", "L2FMNAttack"],
        "linf": ["LinfDeepFoolAttack", "LInfFMNAttack"],
    }[norm]
    distances = []
    for peer in peers:
        points, _, found = getattr(foolbox.attacks, peer)(steps=steps)(model, x, y, epsilons=None)
        distances.append(torch.where(found, length((points - x).double(), norm), torch.inf))
    best = torch.stack(distances).amin(0)
    ours = minimal_norm(clf, x, y, norm=norm, steps=steps)
    assert ours.found.all()
    assert ours.provenance.forwards == steps * len(x)  # as many as DDN and FMN; DeepFool takes several per step
    assert (ours.distance / best).median() <= 1.02
