"""Noise against half-spaces, whose share of the sphere is known in closed form."""

import math
from fractions import Fraction

import pytest
import torch
from oracles import Linear, SmallNet, images
from scipy import stats
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.noise import (
    NoiseSuccess,
    cone_probability,
    half_space_log_probability,
    half_space_probability,
    noise_success,
)

COSINES = (0.0, 0.1, 0.5, 0.9, 0.999)


def share_of_sphere(cosine: float, dimension: int) -> float:
    """The share of the sphere beyond a cosine, from the angle, for 2 to 4 dimensions."""
    angle = math.acos(cosine)
    return {
        2: angle / math.pi,
        3: (1 - cosine) / 2,  # Archimedes
        4: (angle - math.sin(angle) * math.cos(angle)) / math.pi,
    }[dimension]


def exact_log_share(root: int, dimension: int) -> float:
    """For k = root² and odd d, where the density is a polynomial: in fractions, term by term."""
    n = (dimension - 3) // 2
    below, whole = Fraction(0), Fraction(0)
    for j in range(n + 1):
        term = Fraction((-1) ** j * math.comb(n, j), 2 * j + 1)
        whole += term
        below += term * Fraction(1, root ** (2 * j + 1))
    share = (whole - below) / (2 * whole)
    return math.log(share.numerator) - math.log(share.denominator)


@pytest.mark.parametrize("dimension", [2, 3, 4])
def test_shares_of_the_sphere_by_elementary_geometry(dimension: int) -> None:
    k = torch.tensor([math.inf if c == 0 else 1 / c**2 for c in COSINES], dtype=torch.float64)
    expected = torch.tensor([share_of_sphere(c, dimension) for c in COSINES], dtype=torch.float64)
    torch.testing.assert_close(half_space_probability(k, dimension), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dimension", [5, 101, 785, 3073])
@pytest.mark.parametrize("root", [2, 3, 5, 10, 30])
def test_shares_in_many_dimensions_by_exact_fractions(root: int, dimension: int) -> None:
    expected = exact_log_share(root, dimension)
    assert float(half_space_log_probability(root**2, dimension)) == pytest.approx(expected, rel=1e-11)


def test_probabilities_of_all_sizes_are_one_smooth_function() -> None:
    # Across the change of method, at e⁻⁴⁰⁰, there is no jump.
    k = torch.linspace(3.0, 5.0, 2001, dtype=torch.float64)
    logarithm = half_space_log_probability(k, 3072)
    assert logarithm[0] < -500
    assert logarithm[-1] > -370
    assert (logarithm.diff() > 0).all()
    assert logarithm.diff(n=3).abs().max() < 1e-6


def test_probability_at_the_ends() -> None:
    logarithm = half_space_log_probability(torch.tensor([1.0, math.inf]), 784)
    assert logarithm.tolist() == [-math.inf, math.log(0.5)]
    assert half_space_log_probability(torch.full((2, 3), 9.0), 784).shape == (2, 3)
    assert half_space_log_probability(2, 150_528) == pytest.approx(-75263.5 * math.log(2), rel=1e-3)
    assert half_space_probability(2, 150_528) == 0


def test_more_dimensions_of_the_cone_are_met_more_often() -> None:
    found = half_space_log_probability(torch.arange(1.0, 500), 784)
    assert (found.diff() > 0).all()


@pytest.mark.parametrize(("k", "dimension"), [(0.5, 10), (math.nan, 10), (2.0, 1)])
def test_impossible_cones_are_refused(k: float, dimension: int) -> None:
    with pytest.raises(ValueError, match="k must be at least 1|dimension must be at least 2, got 1"):
        half_space_log_probability(torch.tensor([k]), dimension)


def test_cones_by_hand() -> None:
    gradient_norm = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0])
    margin = torch.tensor([1.5, -1.5, 9.0, -9.0, 1.0, -1.0, 0.0])
    # In three dimensions with ε = 3: cosines ±¼, and beyond reach.
    expected = [(1 - 0.25) / 2, (1 + 0.25) / 2, 0, 1, 0, 1, 0]
    assert cone_probability(gradient_norm, 3.0, margin, 3).tolist() == pytest.approx(expected, rel=1e-12)
    assert cone_probability(gradient_norm[:1], 3.0, 0.0, 3).tolist() == [0.5]


