"""Segments against closed forms of linear classifiers, and a slow reference."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from balanced import balanced_net
from matplotlib import pyplot as plt
from oracles import images
from torch import Tensor, nn
from torch.nn import functional as F

import boundarygeo as bg
from boundarygeo.lines.segments import KINDS, SegmentCurves, random_pairs, segment_curves
from boundarygeo.plots.segments import segments
from boundarygeo.results.statistics import mean, share


class Stripes(nn.Module):
    """Class 0 below 0.3 of the first coordinate, class 2 from 0.3 to 0.7, class 1 above."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0]
        return torch.stack([0.3 - score, score - 0.7, 0 * score], 1)


def softmax_regression(classes: int = 4, dimension: int = 6) -> bg.Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return bg.Classifier(nn.Linear(dimension, classes))


def pairs_of_images(count: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = torch.arange(count) % 5
    return images(count, seed=1), y, images(count, seed=2), y.roll(1).where(torch.arange(count) % 3 > 0, y)


def test_misses_of_a_classifier_in_stripes() -> None:
    clf = bg.Classifier(Stripes())
    low, high = torch.zeros(1, 2), torch.ones(1, 2)
    zero, one, two = (torch.tensor([k]) for k in range(3))
    curves = segment_curves(clf, high, one, low, zero, points=11)
    assert curves.predicted[0, [0, 2, 4, 6, 8, 10]].tolist() == [0, 0, 2, 2, 1, 1]
    assert curves.miss[[0, 2, 4, 6, 8, 10]].tolist() == [0, 0, 1, 1, 0, 0]
    assert segment_curves(clf, high, one, low, two, points=11).miss[[0, 2, 4, 6, 8, 10]].tolist() == [1, 1, 0, 0, 0, 0]
    # Two examples of one class: the space between them is not that class.
    same = segment_curves(clf, low + torch.tensor([[0.0, 0.5]]), zero, low, zero, points=5)
    assert same.miss.tolist() == [0.0] * 5
    assert same.same.tolist() == [True]
    wrong = segment_curves(clf, high, zero, low, zero, points=3)
    assert wrong.miss.tolist() == [0, 1, 1]
    assert wrong.correct.tolist() == [False]
    assert curves.correct.tolist() == [True]


def test_lambda_is_the_weight_of_the_first_example() -> None:
    clf = bg.Classifier(Stripes())
    curves = segment_curves(clf, torch.ones(1, 2), torch.tensor([1]), torch.zeros(1, 2), torch.tensor([0]), points=2)
    assert curves.lam.tolist() == [0, 1]
    assert curves.predicted.tolist() == [[0, 1]]


def test_gradients_of_a_softmax_regression_are_known() -> None:
    clf = softmax_regression()
    module = clf.module
    assert isinstance(module, nn.Linear)
    generator = torch.Generator().manual_seed(1)
    x1, x2 = torch.rand(30, 6, generator=generator), torch.rand(30, 6, generator=generator)
    y1, y2 = (torch.randint(4, (30,), generator=generator) for _ in range(2))
    curves = segment_curves(clf, x1, y1, x2, y2, points=6)
    assert 0 < int(curves.same.sum()) < 30
    weight, bias = module.weight.detach().double(), module.bias.detach().double()
    for number, lam in enumerate(curves.lam.tolist()):
        x = lam * x1.double() + (1 - lam) * x2.double()
        target = lam * F.one_hot(y1, 4) + (1 - lam) * F.one_hot(y2, 4)
        # The cross-entropy of a softmax regression has the gradient Wᵀ(p - target).
        expected = (((x @ weight.T + bias).softmax(1) - target) @ weight).norm(dim=1)
        torch.testing.assert_close(curves.gradient_norm[:, number], expected, rtol=1e-4, atol=1e-6)
    assert curves.provenance.forwards == curves.provenance.backwards == 30 * 6 + int((~curves.same).sum()) * 5


def test_curves_are_those_of_a_slow_reference() -> None:
    module = balanced_net()
    clf = bg.Classifier(module, mean=(0.4, 0.5, 0.6), std=(0.5, 0.7, 0.9))
    x1, y1, x2, y2 = pairs_of_images()
    curves = segment_curves(clf, x1, y1, x2, y2, points=5)
    for pair in range(len(x1)):
        for point, lam in enumerate(np.linspace(0, 1, 5)):
            x = (lam * x1[pair] + (1 - lam) * x2[pair]).float()[None].requires_grad_()
            logits = module(clf.normalise(x))
            loss = lam * F.cross_entropy(logits, y1[pair][None]) + (1 - lam) * F.cross_entropy(logits, y2[pair][None])
            (gradient,) = torch.autograd.grad(loss, x)
            assert float(gradient.norm()) == pytest.approx(float(curves.gradient_norm[pair, point]), rel=1e-3, abs=1e-6)
            assert int(logits.argmax()) == curves.predicted[pair, point]


def test_intervals_are_those_of_shares_and_means() -> None:
    x1, y1, x2, y2 = pairs_of_images(40)
    curves = segment_curves(bg.Classifier(balanced_net()), x1, y1, x2, y2, points=4)
    assert 0 < float(curves.miss.mean()) < 1
    for point in range(4):
        missed = [
            int(label) not in (int(a), int(b))
            for label, a, b in zip(curves.predicted[:, point], y1, y2, strict=True)
        ]  # fmt: skip
        missing, norm = share(sum(missed), 40), mean(curves.gradient_norm[:, point].numpy())
        found = [float(a[point]) for a in (curves.miss, curves.miss_low, curves.miss_high)]
        assert found == [missing.value, missing.low, missing.high]
        found = [float(a[point]) for a in (curves.gradient, curves.gradient_low, curves.gradient_high)]
        assert found == [norm.value, norm.low, norm.high]
        assert curves.missed[:, point].tolist() == missed


def test_some_of_the_pairs() -> None:
    clf = bg.Classifier(balanced_net())
    x1, y1, x2, y2 = pairs_of_images(30)
    whole = segment_curves(clf, x1, y1, x2, y2, points=4, index=range(100, 130))
    part = whole.select(whole.same)
    alone = segment_curves(clf, x1[y1 == y2], y1[y1 == y2], x2[y1 == y2], y2[y1 == y2], points=4)
    assert part.n == alone.n == 10
    torch.testing.assert_close(part.gradient_norm, alone.gradient_norm, rtol=1e-4, atol=1e-6)
    assert torch.equal(part.miss, alone.miss)
    assert part.index.tolist() == list(range(100, 130, 3))
    with pytest.raises(ValueError, match="which must select at least one pair"):
        whole.select(torch.zeros(30, dtype=torch.bool))


def test_curves_depend_neither_on_order_nor_on_splitting() -> None:
    clf = bg.Classifier(balanced_net())
    x1, y1, x2, y2 = pairs_of_images(20)
    whole = segment_curves(clf, x1, y1, x2, y2, points=4)
    flipped = segment_curves(clf, x1.flip(0), y1.flip(0), x2.flip(0), y2.flip(0), points=4)
    assert torch.equal(flipped.predicted.flip(0), whole.predicted)
    torch.testing.assert_close(flipped.gradient_norm.flip(0), whole.gradient_norm, rtol=1e-4, atol=1e-6)
    turned = segment_curves(clf, x2, y2, x1, y1, points=4)
    torch.testing.assert_close(turned.gradient_norm.flip(1), whole.gradient_norm, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_uniform_among_those_of_a_kind(kind: str) -> None:
    x = torch.arange(6.0)[:, None]
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    drawn = random_pairs(x, y, pairs=20_000, kind=kind)
    assert torch.equal(drawn.y1, y[drawn.x1[:, 0].long()])
    assert torch.equal(drawn.y2, y[drawn.x2[:, 0].long()])
    wanted = {
        "any": lambda i, j: i != j,
        "same": lambda i, j: i != j and y[i] == y[j],
        "different": lambda i, j: y[i] != y[j],
    }[kind]
    allowed = [(i, j) for i in range(6) for j in range(6) if wanted(i, j)]
    counts = torch.bincount((6 * drawn.x1 + drawn.x2)[:, 0].long(), minlength=36).view(6, 6)
    assert int(counts.sum()) == sum(int(counts[i, j]) for i, j in allowed) == 20_000
    expected = 20_000 / len(allowed)
    for i, j in allowed:
        assert abs(int(counts[i, j]) - expected) < 5 * np.sqrt(expected)
    fewer = random_pairs(x, y, pairs=7, kind=kind)
    assert torch.equal(fewer.x1, drawn.x1[:7])
    assert not torch.equal(random_pairs(x, y, pairs=7, kind=kind, seed=1).x1, fewer.x1)


def test_save_and_load(tmp_path: Path) -> None:
    x1, y1, x2, y2 = pairs_of_images(6)
    curves = segment_curves(bg.Classifier(balanced_net()), x1, y1, x2, y2, points=3)
    again = bg.load(curves.save(tmp_path / "curves.zarr"))
    assert isinstance(again, SegmentCurves)
    for name in ("lam", "miss", "gradient", "gradient_low", "predicted", "gradient_norm", "y1", "y2", "index"):
        assert torch.equal(getattr(again, name), getattr(curves, name)), name
    assert again.n == 6


def test_bad_input() -> None:
    clf = softmax_regression()
    x, y = torch.rand(4, 6), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="points must be a whole number, at least 2"):
        segment_curves(clf, x, y, x, y, points=1)
    with pytest.raises(ValueError, match="x2 must have the shape of x1"):
        segment_curves(clf, x, y, x[:3], y[:3])
    with pytest.raises(ValueError, match=r"x1 must lie in \[0, 1\]"):
        segment_curves(clf, x + 1, y, x, y)
    with pytest.raises(ValueError, match=r"y2 must be in \[0, 4\), got values from 3 to 4"):
        segment_curves(softmax_regression(), x, y, x, y + 3)
    with pytest.raises(TypeError, match="y1 must be an integer tensor"):
        segment_curves(clf, x, y.float(), x, y)
    with pytest.raises(ValueError, match="kind must be one of"):
        random_pairs(x, y, pairs=3, kind="equal")
    with pytest.raises(ValueError, match="pairs must be a whole number"):
        random_pairs(x, y, pairs=0)
    with pytest.raises(ValueError, match="no pairs of kind 'same' in 2 examples of 2 classes"):
        random_pairs(x[1:3], y[1:3], pairs=3, kind="same")
    with pytest.raises(ValueError, match="no pairs of kind 'different'"):
        random_pairs(x[:2], y[:2], pairs=3, kind="different")
    with pytest.raises(ValueError, match="one class per example"):
        random_pairs(x, y[:2], pairs=3)


# The figure


@pytest.fixture
def _no_windows() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("_no_windows")
def test_the_figure_draws_both_curves_with_their_bands() -> None:
    x1, y1, x2, y2 = pairs_of_images(30)
    curves = segment_curves(bg.Classifier(balanced_net()), x1, y1, x2, y2, points=4)
    parts = [curves.select(curves.same), curves.select(~curves.same), curves]
    figure = segments(parts)
    for axes, name in zip(figure.axes, ("miss", "gradient"), strict=True):
        assert len(axes.get_lines()) == len(axes.collections) == 3
        for line, band, part in zip(axes.get_lines(), axes.collections, parts, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), part.lam)
            np.testing.assert_array_equal(line.get_ydata(), getattr(part, name))
            corners = np.asarray(band.get_paths()[0].vertices)
            for point in range(4):
                heights = corners[np.isclose(corners[:, 0], float(part.lam[point])), 1]
                assert heights.min() == pytest.approx(float(getattr(part, f"{name}_low")[point]))
                assert heights.max() == pytest.approx(float(getattr(part, f"{name}_high")[point]))
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["pairs of one class", "pairs of two classes", "pairs of any classes"]
    assert "n = 10 to 30 pairs" in figure.axes[0].get_title()
    assert figure.axes[1].get_title() == "n = 10 to 30 pairs; bands: 88 to 95 %"
    named = segments([parts[0], parts[0]], names=["plain", "mixup"])
    assert [text.get_text() for text in named.legends[0].get_texts()] == ["plain", "mixup"]
    assert named.legends[0].get_title().get_text() == "pairs of one class"


def test_figures_that_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="curves must have at least one entry"):
        segments([])
    with pytest.raises(TypeError, match="curves must be SegmentCurves results"):
        segments(["curve"])  # type: ignore[list-item]
