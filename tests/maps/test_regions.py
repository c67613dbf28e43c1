"""Regions against shapes whose areas, components, distances and angles are known."""

import dataclasses

import numpy as np
import pytest
import torch
from skimage.measure import label as skimage_label
from synthetic_maps import EXTENT, make_maps

import boundarygeo.results as results
from boundarygeo.maps.regions import RegionSummary, agreement, fragmentation, image_window, region_summary


def grid(resolution=129, extent=EXTENT):
    axis = np.linspace(-extent, extent, resolution)
    return np.meshgrid(axis, axis)


def half_planes(angles, offset, resolution=129):
    """Label 1 beyond the line at a distance `offset` from the centre whose normal has the given angle."""
    u, v = grid(resolution)
    normals = np.radians(angles)
    return np.stack([(u * np.cos(t) + v * np.sin(t) > offset).astype(int) for t in normals])


PIXEL = 2 * EXTENT / 128


@pytest.mark.parametrize("offset", [0.013, 0.051])
def test_the_line_of_a_half_plane_has_its_angle_and_distance(offset) -> None:
    normals = np.arange(0, 360, 15)
    summary = region_summary(make_maps(half_planes(normals, offset)))
    difference = (summary.boundary_angle.numpy() - (normals + 90) + 90) % 180 - 90
    assert np.abs(difference).max() < 0.5
    # An oblique line through square pixels: no midpoint is farther from it than half a pixel.
    assert summary.boundary_rms.max() < 0.5 * PIXEL
    assert summary.boundary_straightness.min() > 0.999
    nearest = summary.nearest_distance.numpy()
    assert (nearest > offset).all()
    assert (nearest < offset + 1.5 * PIXEL).all()
    for half, toward in enumerate((0, 180, 90, 270)):
        cosine = np.cos(np.radians(normals - toward))
        expected = np.where(cosine > 1e-9, offset / np.maximum(cosine, 1e-9), np.inf)
        inside = expected < EXTENT - PIXEL
        found = summary.found[:, half].numpy()
        assert found[inside].all()
        assert not found[expected > EXTENT].any()
        distance = summary.axis_distance[:, half].numpy()
        assert np.isinf(distance[~found]).all()
        np.testing.assert_allclose(distance[inside], expected[inside], atol=0.51 * PIXEL)


def test_axis_parallel_lines_are_exact() -> None:
    summary = region_summary(make_maps(half_planes([0, 90], 0.0501)))
    torch.testing.assert_close(summary.boundary_angle, torch.tensor([90.0, 0.0], dtype=torch.float64))
    assert (summary.boundary_straightness == 1).all()
    assert summary.boundary_rms.max() < 1e-12
    right, left = 1, 0
    assert region_summary(make_maps(half_planes([180], 0.02))).found[0].tolist() == [
        left,
        right,
        left,
        left,
    ]


def test_true_share_counts_each_half_without_its_centre_line() -> None:
    maps = make_maps(
        [
            [
                [0, 0, 1, 1, 1],
                [0, 0, 0, 1, 1],
                [0, 0, 0, 1, 1],
                [0, 0, 0, 0, 1],
                [0, 2, 2, 0, 1],
            ]
        ]
    )
    summary = region_summary(maps)
    expected = [[2 / 10, 9 / 10, 6 / 10, 5 / 10]]  # right, left, top (rows 3 and 4), bottom (rows 0 and 1)
    np.testing.assert_allclose(summary.true_share, expected)
    assert summary.halves == ("right", "left", "top", "bottom")
    np.testing.assert_allclose(summary.class_share, [[14 / 25, 9 / 25, 2 / 25]])
    assert summary.classes.tolist() == [3]
    assert summary.class_components.tolist() == [[1, 1, 1]]
    step = EXTENT / 2
    np.testing.assert_allclose(summary.axis_distance, [[0.5 * step, np.inf, 1.5 * step, 1.5 * step]], rtol=1e-12)
    assert summary.found.tolist() == [[True, False, True, True]]
    np.testing.assert_allclose(summary.nearest_distance, [step])


def test_the_reference_is_the_true_class_and_else_the_centre_class() -> None:
    labels = half_planes([0], 0.02)
    misclassified = region_summary(make_maps(labels, true_labels=[1]))
    unlabelled = region_summary(make_maps(labels, true_labels=None))
    assert misclassified.true_share[0, 1] == 0
    assert unlabelled.true_share[0, 1] == 1
    # Distances start from the centre's class in any case.
    torch.testing.assert_close(misclassified.axis_distance, unlabelled.axis_distance)
    absent = region_summary(make_maps(labels, true_labels=[5]))
    assert torch.isnan(absent.boundary_angle).all()
    assert (absent.true_share == 0).all()


