"""Agreement over random planes, against a plain loop over the same planes."""

import copy
import math

import numpy as np
import pytest
import torch
from oracles import Linear, SmallNet, plain_map
from relatives import relatives
from skimage.measure import label as skimage_label
from torch import nn

import boundarygeo as bg
from boundarygeo.transfer.reproducibility import random_triplets, reproducibility

X = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(2))
MODELS = relatives(3, X)
Y = MODELS["a"].predict(X)


@pytest.mark.parametrize(("clip", "side"), [(False, 11), (True, 11), (False, 10)])
def test_the_score_is_that_of_a_plain_loop(clip: bool, side: int) -> None:
    result = reproducibility(MODELS, X, Y, planes=4, resolution=side, clip=clip, method="dense", seed=3)
    corners = [X[column] for column in result.triplets.T]
    planes = bg.planes_through(*corners)
    axis = torch.linspace(-1, 1, side)
    maps = {name: plain_map(clf.module, planes, axis, (0, 1) if clip else None) for name, clf in MODELS.items()}
    # dbViz's window, from the images: x1 + s (x2 - x1) + t n, s and t a tenth beyond the triangle's.
    window = torch.zeros(4, side, side, dtype=torch.bool)
    for plane, (one, two, three) in enumerate(zip(*(c.double().flatten(1) for c in corners), strict=True)):
        across = two - one
        width = across.norm()
        up = (three - one) - ((three - one) @ across) / width**2 * across
        u, v = across / width, up / up.norm()
        seen = torch.stack([one - one, two - one, three - one]) @ torch.stack([u, v], 1)
        low, high = seen.amin(0), seen.amax(0)
        space = (high - low) / 10
        for row in range(side):
            for col in range(side):
                point = planes.origin[plane].double() + axis[col] * planes.u[plane] + axis[row] * planes.v[plane]
                at = (point.flatten() - one) @ torch.stack([u, v], 1)
                window[plane, row, col] = bool(((at > low - space - 1e-5) & (at < high + space + 1e-5)).all())
    assert result.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    scores = []
    for pair, (i, j) in enumerate([("a", "b"), ("a", "c"), ("b", "c")]):
        equal = maps[i] == maps[j]
        torch.testing.assert_close(result.agreement[pair], equal.double().mean((1, 2)))
        inside = torch.stack([e[w].double().mean() for e, w in zip(equal, window, strict=True)])
        torch.testing.assert_close(result.window_agreement[pair], inside)
        assert result.estimate(j, i).value == pytest.approx(inside.mean().item())
        scores.append(inside.mean().item())
        for label in range(5):
            both, either = (
                ((maps[i] == label) & (maps[j] == label)).sum(),
                ((maps[i] == label) | (maps[j] == label)).sum(),
            )
            expected = float(both / either) if either else math.nan
            assert result.iou[pair, label].item() == pytest.approx(expected, nan_ok=True)
    assert 0 < np.mean(scores) < 1
    for model, labels_of_model in enumerate(maps.values()):
        for plane in range(4):
            rows, cols = (window[plane].any(dim).sum() for dim in (1, 0))
            inside = labels_of_model[plane][window[plane]].reshape(rows, cols).numpy()
            count = skimage_label(inside, connectivity=2, background=-1).max()
            assert int(result.fragments[model, plane]) == count
    score = result.score
    assert score.value == pytest.approx(np.mean(scores))
    assert score.n == 4
    assert score.low < score.value < score.high


def test_adaptive_maps_give_nearly_the_same_score() -> None:
    adaptive, dense = (reproducibility(MODELS, X, Y, planes=6, method=method) for method in ("adaptive", "dense"))
    assert adaptive.evaluated.mean() < 0.7
    assert bool((dense.evaluated == 1).all())
    assert adaptive.score.value == pytest.approx(dense.score.value, abs=0.01)
    assert adaptive.resolution == 50
    again = reproducibility(MODELS, X, Y, planes=6, coarse=3)  # that of single maps: a sixteenth of the width
    assert torch.equal(again.evaluated, adaptive.evaluated)
    assert adaptive.provenance.forwards < dense.provenance.forwards


