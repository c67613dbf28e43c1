"""Straightness against closed forms and dense sums; gradient cosines against plain autograd."""

import pytest
import torch
from oracles import SmallNet, images, no_labels
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.lines.pieces.pieces import LinearPieces, linear_pieces
from boundarygeo.lines.straightness import GradientCosines, Straightness, gradient_cosines, straightness


class Curve(nn.Module):
    """Logits f(x) and -f(x) of one number."""

    def __init__(self, f) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.f(x), -self.f(x)], 1)


def along(f, extent: float | tuple[float, float]) -> LinearPieces:
    clf = bg.Classifier(Curve(f), bounds=(-10, 10), device="cpu")
    return linear_pieces(
        clf, torch.zeros(1, 1), no_labels(torch.zeros(1, 1)), direction=torch.ones(1, 1), extent=extent
    )


def real_pieces(extent: float = 0.5) -> tuple[bg.Classifier, Tensor, Tensor, LinearPieces]:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x, d = images(3), torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    return clf, x, d, linear_pieces(clf, x, no_labels(x), direction=d, extent=extent)


def test_a_linear_classifier_is_straight() -> None:
    clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), device="cpu")
    x = images(4)
    d = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = straightness(linear_pieces(clf, x, no_labels(x), direction=d, extent=0.05))
    torch.testing.assert_close(found.r_squared, torch.ones(4, 5).double(), rtol=0, atol=1e-12)
    assert found.line_deviation.max() < 1e-12
    assert found.tangent_deviation.max() < 1e-12
    assert found.count.tolist() == [1, 1, 1, 1]
    with torch.no_grad():
        slopes = d.double().flatten(1) @ clf.module[1].weight.double().T
    torch.testing.assert_close(found.line_slope, slopes, rtol=1e-9, atol=1e-12)


