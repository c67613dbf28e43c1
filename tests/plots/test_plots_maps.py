"""Figures of boundary maps: what colour is where, what legends and captions say, and what must be refused."""

import numpy as np
import pytest
import torch
from matplotlib import colors as mpl_colors
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from skimage.color import deltaE_ciede2000, rgb2lab
from synthetic_maps import EXTENT, make_maps

from boundarygeo.plots import class_colors, map_grid, map_outlines, map_single, save_figure

WHITE = np.ones(3)


@pytest.fixture(autouse=True)
def _close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def random_maps(count=7, resolution=9, classes=5, seed=0, **changes):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, size=(count, resolution, resolution))
    return make_maps(labels, true_labels=generator.integers(0, classes, count), **changes)


def half_plane_maps(offset=0.03, count=1, **changes):
    """Class 1 where u > offset, else class 0."""
    axis = np.linspace(-EXTENT, EXTENT, 41)
    return make_maps(np.tile(axis > offset, (count, 41, 1)), **changes)


def legend_texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def legend_colors(axes):
    handles = axes.get_legend().legend_handles
    return {handle.get_label(): mpl_colors.to_hex(handle.get_facecolor()) for handle in handles[:-1]}


def all_texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def differences(first, second, vision="normal"):
    def seen(rgb):
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
        rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        return rgb2lab(rgb)

    return deltaE_ciede2000(*np.broadcast_arrays(seen(first)[:, None], seen(second)[None]))


@pytest.mark.parametrize("vision", VISION)
def test_ten_classes_can_be_told_apart_by_everyone(vision) -> None:
    colors = class_colors(10)
    between = differences(colors, colors, vision)[np.triu_indices(10, k=1)]
    assert between.min() > 15
    light = np.array([WHITE, [0.92] * 3])  # the true class, and planes that do not exist
    assert differences(colors, light, vision).min() > 15


def test_a_thousand_classes_have_different_colours_far_from_white() -> None:
    colors = class_colors(1000)
    assert len(np.unique(np.rint(colors * 255), axis=0)) == 1000
    assert differences(colors, WHITE[None]).min() > 20
    np.testing.assert_array_equal(colors[:37], class_colors(37))
    assert class_colors(0).shape == (0, 3)


def test_the_number_of_colours_is_checked() -> None:
    with pytest.raises(ValueError, match="n must be >= 0, got -1"):
        class_colors(-1)
    with pytest.raises(TypeError, match=r"n must be an integer, got 2\.5"):
        class_colors(2.5)


def test_every_pixel_of_the_mosaic_has_the_colour_of_its_class_or_white() -> None:
    maps = random_maps(count=7)
    figure = map_grid(maps, columns=3)
    (image,) = figure.axes[0].images
    mosaic = np.asarray(image.get_array())
    assert mosaic.shape == (27, 27, 3)
    colors = class_colors(5)
    for cell in range(7):
        row, column = 2 - cell // 3, cell % 3  # rows of the image count from below
        drawn = mosaic[9 * row : 9 * row + 9, 9 * column : 9 * column + 9]
        labels, true = maps.labels[cell].numpy(), int(maps.true_labels[cell])
        expected = np.where((labels == true)[..., None], WHITE, colors[labels])
        np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_the_figure_shows_right_on_the_right_and_up_above() -> None:
    # Class 1 in the upper right quarter of the only cell, without true class, example or text to hide it.
    labels = np.zeros((1, 8, 8))
    labels[0, 4:, 4:] = 1
    figure = map_grid(make_maps(labels, true_labels=None))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3] / 255  # row 0 is the top of the page
    box = figure.axes[0].get_window_extent()
    for right in (0.2, 0.8):
        for up in (0.2, 0.8):
            x, y = int(box.x0 + right * box.width), int(box.y0 + up * box.height)
            color = class_colors(2)[int(right > 0.5 and up > 0.5)]
            np.testing.assert_allclose(pixels[len(pixels) - y, x], color, atol=1 / 255)


def test_a_class_has_one_colour_in_all_figures() -> None:
    few = make_maps([[[0, 3, 0]] * 3], true_labels=[0])
    many = random_maps(classes=9)
    grid, single = map_grid(many).axes[0], map_single(few)
    assert legend_colors(grid)["class 3"] == legend_colors(single)["class 3"]
    assert legend_colors(grid)["class 3"] == mpl_colors.to_hex(class_colors(4)[3])


