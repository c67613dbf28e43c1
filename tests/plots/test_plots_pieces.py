"""Figures of exact pieces: curves, best lines, boundaries, and the rug of breakpoints by layer."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from oracles import SmallNet, images, no_labels
from torch import nn

import boundarygeo as bg
from boundarygeo.plots import class_colors, pieces, save_figure
from boundarygeo.plots.pieces import BEST_LINE, BOUNDARY, MOST_LAYERS
from boundarygeo.results import Provenance


def made(t: list, logits: list, layer: list, layers: tuple[str, ...], **changes) -> bg.LinearPieces:
    """Pieces by hand; every breakpoint is a bend."""
    knots = torch.tensor(t, dtype=torch.float64)
    where = torch.tensor(layer)
    fields = {
        "provenance": Provenance(command="by hand"),
        "breakpoints": knots,
        "logits": torch.tensor(logits, dtype=torch.float64),
        "layer": where,
        "bends": where >= 0,
        "count": 1 + (where >= 0).sum(1),
        "index": torch.arange(len(t)),
        "length": torch.ones(len(t), dtype=torch.float64),
        "layers": layers,
        "extent": (-1.0, 1.0),
        "name": "random",
        "unit": "L2",
        "clip": False,
    }
    return bg.LinearPieces(**(fields | changes))


NAN = float("nan")


def two_examples() -> bg.LinearPieces:
    """Class 0 is |t| - 0.5 in the first example, class 1 is 0: two boundaries. The second is one piece."""
    return made(
        [[-1, 0, 1], [-1, 1, NAN]],
        [[[0.5, 0], [-0.5, 0], [0.5, 0]], [[0, 1], [2, 3], [NAN, NAN]]],
        [[-1, 1, -1], [-1, -1, -1]],
        ("bounds", "relu"),
    )


def panels(figure) -> list[tuple]:
    """Axes of the logits and of the rug of each example."""
    axes = figure.axes
    return list(zip(axes[::2], axes[1::2], strict=True))


def curves(axes) -> dict[str, np.ndarray]:
    """Points `[point, 2]` of each line, by its colour."""
    return {to_hex(line.get_color()): np.column_stack(line.get_data()) for line in axes.get_lines()}


def entries(legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


BLACK, GREY = "#000000", to_hex(BEST_LINE["color"])


def test_logits_best_line_and_boundaries_on_paper() -> None:
    figure = pieces(two_examples(), true_labels=[0, 0], index=[17, 4], class_names=["cat", "dog"])
    ((top, rug),) = panels(figure)
    shown = curves(top)
    np.testing.assert_allclose(shown[BLACK], [[-1, 0.5], [0, -0.5], [1, 0.5]])
    np.testing.assert_allclose(shown[to_hex(class_colors(2)[1])], [[-1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(shown[GREY], [[-1, 0], [1, 0]], atol=1e-12)  # flat, through the mean
    places = sorted(
        float(line.get_xdata()[0]) for line in top.get_lines() if to_hex(line.get_color()) == to_hex(BOUNDARY)
    )
    assert places == pytest.approx([-0.5, 0.5])
    assert top.get_title() == "example 17: cat\n2 pieces"
    assert rug.get_xlabel() == "random, in L2; inputs not clipped"
    assert top.get_ylabel() == "logit"
    classes, layers = figure.legends
    assert entries(classes) == ["true class", "its best line", "dog", "decision boundary"]
    assert entries(layers) == ["relu"]


def test_a_best_line_with_a_slope() -> None:
    # t on [-1, 0], 0 beyond: least squares give -1/4 + t/2.
    result = made([[-1, 0, 1]], [[[-1, -5], [0, -5], [0, -5]]], [[-1, 0, -1]], ("relu",))
    ((top, _),) = panels(pieces(result, true_labels=[0]))
    np.testing.assert_allclose(curves(top)[GREY], [[-1, -0.75], [1, 0.25]])


def test_without_labels_no_class_is_emphasised() -> None:
    figure = pieces(two_examples(), cells=[1, 0])
    first, second = panels(figure)
    assert [to_hex(BOUNDARY) in curves(top) for top, _ in (first, second)] == [False, True]
    for top, _ in (first, second):
        shown = curves(top)
        assert BLACK not in shown
        assert GREY not in shown
        assert {to_hex(color) for color in class_colors(2)} <= set(shown)
    assert first[0].get_title() == "example 1\n1 piece"
    assert len(curves(first[0])[to_hex(class_colors(2)[0])]) == 2  # no NaN beyond the last breakpoint
    assert entries(figure.legends[0]) == ["class 0", "class 1", "decision boundary"]
    assert entries(pieces(two_examples(), cells=[1]).legends[0]) == ["class 0", "class 1"]


def test_no_breakpoints_no_rug_legend() -> None:
    figure = pieces(two_examples(), cells=[1])
    assert len(figure.legends) == 1


def rug_rows(axes) -> list[tuple[str, list[float]]]:
    """Colour and places of the ticks of each row."""
    rows = []
    for row in axes.collections:
        places = [float(path.vertices[0, 0]) for path in row.get_paths()]
        rows.append((to_hex(row.get_colors()[0]) if len(row.get_colors()) else "", places))
    return rows


def test_the_rug_has_a_row_for_each_layer_in_the_order_of_the_network() -> None:
    t = [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    logits = [[[value, 0] for value in t]]
    layers = ("bounds", "a.relu", "3", "unused")
    figure = pieces(made([t], logits, [[-1, 2, 0, 1, 2, 2, -1]], layers))
    ((_, rug),) = panels(figure)
    rows = rug_rows(rug)
    assert [places for _, places in rows] == [[-0.25], [0.0], [-0.5, 0.25, 0.5]]
    handles = figure.legends[1].legend_handles
    assert [handle.get_label() for handle in handles] == ["clamp to the bounds", "a.relu", "layer 3"]
    assert [to_hex(handle.get_color()) for handle in handles] == [color for color, _ in rows]
    assert len({color for color, _ in rows}) == 3
    low, high = rug.get_ylim()
    assert low > high  # the first layer on top


def test_layers_beyond_the_most_frequent_share_a_row() -> None:
    # Layer k causes k + 1 breakpoints; 13 layers: the last 10 are named.
    layer = [number for number in range(13) for _ in range(number + 1)]
    order = np.random.default_rng(0).permutation(len(layer))
    where = [-1, *np.array(layer)[order].tolist(), -1]
    t = np.linspace(-1, 1, len(where))
    result = made([t.tolist()], [[[value, 0] for value in t]], [where], tuple(f"r{k}" for k in range(13)))
    figure = pieces(result)
    ((_, rug),) = panels(figure)
    assert entries(figure.legends[1]) == [f"r{k}" for k in range(3, 13)] + ["3 other layers"]
    counts = [len(places) for _, places in rug_rows(rug)]
    assert counts == [*range(4, 14), 1 + 2 + 3]
    assert len(counts) == MOST_LAYERS + 1
    assert sum(counts) == len(layer)


class Classes(nn.Module):
    """Thirty logits, of which class 7 leads left of 0 and class 21 right of it; class 3 is the true one."""

    def forward(self, x):
        logits = torch.zeros(1, 30) - 5 + 0 * x
        t = x[:, :1]
        return logits + torch.cat([t * k for k in np.eye(30)[21] - np.eye(30)[7]], 1)


def test_of_many_classes_only_those_that_lead_and_the_true_one_are_drawn() -> None:
    clf = bg.Classifier(Classes(), bounds=(-2, 2), device="cpu")
    result = bg.linear_pieces(
        clf, torch.zeros(1, 1), no_labels(torch.zeros(1, 1)), direction=torch.ones(1, 1), extent=1
    )
    figure = pieces(result, true_labels=[3], class_names=[f"c{k}" for k in range(30)])
    assert entries(figure.legends[0]) == ["true class", "its best line", "c7", "c21", "decision boundary"]


def test_real_pieces_fit_into_the_figure(tmp_path) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(4)
    y = clf.predict(x)
    result = bg.linear_pieces(clf, x, y, extent=0.2)
    names = ["aeroplane", "automobile", "a very long name of a class, as those of ImageNet are", "d", "e"]
    figure = pieces(result, cells=range(4), true_labels=y, class_names=names)
    FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.size
    for top, rug in panels(figure):
        box = top.get_tightbbox()
        assert box.x0 >= 0
        assert box.y1 <= height
        assert rug.get_tightbbox().y1 <= top.get_window_extent().y0 + 1  # below, without touching
        assert top.get_window_extent().width > 2 * figure.dpi  # curves keep most of the room
        labels = [tick.label1.get_window_extent() for tick in rug.xaxis.get_major_ticks() if tick.label1.get_text()]
        assert all(left.x1 < right.x0 for left, right in pairwise(labels))
        np.testing.assert_allclose(top.get_xlim(), rug.get_xlim())
    classes, layers = (legend.get_window_extent() for legend in figure.legends)
    assert classes.x0 >= max(top.get_window_extent().x1 for top, _ in panels(figure))
    assert classes.x1 <= width
    assert layers.y1 <= min(rug.get_tightbbox().y0 for _, rug in panels(figure))
    assert save_figure(figure, tmp_path / "pieces.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"result": "pieces"}, TypeError, "result must be LinearPieces, got str"),
        ({"cells": [2]}, ValueError, r"cells must be positions from 0 to 1, got \[2\]"),
        ({"cells": []}, ValueError, "cells must be positions from 0 to 1"),
        ({"columns": 0}, ValueError, "columns must be positive, got 0"),
        ({"true_labels": [0]}, ValueError, "true_labels must have 2 entries, one per example, got 1"),
        ({"index": [0, 1, 2]}, ValueError, "index must have 2 entries, one per example, got 3"),
    ],
)
def test_bad_input_is_refused(changes: dict, error: type, match: str) -> None:
    arguments = {"result": two_examples()} | changes
    with pytest.raises(error, match=match):
        pieces(arguments.pop("result"), **arguments)
