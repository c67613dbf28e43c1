"""What predicts transfer: linear classifiers whose gradients, losses and distances are known."""

import math

import pytest
import torch
from oracles import Linear, Sphere
from torch import Tensor

import boundarygeo as bg
from boundarygeo.results.statistics import rank_correlation, rank_correlation_of_pairs
from boundarygeo.transfer.matrix import TransferMatrix, transfer_matrix
from boundarygeo.transfer.predictors import PREDICTORS, TransferPredictors, transfer_predictors

ANGLES = (0.0, 20.0, 50.0, 110.0)
SLOPES = (1.0, 3.0, 0.5, 2.0)
QUIET = {"progress": False}


def fan() -> dict[str, bg.Classifier]:
    """Lines through the origin in several directions, of several slopes."""
    several = {}
    for name, degrees, slope in zip("abcd", ANGLES, SLOPES, strict=True):
        normal = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        several[name] = bg.Classifier(Linear(slope * normal, 0.0), bounds=(-10, 10), device="cpu")
    return several


def points(count: int = 30) -> tuple[Tensor, Tensor]:
    """Where all lines agree that it is class 1: between -20° and 90°."""
    angle, radius = torch.linspace(22, 88, count).deg2rad(), torch.linspace(0.5, 2.0, count)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), torch.ones(count).long()


def measured(**settings) -> tuple[TransferMatrix, TransferPredictors]:
    x, y = points()
    matrix = transfer_matrix(fan(), x, y, attack="fgsm", eps=0.6, norm="l2", **QUIET)
    return matrix, transfer_predictors(fan(), x, y, matrix, **({"steps": 12} | settings), **QUIET)


