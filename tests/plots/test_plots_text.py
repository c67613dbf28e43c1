"""Names of users are drawn as they are, told apart when they are long, and classes by their colours.

Situations: names of classes and of models with one dollar, two, unfinished TeX, finished TeX, backslashes, braces, a
leading underscore, per cents, markup; in titles, legends, ticks and captions of every figure, on new axes and on axes
of the user's, with the user's own settings of TeX; in the page of the explorer. Long names that begin alike, end alike,
do both, or are equal. Colours of 12 and of 20 of 1,000 classes, of classes around 10, of 30 models.

The oracle of texts is the SVG file: what it shows as text. That of colours is scikit-image's CIEDE2000.
"""

import base64
import dataclasses
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from dimensions_by_hand import dimensions
from explored_maps import Page, explored_maps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from oracles import no_labels
from results_by_hand import (
    accuracy_curve_of,
    cosines_of,
    distances_of,
    mistakes_of_two,
    pair_distances,
    reproduced,
    shared_counts,
    two_by_two,
)
from skimage.color import deltaE_ciede2000, rgb2lab
from synthetic_maps import make_maps
from torch import nn
from transfer_by_hand import bases_of

import boundarygeo as bg
from boundarygeo import plots
from boundarygeo.explorer import explorer_page
from boundarygeo.plots.confidence import confidence
from boundarygeo.plots.differences import difference
from boundarygeo.plots.style import LONGEST_NAME, class_colors, class_labels, shortened, shown_colors

