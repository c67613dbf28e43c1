"""Problems in two dimensions, and maps of their whole input space."""

import math
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from oracles import Linear

import boundarygeo as bg
from boundarygeo.plots.confidence import confidence
from boundarygeo.zoo import toy


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


def line_map(scale: float, resolution: int = 21, keep: tuple[str, ...] = ("probability",)) -> bg.BoundaryMaps:
    """The map of a linear classifier of [0, 1]²: logits ±scale (x₁ + 2 x₂ - 1.4) / 2."""
    clf = bg.Classifier(Linear(scale * torch.tensor([1.0, 2.0]), 1.4 * scale))
    planes = bg.planes_through(*toy.corners(), margin=0.0)
    return bg.boundary_maps(clf, planes, resolution=resolution, method="dense", precision="float32", keep=keep)


def test_two_moons_are_half_circles() -> None:
    split = toy.two_moons(200, noise=0.0)
    assert split.x.shape == (200, 1, 1, 2)
    assert split.x.dtype == torch.float32
    assert split.y.bincount().tolist() == [100, 100]
    first, second = (split.x[split.y == label].flatten(1).double() for label in (0, 1))
    # Circles of one radius about centres a radius and a half of one apart.
    for points, centre, up in ((first, (0.3625, 0.43125), 1), (second, (0.6375, 0.56875), -1)):
        radius = (points - torch.tensor(centre, dtype=torch.float64)).norm(dim=1)
        torch.testing.assert_close(radius, torch.full_like(radius, 0.275), rtol=1e-5, atol=0)
        assert (up * (points[:, 1] - centre[1]) >= -1e-6).all()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_spirals_are_one_arm_turned(classes: int) -> None:
    split = toy.spirals(300, classes=classes, turns=1.25, noise=0.0)
    assert split.y.bincount().tolist() == [300 // classes] * classes
    offset = split.x.flatten(1) - 0.5
    radius, angle = offset.norm(dim=1), torch.atan2(offset[:, 1], offset[:, 0])
    turns = 1.25 * radius / 0.45 + split.y / classes - angle / (2 * math.pi)
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=1e-4)
    assert float(radius.max()) <= 0.45 + 1e-6


@pytest.mark.parametrize("make", [toy.two_moons, toy.spirals])
def test_points_are_decided_by_the_seed_and_inside_the_bounds(make) -> None:
    split = make(300, noise=0.5, seed=1)
    assert split.x.amin() >= 0
    assert split.x.amax() <= 1
    assert torch.equal(make(300, noise=0.5, seed=1).x, split.x)
    assert not torch.equal(make(300, noise=0.5, seed=2).x, split.x)
    residue = (make(300, noise=0.01, seed=1).x - make(300, noise=0.0, seed=1).x).std()
    assert float(residue) == pytest.approx(0.01, rel=0.1)


def test_the_map_through_the_corners_is_the_input_space() -> None:
    maps = line_map(8.0)
    axis = torch.linspace(0, 1, 21, dtype=torch.float64)
    x1, x2 = torch.meshgrid(axis, axis, indexing="xy")
    score = x1 + 2 * x2 - 1.4
    far = score.abs() > 1e-6
    assert torch.equal(maps.labels[0][far], (score > 0).short()[far])
    expected = (8 * score).sigmoid()
    torch.testing.assert_close(
        maps.probability[0].double(), torch.maximum(expected, 1 - expected), rtol=1e-4, atol=1e-5
    )


def test_the_network_learns_the_moons() -> None:
    split = toy.two_moons(200)
    module = toy.toy_mlp(width=16)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module((split.x - 0.5) / 0.25), split.y).backward()
        optimizer.step()
    clf = bg.Classifier(module, mean=0.5, std=0.25)
    assert (clf.predict(toy.two_moons(300, seed=1).x) == toy.two_moons(300, seed=1).y).float().mean() > 0.97
    first, second = toy.toy_mlp(seed=3), toy.toy_mlp(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert toy.toy_mlp(4)(torch.rand(2, 1, 1, 2)).shape == (2, 4)


def test_settings_that_make_no_sense() -> None:
    for make, settings, message in (
        (toy.two_moons, {"count": 1}, "count must be a whole number, at least 2"),
        (toy.two_moons, {"noise": -1.0}, "noise must be a number >= 0"),
        (toy.spirals, {"classes": 1}, "classes must be a whole number"),
        (toy.spirals, {"count": 3, "classes": 5}, "count must be a whole number, at least 5"),
        (toy.spirals, {"turns": 0.0}, "turns must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**settings)


# The figure


def test_colours_fade_to_white_at_the_boundary() -> None:
    maps = line_map(8.0)
    split = toy.two_moons(20)
    axes = confidence(maps, split.x, split.y, bounds=(0, 1))
    picture = axes.get_images()[0]
    drawn = np.asarray(picture.get_array())
    np.testing.assert_allclose(picture.get_extent(), [-0.025, 1.025, -0.025, 1.025], atol=1e-6)
    for row, col in ((0, 0), (20, 20), (10, 10), (10, 11)):
        color = bg.plots.class_colors(2)[int(maps.labels[0, row, col])]
        strength = 0.85 * (2 * float(maps.probability[0, row, col]) - 1)
        np.testing.assert_allclose(drawn[row, col], 1 - strength * (1 - color), atol=1e-5)
    near = (maps.probability[0] < 0.7).numpy()
    assert drawn[near].min() > 0.6 > drawn[~near].min()
    points = axes.collections[-1]
    np.testing.assert_allclose(points.get_offsets(), split.x.flatten(1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x₁", "x₂")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 0", "class 1"]
    assert axes.get_legend().get_title().get_text() == "white: probability 0.5\nfull colour: 1"


def test_the_line_is_the_boundary() -> None:
    maps = line_map(8.0, 101)
    for bounds, scale in (((0.0, 1.0), 1), (None, 2)):  # by default the map's own coordinates, in half-widths
        (contour,) = confidence(maps, bounds=bounds).collections
        corners = contour.get_paths()[0].vertices
        assert len(corners) > 50
        offset = 1.4 if bounds else -0.2
        assert np.abs(corners @ [1, 2] - offset).max() < 0.015 * scale
    axes = confidence(maps)
    assert axes.get_xlabel() == f"{maps.axis_names[0]}\n{maps.unit}"


def test_maps_that_cannot_be_drawn() -> None:
    maps = line_map(1.0)
    with pytest.raises(ValueError, match="probability at every pixel"):
        confidence(line_map(1.0, keep=()))
    with pytest.raises(ValueError, match="cell must be between 0 and 0, got 1"):
        confidence(maps, cell=1)
    with pytest.raises(ValueError, match="x and y must be points"):
        confidence(maps, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="x and y must be points"):
        confidence(maps, torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="bounds must be"):
        confidence(maps, bounds=(1, 0))
    with pytest.raises(TypeError, match="maps must be a BoundaryMaps"):
        confidence("maps")  # type: ignore[arg-type]
    clf = bg.Classifier(Linear(torch.ones(2), 1.0))
    planes = bg.random_planes(torch.full((1, 2), 0.5), torch.tensor([0]))
    labelled = bg.boundary_maps(clf, planes, extent=0.5, resolution=5, method="dense", keep=["probability"])
    with pytest.raises(ValueError, match="maps must be of planes without true classes"):
        confidence(labelled)