def test_a_circle_is_as_far_everywhere_and_not_straight() -> None:
    u, v = grid()
    radius = 0.06
    summary = region_summary(make_maps([(np.hypot(u, v) > radius).astype(int)]))
    np.testing.assert_allclose(summary.axis_distance, radius, atol=0.51 * PIXEL)
    np.testing.assert_allclose(summary.nearest_distance, radius, atol=PIXEL)
    assert summary.boundary_straightness.item() < 1e-6
    # Points on a circle have variance r²/2 in any direction.
    np.testing.assert_allclose(summary.boundary_rms, radius / np.sqrt(2), rtol=0.01)
    np.testing.assert_allclose(summary.class_share[0, 0], np.pi * radius**2 / (2 * EXTENT) ** 2, rtol=0.02)


def test_straightness_and_rms_equal_a_singular_value_decomposition() -> None:
    u, v = grid(41)
    labels = (v > 8 * u**2 - 0.03).astype(int)
    summary = region_summary(make_maps([labels]))
    axis = np.linspace(-EXTENT, EXTENT, 41)
    points = [
        ((axis[c] + axis[c + dc]) / 2, (axis[r] + axis[r + dr]) / 2)
        for dr, dc in ((0, 1), (1, 0))
        for r in range(41 - dr)
        for c in range(41 - dc)
        if labels[r, c] != labels[r + dr, c + dc]
    ]
    centred = np.array(points) - np.mean(points, axis=0)
    _, singular, directions = np.linalg.svd(centred)
    np.testing.assert_allclose(summary.boundary_rms, singular[1] / np.sqrt(len(points)), rtol=1e-9)
    np.testing.assert_allclose(summary.boundary_straightness, 1 - (singular[1] / singular[0]) ** 2, rtol=1e-9)
    angle = np.degrees(np.arctan2(directions[0, 1], directions[0, 0])) % 180
    assert abs((summary.boundary_angle.item() - angle + 90) % 180 - 90) < 1e-6


def test_a_map_of_one_class_has_no_boundary() -> None:
    summary = region_summary(make_maps(np.full((1, 9, 9), 3)))
    assert summary.classes.tolist() == summary.components.tolist() == [1]
    assert torch.isinf(summary.nearest_distance).all()
    assert torch.isinf(summary.axis_distance).all()
    assert not summary.found.any()
    for value in (summary.boundary_angle, summary.boundary_straightness, summary.boundary_rms):
        assert torch.isnan(value).all()


def test_components_are_8_connected() -> None:
    rows, cols = np.indices((10, 10))
    diagonal = (rows + cols) % 2  # neighbours across corners join: one component per colour
    isolated = np.where((rows % 2 == 0) & (cols % 2 == 0), 1, 0)  # 25 single pixels on a connected ground
    stripes = cols % 2
    maps = make_maps([diagonal, isolated, stripes])
    assert fragmentation(maps).tolist() == [2, 26, 10]
    summary = region_summary(maps)
    assert summary.components.tolist() == [2, 26, 10]
    assert summary.class_components.tolist() == [[1, 1], [1, 25], [5, 5]]


def test_components_equal_those_of_scikit_image() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 7, size=(6, 33, 33))
    # scikit-image joins equal neighbouring values; no pixel is background.
    expected = [skimage_label(one, connectivity=2, background=-1).max() for one in labels]
    assert fragmentation(make_maps(labels)).tolist() == expected


def test_components_on_planes_through_images_are_those_in_their_window() -> None:
    # Images that are 5/3 apart and 1 high: with the margin the window is all columns, and rows from -0.6 to 0.6.
    side = 11
    labels = np.zeros((1, side, side), dtype=int)
    labels[0, 0, 3] = labels[0, 10, 4] = 1  # outside: no region
    labels[0, 3:6, 5] = 2
    labels[0, 1:, 8] = 3  # cuts the window in two, but not the map
    axis = torch.linspace(-1, 1, side, dtype=torch.float64)
    corners = torch.tensor([[-5 / 6, -0.5], [5 / 6, -0.5], [0.2, 0.5]], dtype=torch.float64)
    through = make_maps(labels, kind="through", anchors=corners[None], u=axis, v=axis, true_labels=None)
    window = image_window(through)
    assert window[0].any(1).nonzero()[:, 0].tolist() == list(range(2, 9))
    assert window[0].any(0).all()
    assert fragmentation(through).tolist() == [4]
    whole = region_summary(through)
    assert whole.components.tolist() == [5]
    assert whole.class_components.tolist() == [[1, 2, 1, 1]]
    assert fragmentation(dataclasses.replace(through, kind="random")).tolist() == [5]
    assert fragmentation(dataclasses.replace(through, valid=torch.tensor([False]))).tolist() == [0]