NAMES = ["cash $", r"$\frac{1}{", r"$x^2$ \alpha", "_hidden_", "100 % {a}_b^c", "<b>&amp;</b>"]


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def texts(figure: Figure | Axes, path: Path) -> str:
    """What an SVG file of the figure says, line by line."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        plots.save_figure(figure, path)
    return "\n".join("".join(each.itertext()) for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text"))


def boundary_maps(**changes: Any) -> bg.BoundaryMaps:
    """Six classes in stripes; the true class of the first is the second, and so on."""
    labels = np.tile(np.arange(18) // 3, (2, 17, 1))
    return make_maps(labels[:, :, :17], true_labels=[1, 2], **changes)


def lines_of(classes: int = 6) -> bg.LogitLines:
    torch.manual_seed(0)
    clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, classes)), device="cpu")
    x = torch.rand(2, 1, 2, 2)
    return bg.logit_lines(clf, x, torch.tensor([0, 1]), extent=0.5, points=5)


def pieces_of() -> bg.LinearPieces:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6))
    clf = bg.Classifier(module, device="cpu")
    return bg.linear_pieces(
        clf, torch.rand(2, 1, 2, 2), no_labels(torch.rand(2, 1, 2, 2)), direction=torch.rand(2, 1, 2, 2), extent=0.5
    )


def probabilities() -> bg.BoundaryMaps:
    labels = np.arange(25).reshape(1, 5, 5) % 6
    return make_maps(labels, true_labels=None, probability=torch.full((1, 5, 5), 0.9))


def spectra() -> bg.HiddenSpectrum:
    torch.manual_seed(0)
    clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)), device="cpu")
    return bg.hidden_spectrum(clf, torch.rand(8, 1, 2, 2), torch.arange(8) % 2, layers=["1"])


def sixfold(kind: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [kind(*arguments, model=name) for name in NAMES]


def overlaps() -> bg.SubspaceOverlap:
    planes = bases_of(torch.eye(20, dtype=torch.float64).view(10, 2, 20)[:2])
    return bg.basis_overlap(dict.fromkeys(NAMES[:3], planes), draws=9)


LEVELS = [0.0, 0.1, 0.2]
ON_AXES: dict[str, tuple[Callable[..., Axes], list[str]]] = {
    "map_single": (lambda ax: plots.map_single(boundary_maps(), class_names=NAMES, ax=ax), NAMES),
    "map_outlines": (
        lambda ax: plots.map_outlines([boundary_maps()] * 2, names=NAMES[:2], class_names=NAMES, ax=ax), NAMES[:2],
    ),
    "confidence": (lambda ax: confidence(probabilities(), class_names=NAMES, axis_names=NAMES[:2], ax=ax), NAMES),
    "accuracy_curves": (
        lambda ax: plots.accuracy_curves(
            [accuracy_curve_of([98, 90, 71], LEVELS, model=name) for name in NAMES], names=NAMES, ax=ax
        ), NAMES,
    ),
    "straightness": (
        lambda ax: plots.straightness(
            [cosines_of([[0.1, 1.0, 0.9]], model=name, unit="US$") for name in NAMES], names=NAMES, ax=ax
        ), NAMES,
    ),
    "dimension": (lambda ax: plots.dimension(dimensions_of("a"), names=NAMES[:1], ax=ax), NAMES[:1]),
    "dimension_at_least": (lambda ax: plots.dimension_at_least(sixfold(dimensions_of), names=NAMES, ax=ax), NAMES),
    "shared_dimension": (lambda ax: plots.shared_dimension(named(shared_counts(), NAMES[:2]), ax=ax), NAMES[:2]),
    "transfer_matrix": (lambda ax: plots.transfer_matrix(two_by_two(names=tuple(NAMES[:2])), ax=ax), NAMES[:2]),
    "reproducibility": (lambda ax: plots.reproducibility(named(reproduced(), NAMES[:3]), ax=ax), NAMES[:3]),
    "mistakes": (lambda ax: plots.mistakes(named(mistakes_of_two(), NAMES[:2]), ax=ax), NAMES[:2]),
    "boundary_distances": (lambda ax: plots.boundary_distances(named(pair_distances(), NAMES[:3]), ax=ax), NAMES[:3]),
    "overlap": (lambda ax: plots.overlap(overlaps(), ax=ax), NAMES[:3]),
    "principal_angles": (lambda ax: plots.principal_angles(overlaps(), ax=ax), NAMES[:3]),
}  # fmt: skip
ALONE: dict[str, tuple[Callable[[], Figure], list[str]]] = {
    "map_grid": (lambda: plots.map_grid(boundary_maps(), class_names=NAMES, title=NAMES[1]), NAMES),
    "outline_grid": (
        lambda: plots.outline_grid([boundary_maps()] * 2, names=NAMES[:2], class_names=NAMES), NAMES[:3],
    ),
    "one_plane": (
        lambda: plots.one_plane([boundary_maps()] * 3, names=[NAMES[0], *NAMES[3:5]], class_names=NAMES), NAMES,
    ),
    "lines": (lambda: plots.lines(lines_of(), class_names=NAMES, cells=[0, 1]), NAMES),
    "pieces": (lambda: plots.pieces(pieces_of(), class_names=NAMES, true_labels=[0, 1], cells=[0, 1]), NAMES),
    "distances": (lambda: plots.distances(sixfold(distance_of), names=NAMES), NAMES),
    "spectrum": (lambda: plots.spectrum([spectra()] * 6, names=NAMES), NAMES),
}  # fmt: skip


def dimensions_of(model: str) -> bg.AdversarialDimension:
    return dimensions([3, 5, 2], model=model)


def distance_of(model: str) -> bg.BoundaryDistances:
    return distances_of([0.1, 0.5], model=model)


def named(result: Any, names: list[str]) -> Any:
    return dataclasses.replace(result, names=tuple(names))


@pytest.mark.parametrize("kind", ON_AXES)
@pytest.mark.parametrize("given", [False, True])
def test_names_on_axes_are_drawn_as_they_are(kind: str, given: bool, tmp_path: Path) -> None:
    draw, names = ON_AXES[kind]
    axes = draw(Figure(figsize=(9, 6), layout="constrained").subplots() if given else None)
    said = texts(axes, tmp_path / "figure.svg")
    for name in names:
        assert name in said
    plots.save_figure(axes, tmp_path / "figure.png")


@pytest.mark.parametrize("kind", ALONE)
def test_names_in_figures_are_drawn_as_they_are(kind: str, tmp_path: Path) -> None:
    draw, names = ALONE[kind]
    with mpl.rc_context({"axes.formatter.use_mathtext": True}):
        figure = draw()
    said = texts(figure, tmp_path / "figure.svg")
    for name in names:
        assert name in said
    assert "mathdefault" not in said
    plots.save_figure(figure, tmp_path / "figure.pdf")


def test_every_figure_is_among_those_above() -> None:
    with_names = {name for name in plots.__all__ if name[0].islower()} - {
        "check_figure_path", "class_colors", "save_figure",
        "certified_accuracy", "claimed_verified", "measurements", "segments", "sequential_distances",
    }  # fmt: skip
    assert with_names <= ON_AXES.keys() | ALONE.keys()


def test_settings_of_tex_are_left_alone() -> None:
    with mpl.rc_context({"text.parse_math": True, "text.usetex": False}):
        plots.map_single(boundary_maps(), class_names=NAMES)
        assert mpl.rcParams["text.parse_math"]
        assert Figure().text(0, 0, "$x$").get_parse_math()


def test_the_page_of_the_explorer_shows_names_as_they_are() -> None:
    names = ["cash $", "</script><b>", "_hidden_", r"\u0041 {{script}}"]
    page = Page(explorer_page(explored_maps(), class_names=names, title="$x$ </title>"))
    assert [each["name"] for each in page.content["classes"]] == names
    assert page.text["h1"].strip() == "$x$ </title>"


def test_pages_keep_labels_of_many_classes() -> None:
    labels = torch.tensor([[[40_000, 1, 40_000], [39_999, 40_000, 2], [0, 0, 0]]], dtype=torch.int32)
    maps = dataclasses.replace(make_maps(np.zeros((1, 3, 3)), true_labels=[40_000]), labels=labels)
    content = Page(explorer_page(maps)).content
    packed = content["labels"]
    assert packed["bits"] == 32
    whole = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<i4")
    assert whole.tolist() == labels.flatten().tolist()
    assert [each["number"] for each in content["classes"]] == [0, 1, 2, 39_999, 40_000]


# ---- long names


def test_long_names_that_begin_alike_stay_different() -> None:
    prefix = "Transportation, land, road, motor vehicle, "
    names = [prefix + "car", prefix + "bus", "x" * LONGEST_NAME, "y" * 99, "z" * 40 + "a" + "z" * 40, "z" * 81]
    called = class_labels(names, range(6))
    assert len(set(called.values())) == 6
    assert called[0].startswith("Transportation,")
    assert called[0].endswith(" vehicle, car")
    assert called[1].endswith(" vehicle, bus")
    assert called[2] == names[2]
    assert all(len(called[number]) == LONGEST_NAME for number in range(4))
    assert (called[4][-4:], called[5][-4:]) == (" (4)", " (5)")
    # Also where one of the two is not shown: a class is called the same in a figure's title and in its legend.
    assert class_labels(names, [4]) == {4: called[4]}


def test_classes_of_one_name_are_told_apart() -> None:
    assert class_labels(["crane", "maillot", "crane"], [0, 1, 2]) == {0: "crane (0)", 1: "maillot", 2: "crane (2)"}


@pytest.mark.parametrize("longest", [3, 4, 5, 16])
def test_names_are_shortened_to_what_is_asked(longest: int) -> None:
    for length in range(40):
        name = "".join(chr(97 + number % 26) for number in range(length))
        short = shortened(name, longest)
        assert len(short) == min(length, longest)
        if length > longest:
            first, last = short.split("…")
            assert name.startswith(first)
            assert name.endswith(last)
            assert abs(len(first) - len(last)) <= 1


# ---- colours


def nearest(colors: np.ndarray) -> float:
    """Smallest CIEDE2000 difference between two colours."""
    lab = rgb2lab(np.asarray(colors))
    pairs = deltaE_ciede2000(lab[:, None], lab[None])
    return float(pairs[np.triu_indices(len(lab), k=1)].min())


@pytest.mark.parametrize("count", [2, 12, 20, 30])
def test_classes_shown_together_can_be_told_apart(count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(1000, count, replace=False) for _ in range(20)]
    drawn += [np.arange(start, start + count) for start in (0, 5, 10, 500)]
    before = [nearest(class_colors(1000)[shown]) for shown in drawn]
    after = [nearest(shown_colors(shown, 1000)[shown]) for shown in drawn]
    assert min(before) < 11
    assert min(after) > 11.9


def test_colours_are_those_of_the_class_where_that_is_possible() -> None:
    own = class_colors(1000)
    shown = np.random.default_rng(1).choice(1000, 12, replace=False)
    colors = shown_colors(shown, 1000)
    changed = np.flatnonzero((colors != own).any(axis=1))
    assert set(changed) <= set(shown[shown >= 10].tolist())
    assert len(changed) < 6
    assert np.array_equal(shown_colors(shown[::-1], 1000), colors)  # whatever the order
    assert np.array_equal(shown_colors(range(10), 1000), own)
    assert np.array_equal(shown_colors([], 30), class_colors(30))
    white = np.broadcast_to(rgb2lab(np.ones(3)), (12, 3))
    assert deltaE_ciede2000(rgb2lab(colors[shown]), white).min() > 15  # white is the true class


def test_what_a_map_draws_is_what_its_legend_says() -> None:
    chosen = np.sort(np.random.default_rng(2).choice(np.arange(10, 1000), 12, replace=False))
    labels = chosen[np.arange(15 * 15).reshape(1, 15, 15) % 12]
    maps = make_maps(labels, true_labels=None)
    figure = plots.map_grid(maps)
    (legend,) = [axes.get_legend() for axes in figure.axes]
    patches = dict(zip((text.get_text() for text in legend.get_texts()), legend.legend_handles, strict=True))
    picture = np.asarray(figure.axes[0].images[0].get_array())
    seen = {tuple(color) for color in picture.reshape(-1, 3).round(5).tolist()}
    said = {tuple(np.round(patches[f"class {number}"].get_facecolor()[:3], 5)) for number in chosen}  # type: ignore[union-attr]
    assert {tuple(np.float32(color)) for color in said} == {tuple(np.float32(color)) for color in seen}
    assert nearest(np.array(sorted(said))) > 11.9
    page = Page(explorer_page(maps)).content["classes"]
    assert {each["color"] for each in page} == {to_hex(color) for color in said}


def test_thirty_models_have_thirty_colours() -> None:
    assert nearest(class_colors(30)) < 9
    assert nearest(shown_colors(range(30), 30)) > 11.9


def test_differences_are_those_of_an_independent_implementation() -> None:
    one, other = np.random.default_rng(0).random((2, 2000, 3))
    one[:3], other[:3] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]], [[1, 1, 1], [1, 1, 1], [0.5, 0.5, 0.51]]
    np.testing.assert_allclose(difference(one, other), deltaE_ciede2000(rgb2lab(one), rgb2lab(other)), atol=0.02)


def test_curves_of_many_classes_are_those_of_the_legend() -> None:
    figure = plots.lines(lines_of(classes=15), cells=[0, 1])
    (legend,) = figure.legends
    handles = dict(zip((text.get_text() for text in legend.get_texts()), legend.legend_handles, strict=True))
    expected = shown_colors(range(15), 15)
    for number in range(15):
        handle = handles[f"class {number}"]
        assert isinstance(handle, Line2D)
        assert np.allclose(to_rgb(handle.get_color()), expected[number])
    drawn = {tuple(np.round(to_rgb(line.get_color()), 6)) for line in figure.axes[0].lines}
    assert {tuple(np.round(color, 6)) for color in expected[1:]} <= drawn
