"""Figures of overlap, of the shared dimension and of one plane: marks and curves against numbers known by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from results_by_hand import reproduced
from results_by_hand import shared_counts as shared
from synthetic_maps import make_maps
from transfer_by_hand import bases_of

import boundarygeo as bg
from boundarygeo import plots
from boundarygeo.plots.style import CLASS_COLORS
from boundarygeo.results.statistics import mean, share

D = 20


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def overlaps() -> bg.SubspaceOverlap:
    """a and b share both, one, one and no direction of the axes; c has no basis."""
    axes = torch.tensor([[[0, 1], [0, 1], [2, 3], [4, 5]], [[0, 1], [1, 7], [3, 9], [0, 1]]])
    a, b = torch.eye(D, dtype=torch.float64)[axes]
    return bg.basis_overlap({"a": bases_of(a), "b": bases_of(b), "c": bases_of(a, torch.zeros(4) > 0)}, draws=99)


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def places(axes: Axes, marker: str) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in axes.get_lines() if line.get_marker() == marker]


def entries(owner: Any) -> list[str]:
    legend = owner.get_legend() if isinstance(owner, Axes) else owner.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_overlap_stands_beside_its_nulls() -> None:
    result = overlaps()
    axes = plots.overlap(result, pairs=[("a", "b")])
    assert places(axes, "o") == pytest.approx([1.0])  # the mean of 2, 1, 1 and 0
    assert places(axes, "D") == pytest.approx([1.0, float(result.random_intersection[0].double().mean())])
    spans = [np.asarray(line.get_xdata(), dtype=float) for line in axes.get_lines() if len(line.get_xdata()) == 2]
    expected = mean(np.array([2.0, 1, 1, 0]), within=(0, 2))
    assert any(span == pytest.approx([expected.low, expected.high]) for span in spans)
    assert any(span == pytest.approx([4 / D, 4 / D]) for span in spans)  # k1·k2/d
    random, permuted = axes.patches
    for bar, draws in ((random, result.random_mean[0]), (permuted, result.permuted_mean[0])):
        ends = (bar.get_x(), bar.get_x() + bar.get_width())
        assert ends == pytest.approx(tuple(np.quantile(draws.numpy(), (0.025, 0.975))))
    assert to_hex(permuted.get_facecolor()) == CLASS_COLORS[0]
    assert labels(axes) == ["a - b\nn = 4, k = 2"]
    assert axes.get_xlabel() == "shared dimensions, of k = 2"
    assert axes.get_title().endswith("d = 20; lines: 88 %")  # four examples
    assert "angles of at most 30°" in entries(axes)


def test_all_pairs_are_rows_and_missing_subspaces_are_said() -> None:
    axes = plots.overlap(overlaps())
    assert [text.split("\n")[0] for text in labels(axes)] == ["a - b", "a - c", "b - c"]
    assert [text.get_text() for text in axes.texts] == ["no example has both subspaces"] * 2
    figure = Figure()
    ax = figure.add_subplot()
    assert plots.overlap(overlaps(), ax=ax) is ax
    assert not plt.get_fignums()[1:]


def test_angles_are_drawn_beside_those_of_random_subspaces() -> None:
    result = overlaps()
    axes = plots.principal_angles(result)
    measured, random, tolerance = axes.get_lines()
    assert np.asarray(measured.get_xdata()).tolist() == [1, 2]
    assert np.asarray(measured.get_ydata()) == pytest.approx([0, 90])  # medians of 0, 0, 0, 90 and 0, 90, 90, 90
    expected = np.degrees(result.random_angles[0].median(0).values.numpy())
    assert np.asarray(random.get_ydata()) == pytest.approx(expected, abs=1e-6)
    assert np.asarray(tolerance.get_ydata()) == pytest.approx([30, 30])
    assert entries(axes) == ["a - b\nn = 4", "random subspaces", "counts as shared below"]


def at(line: Any, k: float) -> float:
    """Height of a curve of steps at k."""
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    return float(y[np.searchsorted(x, k)])


def test_the_shared_dimension_stands_beside_chance() -> None:
    axes = plots.shared_dimension(shared())
    curves = [line for line in axes.get_lines() if len(line.get_xdata()) > 1]
    verified, claimed, null, null_claimed = curves
    assert [at(verified, k) for k in (1, 2, 3, 4, 6, 7)] == [0.75, 0.5, 0.5, 0.25, 0.25, 0]
    assert [at(claimed, k) for k in (1, 2, 4, 5, 8)] == [0.75, 0.75, 0.5, 0.25, 0.25]
    assert [at(null, k) for k in (1, 2, 3)] == [0.25, 0.25, 0]
    assert [at(null_claimed, k) for k in (1, 2, 3, 4)] == [0.5, 0.25, 0.25, 0]
    assert [line.get_linestyle() for line in curves] == ["-", "--", "-", "--"]
    assert verified.get_color() == claimed.get_color() != null.get_color() == null_claimed.get_color()
    # Bands of what was verified, none of the claims.
    assert [band.get_alpha() for band in axes.collections] == [0.15, 0.0, 0.15, 0.0]
    lows = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert float(lows.max()) == pytest.approx(share(3, 4).high)
    legend = axes.get_legend()
    assert legend is not None
    title = legend.get_title().get_text()
    assert title.startswith("a, b\nε = 2 (L2, input units)")
    assert "n = 4 examples" in title
    assert "▶ limited by the cap of 8" in title  # a claim of 9
    assert "fool all 2 models" in axes.get_ylabel()


def test_chance_that_was_not_verified_is_not_drawn() -> None:
    axes = plots.shared_dimension(shared(null=False, correct=(False, True, True, True)))
    expected = ["verified on all networks", "claimed to first order", "claimed, others rotated at random"]
    assert entries(axes) == expected
    legend = axes.get_legend()
    assert legend is not None
    assert "n = 3 examples" in legend.get_title().get_text()
    assert "cap" not in legend.get_title().get_text()


def plane(offset: int, *, true: int = 1) -> bg.BoundaryMaps:
    """Class 1 up to a column, then class 2."""
    row = np.where(np.arange(11) < offset, 1, 2)
    return make_maps(np.broadcast_to(row, (2, 11, 11)).copy(), true_labels=[true, true])


def test_one_plane_has_a_panel_per_model_and_all_outlines() -> None:
    figure = plots.one_plane([plane(7), plane(9)], 1, names=["VGG", "ResNet"], class_names=["cat", "dog", "owl"])
    first, second, last = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["VGG", "ResNet", "true class: outlines of all"]
    for axes, offset in ((first, 7), (second, 9)):
        image = np.asarray(axes.images[0].get_array())
        assert (image[:, :offset] == 1).all()  # white: the true class
        assert np.allclose(image[:, offset:], to_rgb(CLASS_COLORS[2]))
    outlines = [artist for artist in last.collections if len(artist.get_paths()) and artist.get_linewidth()[0] > 1.2]
    assert len(outlines) == 2
    ends = [float(outline.get_paths()[0].vertices[:, 0].mean()) for outline in outlines]
    assert ends == pytest.approx([0.1 * (2 * 6.5 / 10 - 1), 0.1 * (2 * 8.5 / 10 - 1)], abs=1e-9)
    assert entries(figure) == ["regions", "white: true class, dog", "owl", "example", "outlines", "VGG", "ResNet"]
    title = figure.get_suptitle()
    assert title == "example 1: dog"


def test_panels_are_laid_out_in_rows() -> None:
    figure = plots.one_plane([plane(offset) for offset in (3, 5, 7, 9)])
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(figure.axes) == 6
    assert len(shown) == 5
    assert shown[0].get_title() == "model 1"
    assert len(plots.one_plane([plane(7)] * 2, columns=1).axes) == 3


def test_agreement_is_a_symmetric_heat_map() -> None:
    axes = plots.reproducibility(reproduced())
    cells = np.asarray(axes.images[0].get_array())
    assert cells == pytest.approx(np.array([[1, 0.75, 0.5], [0.75, 1, 0.02], [0.5, 0.02, 1]]))
    assert [text.get_text() for text in axes.texts] == ["100", "75", "50", "75", "100", "2.0", "50", "2.0", "100"]
    assert axes.get_title() == "equal labels, in %\n2 random planes, 11² points each, clipped to the bounds"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: plots.overlap(3), TypeError, "result must be SubspaceOverlap results, got int"),
        (lambda: plots.overlap(overlaps(), pairs=[]), ValueError, "pairs must have at least one entry, got none"),
        (lambda: plots.overlap(overlaps(), pairs=[("a", "a")]), ValueError, "must be different models, got 'a' twice"),
        (lambda: plots.principal_angles(3), TypeError, "result must be SubspaceOverlap results"),
        (lambda: plots.principal_angles(overlaps(), pairs=[("a", "c")]), ValueError, "include one with both subspaces"),
        (lambda: plots.shared_dimension(3), TypeError, "result must be SharedDimension results"),
        (
            lambda: plots.shared_dimension(shared(correct=(False,) * 4)),
            ValueError,
            "no example is classified correctly",
        ),
        (lambda: plots.reproducibility(3), TypeError, "result must be Reproducibility results"),
        (lambda: plots.one_plane(plane(7)), TypeError, "list_of_maps must be a list of BoundaryMaps"),
        (lambda: plots.one_plane([plane(7)], columns=0), ValueError, "columns must be positive, got 0"),
        (lambda: plots.one_plane([plane(7)], 2), ValueError, "cells must be between 0 and 1, got 2"),
        (lambda: plots.one_plane([plane(7), plane(7, true=2)]), ValueError, "maps must have the same true labels"),
    ],
)
def test_bad_input_is_refused(call, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