def test_gradients_and_distances_of_lines() -> None:
    _, result = measured(draws=2)
    x, _ = points()
    angle = torch.tensor(ANGLES, dtype=torch.float64).deg2rad()
    torch.testing.assert_close(result.gradient_cosine, (angle[:, None] - angle).cos(), rtol=0, atol=1e-6)
    normals = torch.stack([angle.cos(), angle.sin()])
    height = x.double() @ normals  # [example, classifier]
    slope = torch.tensor(SLOPES, dtype=torch.float64)
    torch.testing.assert_close(result.gradient_norm, (slope * (-slope * height).sigmoid()).mean(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(result.boundary_distance, height.quantile(0.5, 0), rtol=5e-3, atol=0)
    assert result.n == 30
    assert result.without_gradient.tolist() == [0] * 4


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_variability_of_a_nearly_linear_loss(norm: str) -> None:
    # In a small ball the variance of J is ‖∇J‖² times that of a coordinate: r² / (d + 2) in L2, r² / 3 in L∞.
    x, y = points(150)
    matrix = transfer_matrix(fan(), x, y, attack="fgsm", eps=0.01, norm=norm, **QUIET)
    result = transfer_predictors(fan(), x, y, matrix, draws=40, steps=4, **QUIET)
    slope = torch.tensor(SLOPES, dtype=torch.float64)
    angle = torch.tensor(ANGLES, dtype=torch.float64).deg2rad()
    height = x.double() @ torch.stack([angle.cos(), angle.sin()])
    expected = (slope * (-slope * height).sigmoid()).square().mean(0) * 0.01**2 / (4 if norm == "l2" else 3)
    torch.testing.assert_close(result.loss_variability, expected, rtol=0.05, atol=0)
    assert (result.eps, result.norm, result.draws) == (0.01, norm, 40)


def test_values_belong_to_their_pairs() -> None:
    matrix, result = measured(draws=2, dimensions={"d": 4, "c": 3, "b": 2, "a": 1})
    assert result.dimension is not None
    assert result.dimension.tolist() == [1, 2, 3, 4]
    assert len(result.pairs) == 12
    for number, (source, target) in enumerate(result.pairs):
        i, j = "abcd".index(source), "abcd".index(target)
        assert result.values("rate")[number] == matrix.rate()[i, j]
        assert result.values("gradient_cosine")[number] == result.gradient_cosine[i, j]
        assert result.values("target_gradient_norm")[number] == result.gradient_norm[j]
        assert result.values("source_loss_variability")[number] == result.loss_variability[i]
        assert result.values("target_boundary_distance")[number] == result.boundary_distance[j]
        assert result.values("source_dimension")[number] == i + 1
        assert result.values("target_dimension")[number] == j + 1


def test_correlations_are_over_ordered_pairs() -> None:
    matrix, result = measured(draws=2, dimensions=[1, 2, 3, 4])
    assert matrix.rate().unique().numel() > 4
    correlations = result.correlations()
    assert tuple(correlations) == PREDICTORS
    off = ~torch.eye(4, dtype=torch.bool)
    cosine = correlations["gradient_cosine"]
    assert cosine == rank_correlation_of_pairs(result.gradient_cosine.numpy(), matrix.rate().numpy())
    apart = rank_correlation(result.gradient_cosine[off].numpy(), matrix.rate()[off].numpy())
    assert cosine.value == apart.value > 0.6
    assert cosine.n == 12
    assert cosine.low < apart.low  # twelve pairs of four models
    norm = correlations["target_gradient_norm"]
    across = result.gradient_norm.expand(4, 4)[off].numpy()
    assert norm.value == rank_correlation(across, matrix.rate()[off].numpy()).value
    _, fewer = measured(draws=2, over="fooled")
    assert tuple(fewer.correlations()) == PREDICTORS[:4]
    assert torch.equal(fewer.rate, matrix.rate("fooled"))


def test_gradients_in_small_parts_are_the_same(monkeypatch) -> None:
    _, whole = measured(draws=2)
    monkeypatch.setattr("boundarygeo.transfer.predictors._HELD", 4 * 2 * 7)
    _, parts = measured(draws=2)
    torch.testing.assert_close(parts.gradient_cosine, whole.gradient_cosine, rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.gradient_norm, whole.gradient_norm, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_a_model_without_gradient_has_no_cosine() -> None:
    several = {**fan(), "flat": bg.Classifier(Linear(torch.zeros(2), -0.1), bounds=(-10, 10))}
    x, y = points()
    matrix = transfer_matrix(several, x, y, attack="fgsm", eps=0.6, norm="l2", **QUIET)
    result = transfer_predictors(several, x, y, matrix, draws=2, steps=4, **QUIET)
    assert result.without_gradient.tolist() == [0, 0, 0, 0, 30]
    assert result.gradient_cosine[4].isnan().all()
    assert math.isinf(result.boundary_distance[4])
    assert result.loss_variability[4] == 0
    assert result.correlation("gradient_cosine").n == 12
    assert result.correlation("target_boundary_distance").n == 20


def test_a_mean_of_cosines() -> None:
    # The gradients of a sphere point away from its centre: at right angles to a line's on one of two points.
    several = [
        bg.Classifier(Linear(torch.tensor([1.0, 0.0]), -5.0), bounds=(-9, 9)),
        bg.Classifier(Sphere(torch.zeros(2), 0.5), bounds=(-9, 9)),
    ]
    x, y = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.ones(2).long()
    matrix = transfer_matrix(several, x, y, attack="fgsm", eps=0.1, **QUIET)
    result = transfer_predictors(several, x, y, matrix, draws=2, steps=4, **QUIET)
    assert float(result.gradient_cosine[0, 1]) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"matrix": 3}, TypeError, "matrix must be a TransferMatrix, got int"),
        ({"over": "some"}, ValueError, "over must be one of"),
        ({"draws": 1}, ValueError, "draws must be a whole number, at least 2, got 1"),
        ({"steps": 1}, ValueError, "steps must be a whole number, at least 4, got 1"),
        ({"eps": -1.0}, ValueError, "eps must be a finite number >= 0"),
        ({"dimensions": [1, 2]}, ValueError, "dimensions must be 4 numbers"),
        ({"dimensions": {"a": 1}}, ValueError, "dimensions must have one number for each of"),
        ({"classifiers": list(fan().values())}, ValueError, r"must be those of the matrix, \['a', 'b', 'c', 'd'\]"),
        ({"y": 1 - points()[1], "x": -points()[0]}, ValueError, "must be the examples of the matrix"),
        ({"x": torch.cat([points()[0][:-1], -points()[0][:1]])}, ValueError, "got other predictions"),
    ],
)
def test_bad_input_is_refused(settings: dict, error: type, match: str) -> None:
    x, y = points()
    matrix = transfer_matrix(fan(), x, y, attack="fgsm", eps=0.6, norm="l2", **QUIET)
    given = {"classifiers": fan(), "x": x, "y": y, "matrix": matrix} | settings
    with pytest.raises(error, match=match):
        transfer_predictors(**given, **QUIET)


def test_an_eps_is_needed_where_the_matrix_has_no_eps() -> None:
    x, y = points()
    matrix = transfer_matrix(fan(), x, y, attack="minimal_norm", norm="l2", steps=4, **QUIET)
    with pytest.raises(ValueError, match="pass eps=: the matrix has none to use instead"):
        transfer_predictors(fan(), x, y, matrix)
    result = transfer_predictors(fan(), x, y, matrix, eps=0.1, draws=2, steps=4, **QUIET)
    with pytest.raises(ValueError, match="predictor must be one of"):
        result.values("luck")
    with pytest.raises(ValueError, match="pass dimensions="):
        result.correlation("source_dimension")