def linear(count: int, size: int) -> tuple[bg.Classifier, Tensor, Tensor, Tensor]:
    """A linear classifier far from its bounds, and the distances of the examples to the boundary."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, generator=generator)
    clf = bg.Classifier(Linear(weight, 0.0), bounds=(-50, 50), device="cpu")
    x = torch.randn(count, size, generator=generator)
    return clf, x, clf.predict(x), clf.margin(x, clf.predict(x)).abs()


@pytest.mark.parametrize("size", [2, 3, 10, 40])
def test_noise_fools_a_linear_classifier_as_often_as_the_half_space_says(size: int) -> None:
    clf, x, y, margin = linear(12, size)
    gradient_norm = clf.input_gradient(x, y, loss="margin").flatten(1).norm(dim=1)
    found = noise_success(clf, x, y, eps=4.0, draws=2000)
    expected = cone_probability(gradient_norm, 4.0, margin, size)
    assert (expected > 0.05).any()
    # Every count within the central 99.9 % of its binomial distribution: twelve of them, all but surely.
    for fooled, p in zip(found.fooled.tolist(), expected.tolist(), strict=True):
        low, high = stats.binom.interval(0.999, 2000, p) if p > 0 else (0, 0)
        assert low <= fooled <= high
    torch.testing.assert_close(found.share, found.fooled.double() / 2000)


def test_signs_are_fair_coins() -> None:
    # wᵀ(±ε) of w = (1, 1): the corners -2ε, 0, 0, 2ε. One quarter goes beyond a distance of 1.
    clf = bg.Classifier(Linear(torch.ones(2), 0.0), bounds=(-9, 9), device="cpu")
    x, y = torch.full((1, 2), 0.5), torch.tensor([1])
    found = noise_success(clf, x, y, eps=0.6, norm="linf", draws=4000)
    low, high = stats.binom.interval(0.999, 4000, 0.25)
    assert low <= int(found.fooled) <= high
    assert int(noise_success(clf, x, y, eps=0.49, norm="linf").fooled) == 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("clip", [True, False])
def test_perturbations_have_the_norm_and_stay_in_the_bounds(norm: str, clip: bool) -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not bool(x.isnan().any())  # cannot be traced: only real inputs are seen
            seen.append(x)
            return torch.cat([x[:, :1] + 100, x[:, 1:2]], 1)

    clf = bg.Classifier(Spy(), device="cpu")
    x, y = torch.full((1, 100), 0.9), torch.tensor([0])
    noise_success(clf, x, y, eps=0.7, norm=norm, draws=30, clip=clip)
    moved = torch.cat(seen)
    moved = moved[(moved != x).any(1) & (moved != x.flip(-1)).any(1)]
    assert len(moved.unique(dim=0)) == 30
    if clip:
        assert moved.max() == 1
    else:
        length = torch.linalg.vector_norm(moved - x, 2 if norm == "l2" else math.inf, dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 0.7))


def test_results_belong_to_the_examples_and_more_draws_add_to_fewer() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(30)
    y = clf.predict(x)
    y[5] = (y[5] + 1) % 5
    whole = noise_success(clf, x, y, eps=8.0, draws=40, seed=1)
    assert 0 < whole.share[whole.correct].mean() < 1
    assert whole.correct.tolist() == [i != 5 for i in range(30)]
    assert int(whole.fooled[5]) == -1
    assert whole.share[5].isnan()
    part = noise_success(clf, x[[20, 5, 3]], y[[20, 5, 3]], eps=8.0, draws=40, seed=1, index=[20, 5, 3])
    assert part.fooled.tolist() == whole.fooled[[20, 5, 3]].tolist()
    fewer = noise_success(clf, x, y, eps=8.0, draws=10, seed=1)
    more = whole.fooled - fewer.fooled
    assert more.min() >= 0
    assert more.max() <= 30
    assert not torch.equal(noise_success(clf, x, y, eps=8.0, draws=40, seed=2).fooled, whole.fooled)
    assert whole.provenance.forwards == 30 + 29 * 40
    assert whole.provenance.backwards == 0


def test_nothing_is_drawn_for_examples_that_are_all_wrong(tmp_path) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(3)
    found = noise_success(clf, x, (clf.predict(x) + 1) % 5, eps=1.0)
    assert found.fooled.tolist() == [-1, -1, -1]
    assert found.share.isnan().all()
    loaded = bg.load(found.save(tmp_path / "noise.zarr"))
    assert isinstance(loaded, NoiseSuccess)
    assert torch.equal(loaded.fooled, found.fooled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -1.0}, "eps must be a finite number >= 0"),
        ({"norm": "l1"}, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
        ({"draws": 0}, "draws must be a whole number, at least 1, got 0"),
        ({"index": [0]}, "index must be 2 integers"),
        ({"y": torch.tensor([0, 7])}, r"y must be in \[0, 3\)"),
    ],
)
def test_bad_arguments(change: dict, message: str) -> None:
    clf = bg.Classifier(nn.Linear(6, 3), device="cpu")
    arguments = {"x": torch.rand(2, 6), "y": torch.tensor([0, 1]), "eps": 1.0} | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(ValueError, match=message):
        noise_success(clf, x, y, **arguments)