def test_invalid_planes_count_for_nothing() -> None:
    labels = np.stack([half_planes([30], 0.02, 17)[0], np.full((17, 17), -1)])
    maps = make_maps(labels, valid=[True, False], true_labels=[0, 0], center_labels=torch.tensor([0, 0]))
    summary = region_summary(maps)
    assert fragmentation(maps).tolist() == [2, 0]
    assert summary.classes.tolist() == [2, 0]
    assert not summary.found[1].any()
    for field in dataclasses.fields(summary):
        value = getattr(summary, field.name)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert torch.isnan(value[1]).all(), field.name
            assert not torch.isnan(value[0]).any(), field.name
    everything = region_summary(make_maps(np.full((2, 5, 5), -1), valid=[False, False]))
    assert everything.components.tolist() == [0, 0]
    assert torch.isnan(agreement(maps, maps)[1])


def test_an_origin_between_pixels_or_at_the_edge_is_understood() -> None:
    even = make_maps([[[0, 0, 1, 1]] * 4], extent=0.3, center_labels=torch.tensor([0]))
    summary = region_summary(even)
    # Pixels lie at ±0.1 and ±0.3: the boundary towards +u is between the origin and 0.1.
    np.testing.assert_allclose(summary.axis_distance, [[0.05, np.inf, np.inf, np.inf]])
    corner = make_maps(
        [[[0, 0, 1]] * 3],
        u=torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64),
        v=torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64),
        center_labels=torch.tensor([0]),
        true_labels=None,
    )
    summary = region_summary(corner)
    np.testing.assert_allclose(summary.true_share, [[0.5, np.nan, 2 / 3, np.nan]])
    np.testing.assert_allclose(summary.axis_distance, [[1.5, np.inf, np.inf, np.inf]])


def test_agreement_is_the_share_of_equal_labels() -> None:
    labels = half_planes([0, 90], 0.02, 17)
    changed = labels.copy()
    changed[0, :, 0] = 4
    share = agreement(make_maps(labels), make_maps(changed, true_labels=[0, 0]))
    torch.testing.assert_close(share, torch.tensor([16 / 17, 1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_maps(np.zeros((2, 7, 7))), r"same shape, got \[2, 5, 5\] and \[2, 7, 7\]"),
        (make_maps(np.zeros((2, 5, 5)), index=torch.tensor([0, 9])), "got index 1 and 9 at position 1"),
        (make_maps(np.zeros((2, 5, 5)), extent=0.2), "same u, got -0.1 and -0.2 at position 0"),
        (make_maps(np.zeros((2, 5, 5)), axis_names=("random", "random")), "same axes, got"),
        (
            make_maps(np.zeros((2, 5, 5)), axis_length=torch.ones(2).double()),
            "same axis_length, got 28 and 1",
        ),
    ],
)
def test_agreement_refuses_other_planes(other, message) -> None:
    with pytest.raises(ValueError, match=message):
        agreement(make_maps(np.zeros((2, 5, 5))), other)


@pytest.mark.parametrize("function", [region_summary, fragmentation, lambda x: agreement(x, x)])
def test_something_that_is_not_maps_is_refused(function) -> None:
    with pytest.raises(TypeError, match="maps must be a BoundaryMaps, got ndarray"):
        function(np.zeros((2, 5, 5)))


def test_the_summary_is_a_result_that_saves_and_loads(tmp_path) -> None:
    summary = region_summary(make_maps(half_planes([20, 70], 0.03, 17)))
    assert summary.provenance.command == "region_summary(maps=boundary_maps())"
    again = results.load(summary.save(tmp_path / "summary.zarr"))
    assert isinstance(again, RegionSummary)
    torch.testing.assert_close(again.axis_distance, summary.axis_distance)
    assert again.halves == summary.halves