def test_rectifier_on_paper() -> None:
    # relu(t) on [-1, 1]: best line 1/4 + t/2, ∫(f - mean)² = 5/24, ∫(line - mean)² = 1/6; farthest, 1/4, everywhere
    # it turns. The one-sided tangents at 0 are the function itself.
    found = straightness(along(torch.relu, 1.0))
    assert found.r_squared[0, 0] == pytest.approx(0.8, abs=1e-12)
    assert found.line_slope[0].tolist() == pytest.approx([0.5, -0.5], abs=1e-12)
    assert found.line_deviation[0].tolist() == pytest.approx([0.25, 0.25], abs=1e-12)
    assert found.tangent_deviation[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.range[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


def test_tangent_on_paper() -> None:
    # |t - 1/4| on [-1, 2]: the tangent at 0 is 1/4 - t, 2 · (2 - 1/4) away at the end.
    assert straightness(along(lambda x: (x - 0.25).abs(), (-1, 2))).tangent_deviation[0, 0] == pytest.approx(3.5)
    # from the left end, and from the right one
    assert straightness(along(lambda x: (x - 0.25).abs(), (0, 1))).tangent_deviation[0, 0] == pytest.approx(1.5)
    assert straightness(along(lambda x: (x + 0.25).abs(), (-1, 0))).tangent_deviation[0, 0] == pytest.approx(1.5)


def test_a_kink_at_the_example_is_no_deviation_from_the_tangents() -> None:
    # Slopes -2 and 1 at 0, and one more kink at 1/2 on the right that adds 1.
    found = straightness(along(lambda x: x + 3 * (-x).relu() + (x - 0.5).relu(), 1.0))
    assert found.tangent_deviation[0, 0] == pytest.approx(0.5, abs=1e-12)


def test_segments_without_the_example_have_no_tangent() -> None:
    found = straightness(along(torch.relu, (0.25, 1)))
    assert found.tangent_deviation is None
    assert found.r_squared[0, 0] == pytest.approx(1.0)


def test_constant_logits_have_no_r_squared() -> None:
    clf = bg.Classifier(Curve(lambda x: 0.3 * x - 0.3 * x + 7), bounds=(-10, 10), device="cpu")
    found = straightness(
        linear_pieces(clf, torch.zeros(1, 1), no_labels(torch.zeros(1, 1)), direction=torch.ones(1, 1), extent=1)
    )
    assert found.r_squared.isnan().all()
    assert found.line_deviation.max() < 1e-12


def test_against_dense_sums() -> None:
    *_, pieces = real_pieces()
    found = straightness(pieces)
    assert len(set(pieces.patterns.tolist())) > 1  # ragged
    t = torch.linspace(-0.5, 0.5, 20_001, dtype=torch.float64)
    dense = pieces.at(t)
    centred = dense - dense.mean(1, keepdim=True)
    slope = (centred * t[:, None]).sum(1) / t.square().sum()
    residual = centred - slope[:, None] * t[:, None]
    r_squared = 1 - residual.square().sum(1) / centred.square().sum(1)
    torch.testing.assert_close(found.line_slope, slope, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.r_squared, r_squared, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.line_deviation, residual.abs().amax(1), rtol=1e-2, atol=1e-4)
    here = pieces.at(torch.tensor([-1e-7, 0.0, 1e-7]).double())
    tangent = here[:, 1:2] + ((here[:, 2] - here[:, 0]) / 2e-7)[:, None] * t[:, None]
    torch.testing.assert_close(found.tangent_deviation, (dense - tangent).abs().amax(1), rtol=1e-3, atol=1e-4)


def test_cosines_against_autograd() -> None:
    module = SmallNet()
    clf = bg.Classifier(module, mean=0.4, std=0.3, device="cpu")
    x, y = images(3), torch.tensor([0, 3, 2])
    d = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    at = [-0.2, 0.0, 0.05, 0.3]
    found = gradient_cosines(clf, x, y, direction=d, at=at)
    assert found.cosine.shape == (3, 4)
    plain = SmallNet().eval()

    def gradient(point: Tensor, label: int) -> Tensor:
        point = point.clone().requires_grad_()
        logits = plain((point[None] - 0.4) / 0.3)[0]
        others = torch.cat([logits[:label], logits[label + 1 :]])
        return torch.autograd.grad(others.max() - logits[label], point)[0].flatten()

    for i in range(3):
        start = gradient(x[i], int(y[i]))
        for j, t in enumerate(at):
            here = gradient((x[i] + t * d[i]).clamp(0, 1), int(y[i]))
            expected = torch.nn.functional.cosine_similarity(start, here, dim=0)
            assert float(found.cosine[i, j]) == pytest.approx(float(expected), abs=1e-4)
    torch.testing.assert_close(found.cosine[:, 1], torch.ones(3).double(), rtol=0, atol=1e-6)
    assert found.provenance.backwards == 3 + 12


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_a_linear_classifier_has_one_gradient_and_a_constant_one_none() -> None:
    clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), device="cpu")
    x, y = images(2), torch.tensor([0, 1])
    found = gradient_cosines(clf, x, y, direction=torch.ones_like(x), at=torch.linspace(-0.1, 0.1, 5))
    torch.testing.assert_close(found.cosine, torch.ones(2, 5).double(), rtol=0, atol=1e-6)
    with torch.no_grad():
        clf.module[1].weight.zero_()
    assert gradient_cosines(clf, x, y, direction=torch.ones_like(x), at=[0.1]).cosine.isnan().all()


def test_save_and_load(tmp_path) -> None:
    clf, x, d, pieces = real_pieces(0.05)
    saved = straightness(pieces)
    loaded = bg.load(saved.save(tmp_path / "straightness.zarr"))
    assert isinstance(loaded, Straightness)
    assert torch.equal(loaded.r_squared, saved.r_squared)
    cosines = gradient_cosines(clf, x, torch.tensor([0, 1, 2]), direction=d, at=[0.0, 0.1])
    again = bg.load(cosines.save(tmp_path / "cosines.zarr"))
    assert isinstance(again, GradientCosines)
    assert torch.equal(again.cosine, cosines.cosine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": []}, r"at must be a list of finite coordinates, got \[\]"),
        ({"at": [0.0, float("nan")]}, "at must be a list of finite coordinates"),
        ({"direction": torch.zeros(2, 6)}, "direction must not be zero"),
        ({"y": torch.tensor([0, 7])}, r"y must be in \[0, 3\)"),
    ],
)
def test_bad_arguments(change: dict, message: str) -> None:
    clf = bg.Classifier(nn.Linear(6, 3), device="cpu", num_classes=3)
    arguments = {"x": torch.rand(2, 6), "y": torch.tensor([0, 1]), "direction": torch.ones(2, 6), "at": [0.0]} | change
    x, y, direction = (arguments.pop(name) for name in ("x", "y", "direction"))
    with pytest.raises(ValueError, match=message):
        gradient_cosines(clf, x, y, direction=direction, **arguments)
