"""All analyses on a device whose tensors mix with none of the CPU: the same results, and few waits for the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_device import NAME, Elsewhere, FarTensor
from oracles import images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.directions import named_directions
from boundarygeo.results import Result

EPS = 0.1


def network(seed: int = 0) -> nn.Module:
    """A small convolutional network that tells which channel is the brightest, with some noise of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 3)
        ).eval()
        for channel in range(3):
            net[0].weight.data[channel, channel] += 0.5
            net[5].weight.data[channel].view(6, 16)[channel] += 0.1
    return net


X = images(4, seed=1) + torch.eye(3).repeat(2, 1)[:4, :, None, None] * 0.1
Y = X.mean((2, 3)).argmax(1)
POOL = images(9, seed=2) + torch.eye(3).repeat(3, 1)[:, :, None, None] * 0.2
POOL_Y = POOL.mean((2, 3)).argmax(1)
QUIET = {"progress": False}
Classifiers = dict[str, bg.Classifier]


def pieces(clf: bg.Classifier) -> Result:
    return bg.linear_pieces(clf, X, named_directions(clf, X, Y, "fgsm"), extent=(0.0, EPS), **QUIET)


def cosines(clf: bg.Classifier) -> Result:
    return bg.gradient_cosines(clf, X, Y, named_directions(clf, X, Y, "fgsm"), at=[EPS], **QUIET)


def maps(clf: bg.Classifier, method: str) -> Result:
    planes = bg.fgsm_random_planes(clf, X, Y)
    told = {"method": method, "precision": "float32", "keep": ["probability"]}
    return bg.boundary_maps(clf, planes, extent=0.5, resolution=17, **told, **QUIET)


def transferred(these: Classifiers) -> Result:
    own = bg.adversarial_dimension(these["a"], X, Y, eps=1.0, max_dimension=4, keep_directions=True, **QUIET)
    return bg.transferred_dimension(these["b"], X, own, **QUIET)


ONE: dict[str, Callable[[bg.Classifier], Any]] = {
    "maps": lambda clf: maps(clf, "adaptive"),
    "dense maps": lambda clf: maps(clf, "dense"),
    "lines": lambda clf: bg.logit_lines(clf, X, Y, extent=(-EPS, EPS), **QUIET),
    "distances": lambda clf: bg.boundary_distance(clf, X, Y, direction="fgsm", max_distance=0.5),
    "pieces": pieces,
    "cosines": cosines,
    "segments": lambda clf: bg.segment_curves(clf, X[:2], Y[:2], X[2:], Y[2:], points=3, **QUIET),
    "spectrum": lambda clf: bg.hidden_spectrum(clf, X, Y, layers=["3"], **QUIET),
    "fgsm": lambda clf: bg.fgsm(clf, X, Y, eps=EPS, **QUIET),
    "pgd": lambda clf: bg.pgd(clf, X, Y, eps=EPS, restarts=2, **QUIET),
    "apgd": lambda clf: bg.apgd(clf, X, Y, eps=EPS, steps=10, restarts=2, **QUIET),
    "apgd_targeted": lambda clf: bg.apgd_targeted(clf, X, Y, eps=EPS, steps=10, **QUIET),
    "square": lambda clf: bg.square(clf, X, Y, eps=EPS, queries=20, **QUIET),
    "minimal_norm": lambda clf: bg.minimal_norm(clf, X, Y, steps=60, **QUIET),
    "accuracy": lambda clf: bg.accuracy_curve(clf, X, Y, attack="strongest", eps=[EPS], steps=5, queries=20, **QUIET),
    "gaas": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=1.0, max_dimension=8, **QUIET),
    "gaas in L∞": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=EPS, norm="linf", max_dimension=8, **QUIET),
    "frame": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=1.0, method="frame", max_dimension=4, **QUIET),
    "sequential": lambda clf: bg.sequential_directions(clf, X, Y, max_directions=2, steps=10, **QUIET),
    "smoothness": lambda clf: bg.local_smoothness(clf, X, Y, eps=0.5, points=2, iterations=3, **QUIET),
    "noise": lambda clf: bg.noise_success(clf, X, Y, eps=1.0, **QUIET),
    "certificates": lambda clf: bg.certify(clf, X, Y, sigma=0.1, n=50, **QUIET),
}
SEVERAL: dict[str, Callable[[Classifiers], Any]] = {
    "matrix": lambda these: bg.transfer_matrix(these, X, Y, eps=EPS, **QUIET),
    "overlap": lambda these: bg.subspace_overlap(these, X, Y, eps=1.0, dimension=2, restarts=3, **QUIET),
    "shared": lambda these: bg.shared_dimension(these, X, Y, eps=1.0, max_dimension=4, **QUIET),
    "transferred": transferred,
    "boundaries": lambda these: bg.inter_boundary_distance(these, X, Y, max_distance=3.0, pool=(POOL, POOL_Y)),
    "reproducibility": lambda these: bg.reproducibility(these, X, Y, planes=3, resolution=21, **QUIET),
    "predictors": lambda these: bg.transfer_predictors(
        these, X, Y, bg.transfer_matrix(these, X, Y, eps=EPS, **QUIET), draws=2, steps=20, **QUIET
    ),
}


