"""Smoothness against quadratic and softmax classifiers whose Hessians are known, and dense autograd Hessians."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from oracles import Linear, SmallNet, images
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import boundarygeo as bg
from boundarygeo.evaluation import Session
from boundarygeo.losses import LOSSES, loss_of
from boundarygeo.subspace.smoothness import (
    LocalSmoothness,
    best_second_order_count,
    guarantee_share,
    local_smoothness,
    second_order_count,
)


class Quadratic(nn.Module):
    """Two classes, logits 0 and ½xᵀAx + bᵀx: for class 0, margin and log-odds are this function and nothing else."""

    def __init__(self, matrix: Tensor, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        score = (x @ self.matrix * x).sum(1, keepdim=True) / 2 + (x @ self.slope)[:, None]
        return torch.cat([torch.zeros_like(score), score], 1)


class Attention(nn.Module):
    """A transformer layer over the eight columns of 3×8×8 inputs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.TransformerEncoderLayer(24, 2, 32, batch_first=True)
            self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.permute(0, 3, 1, 2).flatten(2)).mean(1))


def smooth_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5), nn.Softplus())


MODULES = {"relu_net": SmallNet, "smooth_net": smooth_net, "attention": Attention}


def symmetric(eigenvalues: list[float], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator).double())[0]
    return ((basis * torch.tensor(eigenvalues).double()) @ basis.T).float()


def quadratic(eigenvalues: list[float], count: int = 5) -> tuple[bg.Classifier, Tensor, Tensor]:
    size = len(eigenvalues)
    generator = torch.Generator().manual_seed(1)
    module = Quadratic(symmetric(eigenvalues), torch.randn(size, generator=generator))
    x = torch.randn(count, size, generator=generator)
    return bg.Classifier(module, bounds=(-10, 10), device="cpu"), x, torch.zeros(count, dtype=torch.int64)


def loss_at(module: nn.Module, label: int, loss: str) -> Callable[[Tensor], Tensor]:
    """The loss of one input, normalised with 0.4 and 0.3, in float64."""
    module = module.double().eval()
    return lambda point: loss_of(module((point[None] - 0.4) / 0.3), torch.tensor([label]), loss)[0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MODULES)
