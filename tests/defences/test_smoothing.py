"""Smoothing and its certificates against closed forms of linear classifiers."""

import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from oracles import Linear, SmallNet, images
from scipy import stats
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.defences.certification import ABSTAIN, certify, predict_smoothed
from boundarygeo.defences.noise import Noise
from boundarygeo.defences.smoothing import RandomisedSmoothing, with_smoothing
from boundarygeo.plots.certified import certified_accuracy
from boundarygeo.results.statistics import lower_bound, share


def half_space(count: int = 40) -> tuple[bg.Classifier, Tensor, Tensor, Tensor]:
    """A linear classifier of points in 5 dimensions, their classes, and their distances to its boundary."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([3.0, -1.0, 2.0, 0.5, -4.0])
    clf = bg.Classifier(Linear(weight, 0.2), bounds=(-2, 2))
    x = torch.rand(count, 5, generator=generator) * 2 - 1
    score = x @ weight - 0.2
    return clf, x, (score > 0).long(), score.abs().double() / weight.double().norm()


def test_radii_of_a_linear_classifier_approach_its_true_distance_from_below() -> None:
    clf, x, y, distance = half_space()
    sigma, n, alpha = 0.3, 4000, 0.001
    found = certify(clf, x, y, sigma=sigma, n=n, alpha=alpha)
    # The smoothed classifier of a half-space is the half-space, and p_A = Φ(distance / σ): the radius is the distance.
    assert (found.radius <= distance).all()  # each fails with probability 0.001
    assert found.largest == pytest.approx(sigma * stats.norm.ppf(alpha ** (1 / n)))
    assert (found.radius <= found.largest * (1 + 1e-12)).all()
    # How far below it may lie: five standard deviations of the votes, and the bound's own.
    p = stats.norm.cdf(distance / sigma)
    fewest = np.maximum(np.floor(n * p - 5 * np.sqrt(n * p * (1 - p)) - 1), 0)
    least = sigma * stats.norm.ppf(np.maximum(lower_bound(fewest, n, alpha), 0.5))
    assert (found.radius.numpy() >= least).all()
    assert (found.predicted[~found.abstained] == y[~found.abstained]).all()
    far = distance > 0.3
    assert far.sum() > 15
    assert (found.radius[far] > 0.2).all()


def test_the_radius_is_cohens_formula_of_the_votes() -> None:
    clf, x, y, _ = half_space()
    found = certify(clf, x, y, sigma=0.3, n0=20, n=500, alpha=0.01)
    for votes, lower, radius, label, selected in zip(
        found.hits.tolist(), found.lower, found.radius, found.predicted, found.selected, strict=True
    ):
        # Clopper-Pearson by its definition: at the bound, so many votes or more have probability α.
        expected = stats.binomtest(votes, 500, alternative="greater").proportion_ci(0.99, method="exact").low
        assert float(lower) == pytest.approx(expected, rel=1e-9)
        if expected < 0.5:
            assert (float(radius), int(label)) == (0.0, ABSTAIN)
        else:
            assert float(radius) == pytest.approx(0.3 * stats.norm.ppf(expected), rel=1e-9)
            assert label == selected
    assert 0 < int(found.abstained.sum()) < len(x)
    assert found.provenance.forwards == 40 * 520


def test_lower_bounds_at_the_ends() -> None:
    np.testing.assert_allclose(lower_bound(np.array([0, 10]), 10, 0.001), [0.0, 0.001**0.1])


def test_votes_are_those_of_every_noise_vector_by_itself() -> None:
    clf, x, y, _ = half_space(6)
    found = certify(clf, x, y, sigma=0.3, n0=10, n=150, seed=4)
    for row in range(6):
        noise = Noise(x.shape[1:], torch.tensor([row]), 150, (4, 1)).vectors(0, 150)
        labels = clf.module(x[row] + 0.3 * noise).argmax(1)
        assert int((labels == found.selected[row]).sum()) == found.hits[row]


def test_noise_is_standard_normal_and_independent() -> None:
    noise = Noise(torch.Size([50]), torch.arange(4), 1000, (0, 1)).vectors(0, 4000)
    assert abs(float(noise.mean())) < 5 / math.sqrt(noise.numel())
    assert abs(float(noise.var()) - 1) < 5 * math.sqrt(2 / noise.numel())
    assert len(noise.unique(dim=0)) == 4000
    other = Noise(torch.Size([50]), torch.arange(4), 1000, (0, 0)).vectors(0, 4000)
    assert not (noise == other).all(1).any()


def test_noise_depends_on_example_and_draw_alone() -> None:
    numbers = torch.tensor([5, 2, 9])
    whole = Noise(torch.Size([3]), numbers, 100, (0, 1)).vectors(0, 300)
    noise = Noise(torch.Size([3]), numbers, 100, (0, 1))
    parts = [noise.vectors(i, min(i + 7, 300)) for i in range(0, 300, 7)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(Noise(torch.Size([3]), numbers[1:2], 100, (0, 1)).vectors(0, 100), whole[100:200])
    longer = Noise(torch.Size([3]), numbers, 1000, (0, 1)).vectors(1000, 1100)
    assert torch.equal(longer, whole[100:200])


def test_certificates_depend_neither_on_order_nor_on_splitting() -> None:
    clf, x, y, _ = half_space()
    settings = {"sigma": 0.3, "n0": 20, "n": 200, "seed": 2}
    whole = certify(clf, x, y, **settings)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    turned = certify(clf, x[order], y[order], index=order, **settings)
    assert torch.equal(turned.hits, whole.hits[order])
    part = certify(clf, x[30:], y[30:], index=range(30, 40), **settings)
    assert torch.equal(part.hits, whole.hits[30:])
    assert not torch.equal(certify(clf, x, y, **{**settings, "seed": 3}).hits, whole.hits)


def test_sigma_is_in_input_units() -> None:
    clf, x, y, _ = half_space()
    module = clf.module
    assert isinstance(module, Linear)
    # The same function of the input, behind a normalisation.
    scaled = bg.Classifier(
        Linear(module.weight.detach() * 0.5, 0.2 - 0.3 * float(module.weight.detach().sum())),
        bounds=(-2, 2), mean=0.3, std=0.5,
    )  # fmt: skip
    plain, normalised = (certify(c, x, y, sigma=0.3, n=300) for c in (clf, scaled))
    assert int((plain.hits - normalised.hits).abs().max()) <= 1  # rounding
    smooth = (with_smoothing(c, sigma=0.3, input_shape=(5,)) for c in (clf, scaled))
    a, b = (c.logits(x) for c in smooth)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_abstention_by_the_binomial_test() -> None:
    clf, x, _, distance = half_space()
    found = predict_smoothed(clf, x, sigma=0.5, n=100, alpha=0.01)
    assert (found.counts.sum(1) == 100).all()
    for counts, p_value, label in zip(found.counts, found.p_value, found.predicted, strict=True):
        first, second = sorted(counts.tolist(), reverse=True)[:2]
        # Twice the tail of a fair coin, term by term.
        tail = sum(math.comb(first + second, k) for k in range(first, first + second + 1)) / 2 ** (first + second)
        assert float(p_value) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
        assert int(label) == (ABSTAIN if float(p_value) > 0.01 else int(counts.argmax()))
    assert found.abstained[distance < 0.03].all()
    assert not found.abstained[distance > 0.4].any()


def test_certified_accuracy_with_its_intervals() -> None:
    clf, x, y, _ = half_space()
    y[:5] = 1 - y[:5]  # wrong
    found = certify(clf, x, y, sigma=0.3, n=500)
    radii = [0.0, 0.1, 0.4, 5.0]
    for radius, estimate in zip(radii, found.accuracy_at(radii), strict=True):
        hits = sum(
            int(label) == int(true) and float(size) >= radius
            for label, true, size in zip(found.predicted, y, found.radius, strict=True)
        )
        assert estimate == share(hits, 40)
    assert found.accuracy_at([5.0])[0].value == 0
    assert found.accuracy_at([0.0])[0].value <= 35 / 40
    with pytest.raises(ValueError, match="radii must be >= 0"):
        found.accuracy_at([-1.0])


def test_certificates_survive_the_attack_they_exclude() -> None:
    """At the certified distance towards the boundary of a net, the smoothed label is still the same."""
    clf = bg.Classifier(SmallNet(), bounds=(-5, 6))
    x = images(6, seed=3)
    y = clf.predict(x)
    found = certify(clf, x, y, sigma=0.1, n=1000)
    smooth = with_smoothing(clf, sigma=0.1, input_shape=(3, 8, 8), samples=200, seed=1)
    kept = ~found.abstained & (found.radius > 0.02)
    assert int(kept.sum()) >= 3
    for row in kept.nonzero()[:, 0]:
        size = 0.99 * float(found.radius[row])
        label = found.predicted[row : row + 1]
        attacked = bg.pgd(smooth, x[row : row + 1], label, eps=size, norm="l2", steps=5, early_stop=False)
        after = predict_smoothed(clf, attacked.x_adv, sigma=0.1, n=1000, seed=9)
        assert after.predicted[0] in (ABSTAIN, int(label))


def test_the_figure_draws_the_certified_accuracy() -> None:
    mpl.use("agg")
    clf, x, y, _ = half_space()
    found = [certify(clf, x, y, sigma=sigma, n=300) for sigma in (0.1, 0.3)]
    axes = certified_accuracy(found)
    for line, result in zip(axes.get_lines(), found, strict=True):
        radii, heights = (np.asarray(values, dtype=float) for values in line.get_data())
        assert (radii[0], radii[-1]) == (0, pytest.approx(result.largest))
        assert set(result.radius.tolist()) <= set(radii.tolist())
        np.testing.assert_allclose(heights, [e.value for e in result.accuracy_at(radii.tolist())])
        assert line.get_drawstyle() == "steps-pre"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["σ = 0.1", "σ = 0.3"]
    assert "n = 40" in axes.get_title()
    plt.close("all")
    with pytest.raises(ValueError, match="radii must have at least one entry"):
        certified_accuracy([])


# The module


def test_the_smoothed_linear_classifier_is_known() -> None:
    weight = torch.tensor([2.0, -1.0])
    smooth = RandomisedSmoothing(Linear(weight, 0.0), sigma=0.2, input_shape=(2,), samples=20_000).double()
    x = torch.tensor([[0.1, 0.1], [0.3, 0.2], [-0.2, 0.4]], dtype=torch.float64)
    # E sigmoid(wᵀx + ‖w‖ σ t) by Gauss-Hermite quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    scores = (x @ weight.double())[:, None] + weight.norm().double() * 0.2 * torch.from_numpy(nodes)
    expected = scores.sigmoid() @ torch.from_numpy(weights / weights.sum())
    torch.testing.assert_close(smooth(x).exp()[:, 1], expected, rtol=0, atol=4 * 0.25 / math.sqrt(20_000))


def test_it_is_the_mean_softmax_under_its_noise() -> None:
    smooth = RandomisedSmoothing(SmallNet(), sigma=0.2, input_shape=(3, 8, 8), samples=9).eval()
    x = images(5)
    expected = [torch.stack([smooth.module((one + n)[None])[0].softmax(0) for n in smooth.noise]).mean(0) for one in x]
    torch.testing.assert_close(smooth(x).exp(), torch.stack(expected), rtol=1e-4, atol=1e-6)
    deviation = RandomisedSmoothing(nn.Linear(2, 2), sigma=torch.tensor([1.0, 5.0]), input_shape=(2,), samples=5000)
    torch.testing.assert_close(deviation.noise.std(0), torch.tensor([1.0, 5.0]), rtol=0.05, atol=0)


def test_smoothing_depends_neither_on_the_batch_nor_on_the_order() -> None:
    smooth = with_smoothing(bg.Classifier(SmallNet()), sigma=0.2, input_shape=(3, 8, 8))
    x = images(20)
    whole = smooth.logits(x)
    torch.testing.assert_close(torch.cat([smooth.logits(one[None]) for one in x]), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(smooth.logits(x.flip(0)).flip(0), whole, rtol=1e-4, atol=1e-5)
    again = with_smoothing(bg.Classifier(SmallNet()), sigma=0.2, input_shape=(3, 8, 8))
    assert torch.equal(again.logits(x), whole)
    other = with_smoothing(bg.Classifier(SmallNet()), sigma=0.2, input_shape=(3, 8, 8), seed=1)
    assert not torch.equal(other.logits(x), whole)


def test_gradients_go_through_the_noise() -> None:
    smooth = RandomisedSmoothing(SmallNet(), sigma=0.2, input_shape=(3, 8, 8), samples=4).eval().double()
    x = images(2).double().requires_grad_()
    assert torch.autograd.gradcheck(smooth.requires_grad_(False), x, eps=1e-7, atol=1e-4)


def test_batch_norms_inside_are_folded() -> None:
    smooth = with_smoothing(bg.Classifier(SmallNet()), sigma=0.2, input_shape=(3, 8, 8))
    x = images(3)
    with smooth.session(x) as session:
        form = session._find_form("float32", x.shape[1:])
    assert form is not None
    assert form.rearranged
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.module.modules())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a positive number"),
        ({"sigma": math.nan}, "sigma must be a positive number"),
        ({"n": 0}, "n must be a whole number"),
        ({"n0": 1.5}, "n0 must be a whole number"),
        ({"alpha": 0.0}, r"alpha must be in \(0, 0.5\)"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 0.5\)"),
        ({"index": [0]}, "index must be 5 integers"),
        ({"y": torch.full((5,), 2)}, r"y must be in \[0, 2\)"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    clf, x, y, _ = half_space(5)
    with pytest.raises(ValueError, match=message):
        certify(**{"clf": clf, "x": x, "y": y, "sigma": 0.1, "n": 10, **settings})


GREY = images(2, shape=(1, 8, 8))
COLOUR = bg.Classifier(SmallNet(), mean=(0.5,) * 3, std=(0.2,) * 3)


def smoothed(**changes: Any) -> RandomisedSmoothing:
    return RandomisedSmoothing(SmallNet(), **{"sigma": 0.1, "input_shape": (3, 8, 8), **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: smoothed(sigma=-1.0), ValueError, "sigma must be positive"),
        (lambda: smoothed(samples=0), ValueError, "samples must be a whole number"),
        (lambda: smoothed(input_shape=()), ValueError, "input_shape must be the shape"),
        (lambda: RandomisedSmoothing(None, sigma=0.1, input_shape=(2,)), TypeError, "module must be a torch"),
        (lambda: smoothed()(GREY), ValueError, r"inputs must have the shape \[3, 8, 8\] of the noise, got \[1, 8, 8\]"),
        (lambda: with_smoothing(COLOUR, sigma=0.1, input_shape=(1, 8, 8)), ValueError, "must have 3 channels"),
    ],
)  # fmt: skip
def test_modules_that_make_no_sense(call: Callable[[], object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
