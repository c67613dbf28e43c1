from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from results_by_hand import accuracy_curve_of as curve

from boundarygeo.plots.curves import accuracy_curves

LEVELS = [k / 255 for k in range(9)]


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


HITS = [98, 90, 71, 55, 40, 22, 12, 6, 3]


def test_each_model_has_its_curve_and_its_interval() -> None:
    first, second = curve(HITS, LEVELS), curve(HITS[::-1], LEVELS, model="b")
    axes = accuracy_curves([first, second], names=["plain", "trained"])
    lines = axes.get_lines()
    assert len(lines) == 2
    for line, drawn in zip(lines, (first, second), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), drawn.eps)
        np.testing.assert_array_equal(line.get_ydata(), drawn.accuracy)
    for band, drawn in zip(axes.collections, (first, second), strict=True):
        corners = band.get_paths()[0].vertices
        for eps, low, high in zip(drawn.eps, drawn.low, drawn.high, strict=True):
            heights = corners[np.isclose(corners[:, 0], eps), 1]
            assert heights.min() == pytest.approx(low.item())
            assert heights.max() == pytest.approx(high.item())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["plain", "trained"]
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    assert axes.get_ylabel() == "accuracy"
    assert "n = 100" in axes.get_title()


def test_ticks_are_grey_levels_where_all_sizes_are() -> None:
    axes = accuracy_curves(curve(HITS, LEVELS))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0"] + [f"{k}/255" for k in range(1, 9)]
    np.testing.assert_allclose(axes.get_xticks(), LEVELS)
    assert axes.get_xlabel() == "ε (L∞, input units)"
    plain = accuracy_curves(curve(HITS[:3], [0.0, 0.5, 1.1], norm="l2"))
    plain.figure.canvas.draw()
    assert not any("255" in tick.get_text() for tick in plain.get_xticklabels())
    assert plain.get_xlabel() == "ε (L2, input units)"
    many = accuracy_curves(curve([50] * 40, [k / 255 for k in range(40)]))
    assert len(many.get_xticks()) <= 12


def legend(axes: Axes) -> dict[str, tuple[str, str]]:
    """Colour and line style of each entry."""
    return {line.get_label(): (to_hex(line.get_color()), line.get_linestyle()) for line in entries(axes)}


def entries(axes: Axes) -> list:
    box = axes.get_legend()
    assert box is not None
    return box.legend_handles


def drawn(axes: Axes) -> list[tuple[str, Any]]:
    return [(to_hex(line.get_color()), line.get_linestyle()) for line in axes.get_lines()]


def test_one_model_has_a_color_and_a_style_for_each_attack() -> None:
    axes = accuracy_curves([curve(HITS, LEVELS), curve(HITS, LEVELS, attack="pgd")])
    fgsm, pgd = drawn(axes)
    assert legend(axes) == {"FGSM": fgsm, "PGD": pgd}
    assert fgsm[0] != pgd[0]
    assert fgsm[1] != pgd[1]
    assert legend(accuracy_curves(curve(HITS, LEVELS))) == {"FGSM": fgsm}
    assert legend(accuracy_curves(curve(HITS, LEVELS, attack="foolbox.L2PGD"))) == {"foolbox.L2PGD": fgsm}


def test_several_models_and_attacks_have_a_color_for_each_model_and_a_style_for_each_attack() -> None:
    several = [curve(HITS, LEVELS, attack=attack, model=model) for model in "abc" for attack in ("fgsm", "pgd")]
    axes = accuracy_curves(several, names=[name for name in ("plain", "wide", "robust") for _ in range(2)])
    looks = drawn(axes)
    assert [color for color, _ in looks[::2]] == [color for color, _ in looks[1::2]]
    assert len({color for color, _ in looks}) == 3
    assert {style for _, style in looks[::2]} == {"-"}
    assert {style for _, style in looks[1::2]} == {"--"}
    shown = legend(axes)
    assert list(shown) == ["plain", "wide", "robust", "FGSM", "PGD"]
    assert [shown[name][0] for name in ("plain", "wide", "robust")] == [color for color, _ in looks[::2]]
    assert [shown[name][1] for name in ("FGSM", "PGD")] == ["-", "--"]
    assert len({shown["FGSM"][0]} & {color for color, _ in looks}) == 0  # grey: any model's


def test_models_without_names_are_numbered_by_their_weights() -> None:
    several = [curve(HITS, LEVELS), curve(HITS, LEVELS, model="b"), curve(HITS, LEVELS, attack="pgd")]
    assert list(legend(accuracy_curves(several))) == ["model 1", "model 2", "FGSM", "PGD"]
    axes = accuracy_curves(several[:2])
    assert list(legend(axes)) == ["model 1", "model 2"]
    assert axes.get_legend().get_title().get_text() == "FGSM"


def test_a_legend_stands_beside_the_curves() -> None:
    axes = accuracy_curves([curve(HITS, LEVELS), curve(HITS, LEVELS, model="b")], names=["plain", "a longer name"])
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1


def test_given_axes_are_used_and_global_settings_kept() -> None:
    axes = plt.subplots()[1]
    before = dict(mpl.rcParams)
    assert accuracy_curves(curve(HITS, LEVELS), ax=axes) is axes
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("curves", "names", "error", "match"),
    [
        ([], None, ValueError, "curves must have at least one entry, got none"),
        ([1.0], None, TypeError, "curves must be AccuracyCurve results, got float"),
        (
            [curve(HITS, LEVELS), curve(HITS, LEVELS, norm="l2")],
            None,
            ValueError,
            r"curves must have the same norm, got \['l2', 'linf'\]",
        ),
        ([curve(HITS, LEVELS)], ["a", "b"], ValueError, "names must have 1 entries, one per result, got 2"),
        ([curve(HITS, LEVELS)], "a", TypeError, "names must be a sequence of names, got 'a'"),
    ],
)
def test_bad_input_is_refused(curves: list, names: list | None, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        accuracy_curves(curves, names=names)