def test_identical_models_agree_everywhere() -> None:
    result = reproducibility(
        [MODELS["a"], bg.Classifier(copy.deepcopy(MODELS["a"].module))], X, Y, planes=3, resolution=21
    )
    assert result.score.value == result.agreement.mean() == 1
    assert bool((result.iou[~result.iou.isnan()] == 1).all())
    assert torch.equal(result.fragments[0], result.fragments[1])
    assert result.fragmentation(0).value >= 1
    assert result.names == ("0", "1")


def test_half_planes_by_hand() -> None:
    # Classes by the first and by the second coordinate: they agree on half of the plane of the two coordinates.
    first, second = (bg.Classifier(Linear(torch.eye(2)[i], 0.5)) for i in range(2))
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    y = torch.tensor([0, 0, 1, 0])
    result = reproducibility({"right": first, "up": second}, x, y, planes=20, resolution=101)
    # Where the first two corners are on one side, the window is the square, and so is dbViz's: they agree on half.
    first, second, _ = (x[column] for column in result.triplets.T)
    side = (first - second).norm(dim=1) < 1.1
    assert side.sum() > 10
    for agreement in (result.agreement, result.window_agreement):
        torch.testing.assert_close(agreement[0, side], torch.full_like(agreement[0, side], 0.5), atol=0.01, rtol=0)
    assert result.fragmentation("up").value == 2


def test_triplets_are_decided_by_seed_and_number() -> None:
    triplets = random_triplets(5, 200, seed=1)
    assert torch.equal(random_triplets(5, 20, seed=1), triplets[:20])
    assert not torch.equal(random_triplets(5, 200, seed=2), triplets)
    assert all(len(set(row)) == 3 for row in triplets.tolist())
    assert np.bincount(triplets.flatten(), minlength=5).min() > 80


def test_planes_that_do_not_exist_are_marked() -> None:
    right = int((torch.stack([clf.predict(X) for clf in MODELS.values()]) == Y).all(0).nonzero()[0, 0])
    some = torch.tensor([right, right, (right + 1) % 30, (right + 2) % 30])  # an image twice
    result = reproducibility(MODELS, X[some], Y[some], planes=12, resolution=11)
    twice = ((result.triplets == 0).any(1)) & ((result.triplets == 1).any(1))
    assert 0 < twice.sum() < 12
    assert torch.equal(result.valid, ~twice)
    assert torch.equal(result.agreement.isnan().any(0), twice)
    assert torch.equal(result.window_agreement.isnan().any(0), twice)
    assert result.score.n == int((~twice).sum())
    pixels = int(result.valid.sum()) * 11**2
    assert (result.intersection + result.union).sum(1).tolist() == [2 * pixels] * 3


def test_more_planes_extend_the_same_sequence_and_triplets_are_named_by_number() -> None:
    result = reproducibility(MODELS, X, Y, planes=2, resolution=11, index=range(5, 35))
    assert torch.equal(result.triplets, 5 + random_triplets(30, 2))
    again = reproducibility(MODELS, X, Y, planes=3, resolution=11)
    assert torch.equal(again.agreement[:, :2], result.agreement)


RIGHT = (torch.stack([clf.predict(X) for clf in MODELS.values()]) == Y).all(0).nonzero()[:1, 0]
FOUR = bg.Classifier(nn.Sequential(SmallNet(), nn.Linear(5, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": 0}, "planes must be a whole number"),
        ({"resolution": 4}, "resolution must be a whole number"),
        ({"coarse": 0}, "coarse must be a whole number"),
        ({"method": "fast"}, "method must be one of"),
        ({"classifiers": [MODELS["a"]]}, "at least two classifiers, got 1"),
        ({"classifiers": [MODELS["a"], FOUR], "y": Y.clamp_max(3)}, "same number of classes"),
        ({"x": X[RIGHT], "y": Y[RIGHT]}, "at least three examples, got 1"),
        ({"x": X[RIGHT.repeat(3)], "y": Y[RIGHT.repeat(3)]}, "not collinear"),
    ],
)
def test_bad_input_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reproducibility(**({"classifiers": MODELS, "x": X, "y": Y, "planes": 2} | change))


def test_a_model_is_no_pair_with_itself() -> None:
    with pytest.raises(ValueError, match="a and b must be different models, got 'a' twice"):
        reproducibility(MODELS, X, Y, planes=1, resolution=5).estimate("a", 0)