def test_the_legend_names_white_and_the_classes_that_appear() -> None:
    maps = make_maps([[[0, 0, 4], [0, 0, 2], [0, 0, 0]], [[4, 4, 4]] * 3], true_labels=[0, 4])
    names = ["plane", "car", "bird", "cat", "deer"]
    assert legend_texts(map_grid(maps, class_names=names).axes[0]) == [
        "white: true class",
        "bird",
        "deer",
        "example",
    ]
    assert legend_texts(map_single(maps, 1, class_names=names)) == ["white: true class, deer", "example"]
    assert map_grid(maps).axes[0].get_legend().get_title().get_text() == ""


def test_a_long_legend_keeps_the_most_frequent_classes_and_says_so() -> None:
    labels = np.zeros((1, 16, 16), dtype=int)
    rare = np.arange(1, 31)
    labels[0].flat[: len(rare)] = rare
    labels[0].flat[100:140] = np.repeat(np.arange(11, 31), 2)  # 11 to 30 appear three times, 1 to 10 once
    axes = map_grid(make_maps(labels, true_labels=[0])).axes[0]
    assert axes.get_legend().get_title().get_text() == "20 most frequent of 30 classes"
    assert legend_texts(axes)[1:-1] == [f"class {number}" for number in range(11, 31)]


def test_the_caption_says_axes_range_and_unit() -> None:
    text = "\n".join(all_texts(map_grid(random_maps(extent=16 / 255))))
    assert "x: FGSM sign direction;  y: random orthogonal, same L2 length" in text
    assert "both ±0.0627 = 16/255, in ε (L∞)" in text
    assert "±0.063 ≈ 16/255" in "\n".join(all_texts(map_grid(random_maps(extent=0.063))))
    assert "±0.1, in" in "\n".join(all_texts(map_grid(random_maps(extent=0.1))))
    shifted = random_maps(u=torch.linspace(-0.1, 1.1, 9, dtype=torch.float64))
    assert "x -0.1 to 1.1, y ±0.1" in "\n".join(all_texts(map_grid(shifted)))


def test_long_names_are_cut() -> None:
    names = ["short", "great white shark, white shark, man-eater, man-eating shark", "x" * 32]
    axes = map_single(make_maps([[[0, 1, 2]] * 3], true_labels=None), class_names=names)
    assert legend_texts(axes)[:3] == ["short", "great white shar…an-eating shark", "x" * 32]


def test_cells_are_drawn_in_the_given_order() -> None:
    maps = random_maps()
    chosen = np.asarray(map_grid(maps, cells=[5, 2]).axes[0].images[0].get_array())
    single = [np.asarray(map_single(maps, cell).images[0].get_array()) for cell in (5, 2)]
    np.testing.assert_array_equal(chosen, np.concatenate(single, axis=1))


def test_crosses_mark_the_example_in_every_cell() -> None:
    axes = map_grid(random_maps(count=4)).axes[0]
    (crosses,) = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
    assert sorted(map(tuple, crosses.get_offsets())) == [(4, 4), (4, 13), (13, 4), (13, 13)]


def test_maps_without_true_class_have_no_white_and_crosses_at_their_images() -> None:
    anchors = torch.tensor([[[-0.05, 0.0], [0.05, 0.0], [0.0, 0.1]]], dtype=torch.float64)
    maps = make_maps(np.arange(81).reshape(1, 9, 9) % 3, true_labels=None, anchors=anchors)
    axes = map_grid(maps).axes[0]
    assert np.asarray(axes.images[0].get_array()).min(axis=-1).max() < 0.9
    assert legend_texts(axes) == ["class 0", "class 1", "class 2", "images"]
    (crosses,) = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
    np.testing.assert_allclose(crosses.get_offsets(), [[2, 4], [6, 4], [4, 8]])