def test_hessian_vector_products_are_those_of_torch_in_float64(name: str, loss: str) -> None:
    clf = bg.Classifier(MODULES[name](), mean=0.4, std=0.3, device="cpu")
    x, y = images(3), torch.tensor([0, 3, 1])
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    with clf.session(x, y) as session:
        gradient, product = session.hessian_vector(x, y, v, loss)
    assert (clf.counts.forwards, clf.counts.backwards) == (3, 6)
    torch.testing.assert_close(gradient, clf.input_gradient(x, y, loss=loss), rtol=1e-4, atol=1e-5)
    with sdpa_kernel(SDPBackend.MATH):
        for i in range(3):
            value = loss_at(MODULES[name](), int(y[i]), loss)
            expected = torch.as_tensor(torch.autograd.functional.hvp(value, x[i].double(), v[i].double())[1]).float()
            torch.testing.assert_close(product[i], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("eigenvalues", [[4.0, -1, 0.5, 2, 0], [-7.0, 3, 3, 1, 0], [3.0, -3, 1, 0.1, 2]])
@pytest.mark.parametrize("loss", ["margin", "log_odds"])
def test_curvature_of_a_quadratic_is_its_largest_eigenvalue_everywhere(eigenvalues: list[float], loss: str) -> None:
    clf, x, y = quadratic(eigenvalues)
    found = local_smoothness(clf, x, y, eps=2.0, loss=loss, points=3, iterations=40)
    beta = max(abs(value) for value in eigenvalues)
    torch.testing.assert_close(found.curvature, torch.full((5, 7), beta).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(found.beta, torch.full((5,), beta).double(), rtol=1e-4, atol=0)
    assert found.growth.abs().max() < 1e-3
    assert found.gradient_change.max() <= beta * (1 + 1e-5)
    assert found.gradient_change.min() >= 0.3 * beta


def test_values_and_changes_of_a_quadratic_on_paper() -> None:
    clf, x, y = quadratic([4.0, -1, 0.5, 2, 0])
    found = local_smoothness(clf, x, y, eps=2.0, loss="margin", points=3, iterations=1)
    matrix, slope = clf.module.matrix.double(), clf.module.slope.double()
    gradient = x.double() @ matrix + slope
    value = (x.double() @ matrix * x).sum(1) / 2 + x.double() @ slope
    torch.testing.assert_close(found.value, value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.gradient_norm, gradient.norm(dim=1), rtol=1e-5, atol=0)
    # Along its gradient the gradient changes by A g/‖g‖ per length, at any distance.
    expected = (gradient @ matrix).norm(dim=1) / gradient.norm(dim=1)
    torch.testing.assert_close(found.change_along, expected[:, None].expand(5, 3), rtol=1e-4, atol=0)
    assert found.step.tolist() == pytest.approx([2 / 3, 4 / 3, 2])
    assert found.growth.tolist() == [[1.0] * 7] * 5  # after one iteration nothing is known of convergence
    # Random points: in expectation the squares of eigenvalues are averaged.
    for change in (found.change_random, found.change_between):
        assert change.max() < 4
        assert change.square().mean().sqrt() == pytest.approx(math.sqrt((16 + 1 + 0.25 + 4) / 5), rel=0.35)


@pytest.mark.parametrize("field", ["curvature", "change_along", "change_random", "change_between"])
def test_smoothness_is_the_largest_of_all_that_was_seen(field: str) -> None:
    clf, x, y = quadratic([1.0, 2, 3])
    found = local_smoothness(clf, x, y, eps=0.3, loss="margin", points=2, iterations=2)
    values = getattr(found, field).clone()
    values[3, 1] = 77.0
    raised = dataclasses.replace(found, **{field: values})
    assert raised.beta[3] == 77
    assert (raised.hessian_norm if field == "curvature" else raised.gradient_change)[3] == 77
    assert (raised.beta[:3] <= 3.001).all()


def test_few_iterations_stay_below_and_say_that_they_have_not_converged() -> None:
    clf, x, y = quadratic([3.0, -2.9, 2.8, *[1.0] * 20])
    short, long = (local_smoothness(clf, x, y, eps=1.0, loss="margin", iterations=n) for n in (2, 60))
    assert (short.curvature <= long.curvature).all()
    assert (short.curvature < 2.9).all()
    assert short.growth.min() > 0.01
    assert long.curvature.max() <= 3.0 * (1 + 1e-5)
    assert long.curvature.min() > 2.85


@pytest.mark.parametrize("loss", ["cross_entropy", "log_odds"])
def test_curvature_of_a_softmax_regression_is_that_of_the_formula(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(12, 4)
    with torch.no_grad():
        module.weight.copy_(2 * torch.randn(4, 12, generator=generator))
    clf = bg.Classifier(module, bounds=(-9, 9), device="cpu")
    x, y = torch.randn(6, 12, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])
    found = local_smoothness(clf, x, y, eps=0.5, loss=loss, points=2, iterations=60)
    weight = module.weight.detach().double()
    uphill = clf.input_gradient(x, y, loss=loss)
    for j, t in enumerate([0.0, 0.25, 0.5]):
        points = x + t * uphill / uphill.norm(dim=1, keepdim=True)
        for i in range(6):
            logits = weight @ points[i].double() + module.bias.detach().double()
            if loss == "log_odds":  # softmax among the other classes alone
                logits[y[i]] = -torch.inf
            p = logits.softmax(0)
            hessian = weight.T @ (p.diag() - p[:, None] * p) @ weight
            expected = float(torch.linalg.eigvalsh(hessian).abs().max())
            # Where one class has nearly all the probability, p - p² is what float32 leaves of it.
            rounding = 1e-6 * float(weight.square().sum())
            assert float(found.curvature[i, j]) == pytest.approx(expected, rel=1e-3, abs=rounding)


def test_curvature_of_a_net_is_that_of_its_dense_hessian() -> None:
    clf = bg.Classifier(SmallNet(), mean=0.4, std=0.3, device="cpu")
    x, y = images(3), torch.tensor([0, 3, 1])
    found = local_smoothness(clf, x, y, eps=0.1, points=1, iterations=100)
    module = SmallNet().double().eval()
    for i in range(3):
        points = x[i : i + 1].double().repeat(192, 1, 1, 1).requires_grad_()
        value = torch.nn.functional.cross_entropy(module((points - 0.4) / 0.3), y[i].repeat(192), reduction="sum")
        (gradient,) = torch.autograd.grad(value, points, create_graph=True)
        (rows,) = torch.autograd.grad(gradient, points, torch.eye(192).double().view_as(points))
        expected = float(torch.linalg.eigvalsh(rows.view(192, 192)).abs().max())
        assert float(found.curvature[i, 0]) == pytest.approx(expected, rel=1e-2)


def test_confident_examples_keep_a_curvature_whose_square_would_underflow() -> None:
    clf = bg.Classifier(Linear(torch.tensor([60.0, 0.0]), 0.0), bounds=(-9, 9), device="cpu")
    x, y = torch.tensor([[-1.2, 0.0]]), torch.tensor([0])
    found = local_smoothness(clf, x, y, eps=0.01, points=1, iterations=2)
    assert float(found.curvature[0, 0]) / (3600 * math.exp(-72)) == pytest.approx(1, rel=1e-3)


def test_the_margin_of_a_relu_net_has_no_curvature_but_its_gradient_jumps() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(4)
    found = local_smoothness(clf, x, clf.predict(x), eps=1.0, loss="margin", points=2, iterations=2)
    assert found.curvature.max() == 0
    assert found.growth.max() == 0
    assert found.gradient_change.min() > 0
    assert torch.equal(found.beta, found.gradient_change)
    constant = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), device="cpu")
    assert local_smoothness(constant, x, torch.zeros(4).long(), eps=1.0, loss="margin").beta.max() == 0


