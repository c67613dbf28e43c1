"""Figures of transfer: numbers in cells, lengths of bars, what is written about censoring."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results_by_hand import mistakes_of_two as mistakes
from results_by_hand import pair_distances as distances
from results_by_hand import two_by_two as matrix

from boundarygeo.plots import transfer as plots
from boundarygeo.results.statistics import mean
from boundarygeo.transfer.matrix import TransferMatrix
from boundarygeo.transfer.mistakes import transfer_mistakes

INF, NAN = math.inf, math.nan


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def unshared(result: Any) -> Any:
    """The same result, had the last model got every example wrong."""
    name = "clean" if isinstance(result, TransferMatrix) else "correct"
    values = getattr(result, name).clone()
    values[-1] = 1 if name == "clean" else False
    return dataclasses.replace(result, **{name: values})


def cells(axes: Axes) -> dict[tuple[int, int], str]:
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}


def test_cells_hold_percents_with_sources_as_rows() -> None:
    axes = plots.transfer_matrix(matrix())
    assert cells(axes) == {(0, 0): "100", (0, 1): "5.0", (1, 0): "25", (1, 1): "0"}
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1, 0.05], [0.25, 0]]
    assert axes.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain", "robust"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("target: sent to", "source: made for")
    expected = "PGD, L∞, ε = 0.1\nsuccess, in % of the examples that all models get right (n = 20)"
    assert axes.get_title() == expected
    external = plots.transfer_matrix(dataclasses.replace(matrix(), attack="foolbox.L2PGD"))
    assert external.get_title() == expected.replace("PGD", "foolbox.L2PGD")
    assert {text.get_text(): text.get_color() for text in axes.texts} == {
        "100": "white", "5.0": "black", "25": "black", "0": "black"
    }  # fmt: skip


def test_other_denominators_are_named_and_missing_numbers_are_dashes() -> None:
    axes = plots.transfer_matrix(matrix(targeted=True), over="fooled")
    assert cells(axes) == {(0, 0): "100", (0, 1): "5.0", (1, 0): "–", (1, 1): "–"}
    assert axes.get_title().startswith("PGD, targeted, L∞, ε = 0.1, 8-bit\n")
    assert "fool their source (n = 0 to 20)" in axes.get_title()


def test_given_axes_are_drawn_on_and_long_names_are_slanted() -> None:
    figure = Figure(figsize=(5, 5))
    ax = figure.add_subplot()
    assert plots.transfer_matrix(matrix(names=("softmax regression", "b")), ax=ax) is ax
    assert ax.get_xticklabels()[0].get_rotation() == 35
    assert not plt.get_fignums()


def test_bars_stack_to_one_and_chance_is_marked() -> None:
    axes = plots.mistakes(mistakes())
    bars = sorted(axes.patches, key=lambda bar: bar.get_x())
    assert [bar.get_width() for bar in bars] == pytest.approx([0.4, 0.1, 0.5])
    assert [bar.get_x() for bar in bars] == pytest.approx([0, 0.4, 0.5])
    expected, tick = (np.asarray(line.get_xdata(), dtype=float) for line in axes.get_lines())
    assert tick.tolist() == pytest.approx([0.25, 0.25])
    assert expected.tolist() == pytest.approx([0.25 - 0.098, 0.25 + 0.098])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a → b (n = 10)", "b → a (n = 0)"]
    assert [text.get_text() for text in axes.texts] == ["no example fools the source"]
    legend = axes.get_legend()
    assert legend is not None
    entries = ["same mistake", "different mistake", "unfooled", "same, by chance\n(95 % range)"]
    assert [text.get_text() for text in legend.get_texts()] == entries
    chosen = plots.mistakes(transfer_mistakes(matrix()), pairs=[("robust", "plain"), ("plain", "robust")])
    assert [label.get_text() for label in chosen.get_yticklabels()][1] == "plain → robust (n = 20)"


def test_bars_of_a_direction_are_over_the_same_examples() -> None:
    axes = plots.boundary_distances(distances())
    heights = [bar.get_height() for bar in axes.patches]
    # a, b and c are all met from the first and the fourth example: MD 1 and 4, ID 0.5 and 1, ID 1 and 3.
    assert heights == pytest.approx([2.5, 0.75, 2.0])
    lows = [float(lines.get_segments()[0][0][1]) for lines in axes.collections]
    numbers = ([1.0, 4], [0.5, 1], [1.0, 3])
    assert lows == pytest.approx([mean(np.array(values), within=(0, np.inf)).low for values in numbers])
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["adversarial\nn = 2\n50.0 % censored", "random\nn = 0\n100.0 % censored"]
    assert axes.get_ylabel() == "mean distance, in L2 input units"
    assert "directions of a, gradient for adversarial" in axes.get_title()
    assert axes.get_title().endswith("bars: 88 %")  # two examples


def test_means_of_equal_distances_have_no_bar_of_an_interval() -> None:
    result = distances()
    equal = torch.where(result.distance.isfinite(), 2.0, result.distance)
    axes = plots.boundary_distances(dataclasses.replace(result, distance=equal), source="a", targets=["b"])
    assert [bar.get_height() for bar in axes.patches] == [2, 0]
    assert not axes.collections
    assert not axes.get_lines()


def test_fewer_targets_leave_fewer_out() -> None:
    axes = plots.boundary_distances(distances(), source="a", targets=["b"])
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([7 / 3, 2 / 3])
    assert axes.get_xticklabels()[0].get_text() == "adversarial\nn = 3\n25.0 % censored"
    legend = axes.get_legend()
    assert legend is not None
    assert "b (ID)" in legend.get_texts()[1].get_text()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: plots.transfer_matrix(3), TypeError, "matrix must be TransferMatrix results, got int"),
        (lambda: plots.transfer_matrix(matrix(), over="some"), ValueError, "over must be one of"),
        (lambda: plots.transfer_matrix(matrix(), ax=3), TypeError, "ax must be matplotlib Axes, got int"),
        (lambda: plots.mistakes(matrix()), TypeError, "result must be TransferMistakes results"),
        (lambda: plots.mistakes(mistakes(), pairs=[]), ValueError, "pairs must have at least one entry"),
        (lambda: plots.mistakes(mistakes(), pairs=[("a", "z")]), ValueError, "target must be one of"),
        (lambda: plots.boundary_distances(3), TypeError, "result must be InterBoundaryDistance results"),
        (lambda: plots.boundary_distances(distances(), source="z"), ValueError, "model must be one of .* got 'z'"),
        (lambda: plots.boundary_distances(distances(), source=3), ValueError, "a number below 3, got 3"),
        (lambda: plots.boundary_distances(distances(), targets=[]), ValueError, "targets must have at least one"),
        (lambda: plots.boundary_distances(unshared(distances())), ValueError, "no example of result is classified"),
        (lambda: plots.transfer_matrix(unshared(matrix())), ValueError, "no example of matrix is classified correctly"),
        (lambda: plots.transfer_matrix(unshared(matrix()), over="fooled"), ValueError, "no example of matrix is"),
    ],
)
def test_bad_input_is_refused(call, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