def test_images_outside_the_map_are_not_marked_at_its_edge() -> None:
    anchors = torch.tensor([[[0.0, 0.05], [0.0, 2.0], [-0.2, 0.0]]], dtype=torch.float64)
    maps = make_maps(np.zeros((1, 9, 9)), true_labels=None, anchors=anchors)
    for axes, shown in ((map_grid(maps).axes[0], [4, 6]), (map_single(maps), [0, 0.05])):
        (crosses,) = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
        drawn = crosses.get_offsets()
        np.testing.assert_allclose(drawn[~np.isnan(np.asarray(drawn)).any(axis=1)].data, [shown])
    assert axes.get_ylim()[1] < 0.2


def test_planes_that_do_not_exist_are_hatched_and_say_why() -> None:
    labels = np.zeros((3, 9, 9))
    labels[1] = -1
    maps = make_maps(labels, valid=[True, False, True], true_labels=[0, 0, 0])
    axes = map_grid(maps, columns=2).axes[0]
    assert "zero\ngradient" in [text.get_text() for text in axes.texts]
    hatched = [artist for artist in axes.collections if artist.get_hatch()]
    assert [len(artist.get_paths()) for artist in hatched] == [1]
    corners = hatched[0].get_paths()[0].vertices
    assert corners.min() == 8.5  # the upper right cell
    assert corners.max() == 17.5
    image = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(image[:, :9], 1)
    assert (image[9:, 9:] < 0.95).all()
    (crosses,) = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
    assert crosses.get_offsets().tolist() == [[4, 13], [4, 4]]
    single = map_single(maps, 1)
    assert [text.get_text() for text in single.texts] == ["zero\ngradient"]
    assert single.get_title() == "example 1: class 0"
    assert "no\nplane" in all_texts(map_grid(make_maps(labels, valid=[True, False, True], kind="through")))


def test_cells_have_borders_and_empty_places_have_none() -> None:
    axes = map_grid(random_maps(count=5), columns=3).axes[0]
    borders = [artist for artist in axes.collections if isinstance(artist, PolyCollection)][-1]
    assert len(borders.get_paths()) == 5


def test_a_hundred_cells_are_one_image() -> None:
    figure = map_grid(random_maps(count=100))
    assert len(figure.axes) == 1
    assert len(figure.axes[0].images) == 1
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (90, 90, 3)


def test_a_single_map_has_axes_in_axis_units() -> None:
    maps = make_maps(half_plane_maps().labels, index=torch.tensor([17]), true_labels=[1])
    axes = map_single(maps, class_names=["cat", "dog"])
    half_pixel = EXTENT / 40
    np.testing.assert_allclose(axes.get_xlim() + axes.get_ylim(), [-EXTENT - half_pixel, EXTENT + half_pixel] * 2)
    assert axes.get_xlabel() == "FGSM sign direction\nε (L∞)"
    assert axes.get_ylabel() == "random orthogonal\nε (L∞)"
    assert axes.get_title() == "example 17: dog, predicted cat"
    assert map_single(half_plane_maps()).get_title() == "example 0: class 0, correct"
    assert map_single(make_maps(maps.labels, true_labels=None)).get_title() == "example 0"


def test_given_axes_are_drawn_on() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert map_single(half_plane_maps(), ax=left) is left
    assert map_outlines([half_plane_maps()], ax=right) is right
    assert plt.get_fignums() == []


def test_outlines_lie_where_the_true_class_ends() -> None:
    offsets = (0.031, 0.061)
    axes = map_outlines([half_plane_maps(offset) for offset in offsets], names=["VGG", "ResNet"])
    outlines = [artist for artist in axes.collections if not isinstance(artist, PathCollection)]
    assert len(outlines) == 2
    for outline, offset in zip(outlines, offsets, strict=True):
        np.testing.assert_allclose(outline.get_paths()[0].vertices[:, 0], offset, atol=EXTENT / 40)
    styles = {(outline.get_linestyle()[0][1] is None, tuple(outline.get_edgecolor()[0])) for outline in outlines}
    assert len(styles) == 2
    assert legend_texts(axes) == ["VGG", "ResNet", "example"]
    assert axes.get_title() == "example 0: region of the true class, class 0"