def classifier(device: str, seed: int = 0) -> bg.Classifier:
    return bg.Classifier(network(seed), device=device, batch_size=3)


def fields(result: Result) -> dict[str, Tensor]:
    arrays = {name: value for name, value in vars(result).items() if isinstance(value, Tensor)}
    assert arrays
    assert all(value.device.type == "cpu" for value in arrays.values())
    return arrays


def assert_same(far: Result, near: Result) -> None:
    assert type(far) is type(near)
    for name, value in fields(far).items():
        torch.testing.assert_close(value, fields(near)[name], rtol=1e-3, atol=1e-5, equal_nan=True, msg=name)


@pytest.mark.parametrize("name", ONE)
def test_an_analysis_gives_there_what_it_gives_here(name: str) -> None:
    with Elsewhere():
        far = ONE[name](classifier(NAME))
    assert_same(far, ONE[name](classifier("cpu")))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_classifiers_give_there_what_they_give_here(name: str) -> None:
    with Elsewhere():
        far = SEVERAL[name]({"a": classifier(NAME), "b": classifier(NAME, 1)})
    assert_same(far, SEVERAL[name]({"a": classifier("cpu"), "b": classifier("cpu", 1)}))


def test_tensors_of_two_devices_do_not_mix() -> None:
    with Elsewhere():
        far = torch.ones(3, device=NAME)
        assert isinstance(far, FarTensor)
        assert far.device.type == NAME
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            far + torch.ones(3)
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            torch.stack([torch.ones(3), far])
        with pytest.raises(RuntimeError, match="for generator"):
            torch.rand(3, device=NAME, generator=torch.Generator())
        with pytest.raises((RuntimeError, TypeError)):
            far.numpy()
        assert (2 * far + torch.tensor(1.0)).tolist() == [3, 3, 3]


def test_copies_and_waits_are_counted() -> None:
    with Elsewhere() as device:
        far = torch.arange(4.0).to(NAME)
        assert device.counts == {"in": 1}
        view = far[1:3].mul_(10)
        assert far.tolist() == [0, 10, 20, 3]
        assert view.cpu().tolist() == [10, 20]
        assert (device.counts["in"], device.counts["out"], device.counts["wait"]) == (1, 2, 0)
        assert bool((far > 1).any())
        assert far[far > 1].numel() == 3
        assert (far > 1).nonzero().shape == (3, 1)
        assert device.counts["wait"] == 3
        far[torch.tensor([0, 1])] = torch.tensor(5.0)
        assert far.tolist()[:2] == [5, 5]
        assert device.counts["in"] == 2


def test_gradients_exist_there() -> None:
    with Elsewhere():
        net = network().to(NAME)
        x = X.to(NAME).requires_grad_()
        (far,) = torch.autograd.grad(net(x).square().sum(), x)
        far = far.cpu()
    x = X.clone().requires_grad_()
    (near,) = torch.autograd.grad(network()(x).square().sum(), x)
    torch.testing.assert_close(far, near)


def waits(work: Callable[[bg.Classifier], Any]) -> int:
    """How often the host waits for the device."""
    with Elsewhere() as device:
        work(classifier(NAME))
    return device.counts["wait"] + device.counts["out"]


def test_steps_of_pgd_wait_once_and_without_an_early_stop_never() -> None:
    def pgd(steps: int, *, early_stop: bool) -> Callable[[bg.Classifier], Any]:
        return lambda clf: bg.pgd(clf, X, Y, eps=1e-6, steps=steps, early_stop=early_stop, **QUIET)

    batches = 2
    assert waits(pgd(20, early_stop=False)) == waits(pgd(10, early_stop=False))
    assert waits(pgd(20, early_stop=True)) - waits(pgd(10, early_stop=True)) == 10 * batches


def test_steps_of_the_other_searches_hardly_wait() -> None:
    def more(work: Callable[[bg.Classifier, int], Any], few: int, many: int) -> float:
        return (waits(lambda clf: work(clf, many)) - waits(lambda clf: work(clf, few))) / (many - few)

    assert more(lambda clf, steps: bg.minimal_norm(clf, X, Y, steps=steps, **QUIET), 32, 132) < 0.05
    assert more(lambda clf, steps: bg.apgd(clf, X, Y, eps=1e-6, steps=steps, **QUIET), 10, 50) <= 2
    assert more(lambda clf, queries: bg.square(clf, X, Y, eps=1e-6, queries=queries, **QUIET), 10, 50) <= 2


def test_larger_maps_wait_hardly_more() -> None:
    def maps_of(resolution: int) -> Callable[[bg.Classifier], Any]:
        def work(clf: bg.Classifier) -> Any:
            planes = bg.fgsm_random_planes(clf, X, Y)
            return bg.boundary_maps(clf.with_batch_size(5000), planes, extent=0.5, resolution=resolution, **QUIET)

        return work

    assert waits(maps_of(33)) - waits(maps_of(17)) <= 12
