"""Every analysis, small: what the tests of devices run on the CPU and elsewhere, and compare."""

from collections.abc import Callable
from typing import Any

import torch
from oracles import images
from torch import Tensor, nn

import boundarygeo as bg
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
    return bg.linear_pieces(clf, X, Y, extent=(0.0, EPS), **QUIET)


def cosines(clf: bg.Classifier) -> Result:
    return bg.gradient_cosines(clf, X, Y, at=[EPS], **QUIET)


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
    "worst case": lambda clf: bg.worst_case_accuracy(clf, X, Y, attacks=["fgsm", "pgd"], eps=EPS, **QUIET),
    "gaas": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=1.0, max_dimension=8, **QUIET),
    "gaas in L∞": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=EPS, norm="linf", max_dimension=8, **QUIET),
    "frame": lambda clf: bg.adversarial_dimension(clf, X, Y, eps=1.0, method="frame", max_dimension=4, **QUIET),
    "sequential": lambda clf: bg.sequential_directions(clf, X, Y, max_directions=2, steps=10, **QUIET),
    "smoothness": lambda clf: bg.local_smoothness(clf, X, Y, eps=0.5, points=2, iterations=3, **QUIET),
    "noise": lambda clf: bg.noise_success(clf, X, Y, eps=1.0, **QUIET),
    "certificates": lambda clf: bg.defences.certify(clf, X, Y, sigma=0.1, n=50, **QUIET),
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