def test_outlines_of_models_without_a_boundary_are_named() -> None:
    everywhere, nowhere = half_plane_maps(offset=1, true_labels=[0]), half_plane_maps(-1, true_labels=[0])
    wrong = half_plane_maps(-0.03, true_labels=[0])
    axes = map_outlines([everywhere, nowhere, wrong])
    assert legend_texts(axes)[:3] == [
        "model 1 (everywhere)",
        "model 2 (nowhere)",
        "model 3 (wrong at the example)",
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda maps: map_grid([maps]), TypeError, "maps must be a BoundaryMaps, got list"),
        (lambda maps: map_grid(maps, cells=[7]), ValueError, "cells must be between 0 and 6, got 7"),
        (lambda maps: map_grid(maps, cells=[-1]), ValueError, "cells must be between 0 and 6, got -1"),
        (lambda maps: map_grid(maps, cells=[0.5]), TypeError, r"cells must be integers, got \[0\.5\]"),
        (lambda maps: map_grid(maps, cells=[]), ValueError, "there is no cell to draw"),
        (lambda maps: map_grid(maps, columns=0), ValueError, "columns must be >= 1, got 0"),
        (lambda maps: map_grid(maps, class_names=["a"]), ValueError, "a name for class 4, got 1 names"),
        (lambda maps: map_grid(maps, class_names="abcde"), TypeError, "a sequence of names, got 'abcde'"),
        (lambda maps: map_single(maps, 7), ValueError, "cells must be between 0 and 6, got 7"),
        (lambda maps: map_single(maps, ax=1), TypeError, "ax must be matplotlib Axes, got int"),
        (lambda maps: map_outlines(maps), TypeError, "must be a list of BoundaryMaps, got BoundaryMaps"),
        (lambda maps: map_outlines([]), ValueError, "at least one entry, got none"),
        (lambda maps: map_outlines([maps], names=["a", "b"]), ValueError, "1 entries, one per model, got 2"),
        (lambda maps: map_outlines([maps, random_maps(extent=1)]), ValueError, "must have the same u, got"),
        (lambda maps: map_outlines([maps, random_maps(seed=3)]), ValueError, "same true labels, got"),
        (
            lambda maps: map_outlines([make_maps(maps.labels, true_labels=None)]),
            ValueError,
            "maps must have true labels",
        ),
        (
            lambda maps: map_outlines([make_maps(maps.labels, valid=[False] * 7)]),
            ValueError,
            "the plane of cell 0 does not exist: zero gradient",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_figure_exists(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call(random_maps())
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_figures_are_saved_in_three_formats(tmp_path, suffix, start) -> None:
    path = save_figure(map_grid(random_maps()), tmp_path / "new" / f"grid{suffix}")
    assert path.read_bytes().startswith(start)


def test_axes_save_their_figure(tmp_path) -> None:
    axes = Figure().subplots()
    assert save_figure(axes, tmp_path / "axes.png").stat().st_size > 100


def test_only_figures_in_known_formats_are_saved(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.png, \.pdf, \.svg, got '.*grid\.jpg'"):
        save_figure(Figure(), tmp_path / "new" / "grid.jpg")
    with pytest.raises(TypeError, match="figure must be a matplotlib Figure or Axes, got str"):
        save_figure("grid", tmp_path / "grid.png")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_cropped_from_the_figure() -> None:
    # Caption, legend and title have their room even beside a single small cell.
    names = ["great white shark, white shark, man-eater, man-eating shark"] * 5
    figure = map_grid(random_maps(), cells=[0], columns=1, class_names=names, title="title")
    FigureCanvasAgg(figure).draw()
    drawn = figure.get_tightbbox()
    assert drawn.width > 3
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= figure.get_figwidth() + 0.01
    assert drawn.y1 <= figure.get_figheight() + 0.01


def test_grids_are_shown_by_notebooks_and_unknown_to_pyplot() -> None:
    figure = map_grid(random_maps())
    assert plt.get_fignums() == []
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_global_settings_are_neither_changed_nor_followed_where_white_has_a_meaning() -> None:
    with plt.style.context("dark_background"):
        before = dict(plt.rcParams)
        figure = map_grid(random_maps())
        single = map_single(random_maps())
        assert dict(plt.rcParams) == before
    assert mpl_colors.to_hex(figure.get_facecolor()) == "#ffffff"
    assert mpl_colors.to_hex(figure.axes[0].texts[-1].get_color()) == "#000000"
    assert mpl_colors.to_hex(single.xaxis.label.get_color()) == "#000000"
    assert mpl_colors.to_hex(single.get_legend().get_texts()[0].get_color()) == "#000000"