def test_changes_are_those_between_the_points_that_are_described() -> None:
    # In one dimension, with eps to either side: a kink of slope 2 → 3 at 0.52, the example at 0.4.
    class Kink(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(x), 2 * x + (x - 0.52).relu()], 1)

    clf = bg.Classifier(Kink(), device="cpu")
    x, y = torch.tensor([[0.4]]), torch.tensor([0])
    found = local_smoothness(clf, x, y, eps=0.4, loss="margin", points=8, iterations=1)
    steps = [0.05 * j for j in range(1, 9)]
    assert found.change_along[0].tolist() == pytest.approx([0 if t < 0.12 else 1 / t for t in steps], rel=1e-4, abs=0)
    clipped, free = (
        local_smoothness(clf, torch.tensor([[1.0]]), y, eps=0.4, loss="margin", points=2, iterations=1, clip=clip)
        for clip in (True, False)
    )
    # No step is left of it: not NaN.
    assert clipped.change_along.tolist() == [[0.0, 0.0]]
    assert free.change_along.tolist() == [[0.0, 0.0]]
    assert clipped.change_random.isfinite().all()


def test_points_stay_in_the_ball_and_in_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    true = Session.hessian_vector

    def spy(self: Session, x: Tensor, y: Tensor, v: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return true(self, x, y, v, loss)

    monkeypatch.setattr(Session, "hessian_vector", spy)
    clf = bg.Classifier(SmallNet(), device="cpu")
    x, y = images(1), torch.tensor([0])
    for norm, clip in (("l2", False), ("l2", True), ("linf", False), ("linf", True)):
        eps = 6.0 if norm == "l2" else 0.5
        seen.clear()
        local_smoothness(clf, x, y, eps=eps, norm=norm, points=20, iterations=1, clip=clip)
        points = torch.cat(seen)
        assert points.shape == (41, 3, 8, 8)
        assert (points.min() < 0) == (not clip)
        length = torch.linalg.vector_norm((points - x).flatten(1), 2 if norm == "l2" else math.inf, dim=1)
        assert length.max() <= eps * (1 + 1e-5)
        if not clip:
            steps = torch.arange(1, 21) * (eps / 20)
            torch.testing.assert_close(length[1:21], steps, rtol=1e-4, atol=0)
            assert length[21:].min() > 0.9 * eps


def test_results_belong_to_the_examples_not_to_their_batch() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x, y = images(40), torch.arange(40) % 5
    whole = local_smoothness(clf, x, y, eps=0.3, points=2, iterations=5, seed=3)
    part = local_smoothness(clf, x[[30, 7]], y[[30, 7]], eps=0.3, points=2, iterations=5, seed=3, index=[30, 7])
    for name in ("value", "gradient_norm", "curvature", "change_along", "change_random", "change_between"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[[30, 7]], rtol=1e-3, atol=1e-5)
    other = local_smoothness(clf, x[[30, 7]], y[[30, 7]], eps=0.3, points=2, iterations=5, seed=4, index=[30, 7])
    assert (other.change_random != part.change_random).all()
    assert part.index.tolist() == [30, 7]


def test_cost_is_counted_and_results_are_saved(tmp_path) -> None:
    clf, x, y = quadratic([1.0, 2, 3])
    found = local_smoothness(clf, x, y, eps=0.3, loss="margin", points=2, iterations=6)
    assert found.provenance.forwards == 5 + 5 * 5 * 6
    assert found.provenance.backwards == 5 + 5 * 5 * 12
    loaded = bg.load(found.save(tmp_path / "smoothness.zarr"))
    assert isinstance(loaded, LocalSmoothness)
    assert torch.equal(loaded.beta, found.beta)


def test_counts_of_the_formula() -> None:
    norms = torch.tensor([2.0, 2.0, 2.0, 0.0])
    assert second_order_count(norms, 5.0, 1.0, 0.0, 784).tolist() == [100, 100, 100, 0]
    # 5 · 2 / (1 + 0.08 · 25/2) = 5; 10 / 3.5; 10 / (-1 + 1) is more than there is room for.
    beta = torch.tensor([0.08, 0.2, 0.08, 1.0])
    gamma = torch.tensor([1.0, 1.0, -1.0, 1.0])
    assert second_order_count(norms, 5.0, gamma, beta, 784).tolist() == [25, 8, 784, 0]
    assert second_order_count(norms[:1], 5.0, 1.0, beta, 784).tolist() == [25, 8, 25, 0]


def test_best_radius_is_best() -> None:
    gradient_norm = torch.tensor([20.0, 3.0, 11.0, 50.0])
    gamma, beta = torch.tensor([0.5, 0.01, 2.0, 0.1]), torch.tensor([1.0, 0.7, 0.1, 3.0])
    radius, count = best_second_order_count(gradient_norm, gamma, beta, 10_000)
    assert count.tolist() == [400, 642, 302, 4166]
    for i in range(4):
        problem = (gradient_norm[i : i + 1], gamma[i], beta[i], 10_000)
        there = [
            int(second_order_count(problem[0], float(radius[i]) * factor, *problem[1:])) for factor in (0.9, 1, 1.1)
        ]
        assert there[1] == count[i]
        assert there[0] < there[1] > there[2]
    radius, count = best_second_order_count(torch.tensor([1.0, 0.0]), 1.0, 0.0, 30)
    assert radius.tolist() == [math.inf, math.inf]
    assert count.tolist() == [30, 0]


def equal_product_frame(gradient: Tensor, count: int) -> Tensor:
    """Orthonormal rows with equal products with a gradient: the axes, reflected so that (1, …, 1, 0, …) meets it."""
    unit = gradient / gradient.norm()
    start = torch.zeros_like(unit)
    start[:count] = count**-0.5
    w = start - unit
    reflection = torch.eye(len(unit)).double() - 2 * torch.outer(w, w) / (w @ w)
    return reflection[:count]


@pytest.mark.parametrize("eigenvalues", [[-0.5] * 30, [0.3 * (-1) ** i * (i % 5) for i in range(30)], [0.2] * 30])
def test_the_guarantee_holds_where_the_smoothness_is_known(eigenvalues: list[float]) -> None:
    clf, x, y = quadratic(eigenvalues, count=8)
    beta, eps, gamma = max(abs(value) for value in eigenvalues), 0.7, 0.4
    gradient = clf.input_gradient(x, y, loss="margin").double()
    counts = second_order_count(gradient.norm(dim=1), eps, gamma, beta, 30)
    assert counts.min() >= 3
    frames = torch.zeros(8, 30, 30, dtype=torch.float64)
    for i, count in enumerate(counts.tolist()):
        frames[i, :count] = eps * equal_product_frame(gradient[i], count)
    share = guarantee_share(clf, x, y, frames, gamma=gamma, loss="margin", count=counts)
    assert share.tolist() == [1.0] * 8


def test_no_more_directions_reach_it_where_the_bound_is_tight() -> None:
    clf, x, y = quadratic([-0.5] * 30, count=8)
    eps, gamma = 0.7, 0.8
    gradient = clf.input_gradient(x, y, loss="margin").double()
    counts = second_order_count(gradient.norm(dim=1), eps, gamma, 0.5, 30)
    assert 3 <= counts.min() <= counts.max() < 29
    for i, count in enumerate(counts.tolist()):
        one = slice(i, i + 1)
        frame = eps * equal_product_frame(gradient[i], count + 1)
        assert guarantee_share(clf, x[one], y[one], frame[None], gamma=gamma, loss="margin").item() == 0
        first_order = int(second_order_count(gradient[one].norm(dim=1), eps, gamma, 0.0, 30))
        assert first_order > count


def test_shares_by_hand() -> None:
    clf = bg.Classifier(Linear(torch.tensor([2.0, 0.0]), 0.0), device="cpu")
    x, y = torch.tensor([[0.5, 0.5], [0.9, 0.5], [0.2, 0.2]]), torch.tensor([0, 0, 1])
    r = torch.tensor([[0.2, 0.0], [0.0, 0.2], [-0.2, 0.0], [0.3, 9.0]]).expand(3, 4, 2)
    given = {"gamma": 0.4, "loss": "margin"}
    assert guarantee_share(clf, x, y, r, **given).tolist() == [0.5, 0.5, 0.25]
    # Clipped, the second one has a way of 0.1 to go.
    assert guarantee_share(clf, x, y, r, clip=True, **given).tolist() == [0.5, 0.0, 0.25]
    assert guarantee_share(clf, x, y, r, gamma=torch.tensor([0.5, 0.0, -9.0]), loss="margin").tolist() == [
        0.25,
        0.75,
        1.0,
    ]
    share = guarantee_share(clf, x, y, r, count=torch.tensor([1, 2, 0]), **given)
    assert share[:2].tolist() == [1.0, 0.5]
    assert share[2].isnan()
    assert guarantee_share(clf, x, y, r[:, :0], **given).isnan().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -1.0}, "eps must be a finite number >= 0"),
        ({"norm": "l1"}, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
        ({"loss": "hinge"}, "loss must be one of .*, got 'hinge'"),
        ({"points": 0}, "points must be a whole number, at least 1, got 0"),
        ({"iterations": 0}, "iterations must be a whole number, at least 1, got 0"),
        ({"index": [0]}, "index must be 2 integers"),
        ({"y": torch.tensor([0, 7])}, r"y must be in \[0, 3\)"),
    ],
)
def test_bad_arguments(change: dict, message: str) -> None:
    clf = bg.Classifier(nn.Linear(6, 3), device="cpu", num_classes=3)
    arguments = {"x": torch.rand(2, 6), "y": torch.tensor([0, 1]), "eps": 1.0} | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(ValueError, match=message):
        local_smoothness(clf, x, y, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"perturbations": torch.zeros(2, 6)}, r"perturbations must have shape \[2, direction, 6\], got \[2, 6\]"),
        ({"count": torch.tensor([1, 5])}, "count must hold 2 numbers from 0 to 3"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"y": torch.tensor([0, 7])}, "y must be in"),
    ],
)
def test_bad_arguments_of_the_guarantee(change: dict, message: str) -> None:
    clf = bg.Classifier(nn.Linear(6, 3), device="cpu")
    arguments = {"y": torch.tensor([0, 1]), "perturbations": torch.zeros(2, 3, 6), "gamma": 1.0} | change
    y, perturbations = arguments.pop("y"), arguments.pop("perturbations")
    with pytest.raises(ValueError, match=message):
        guarantee_share(clf, torch.rand(2, 6), y, perturbations, **arguments)
