"""Gradient cosines as curves: medians, quartiles, missing gradients."""

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from results_by_hand import cosines_of as cosines

from boundarygeo.plots import straightness

T = [-0.2, 0.0, 0.1]


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


NAN = float("nan")
FIVE = [[0.1, 1.0, 0.9], [0.2, 1.0, 0.8], [0.3, 1.0, NAN], [0.4, 1.0, 0.6], [0.5, 1.0, 0.5], [NAN, NAN, NAN]]


def test_median_and_quartiles_over_the_examples() -> None:
    axes = straightness(cosines(FIVE))
    line, _ = axes.get_lines()  # the other is at 0
    np.testing.assert_allclose(line.get_xdata(), T)
    np.testing.assert_allclose(line.get_ydata(), [0.3, 1.0, 0.7])
    corners = axes.collections[0].get_paths()[0].vertices
    for t, low, high in ((-0.2, 0.2, 0.4), (0.1, 0.575, 0.825)):
        heights = corners[np.isclose(corners[:, 0], t), 1]
        assert (heights.min(), heights.max()) == pytest.approx((low, high))
    assert axes.get_title() == "n = 5 examples; median and quartiles"
    assert axes.get_xlabel() == "FGSM sign direction, in ε (L∞); inputs clipped to the bounds"
    assert axes.get_ylabel() == "cosine with the gradient at 0"
    assert axes.get_legend() is None
    assert axes.get_ylim()[1] > 1


def test_points_are_drawn_in_their_order() -> None:
    axes = straightness(cosines([[0.5, 0.25, 1.0]], t=[0.2, -0.1, 0.0], clip=False))
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), [-0.1, 0.0, 0.2])
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [0.25, 1.0, 0.5])
    assert axes.get_xlabel() == "FGSM sign direction, in ε (L∞)"


def test_each_model_has_its_color_and_each_direction_its_style() -> None:
    several = [
        cosines(FIVE, name=name, unit="L2", model=model) for model in "ab" for name in ("loss gradient", "random")
    ]
    axes = straightness(several, names=["plain", "plain", "robust", "robust"])
    looks = [(to_hex(line.get_color()), line.get_linestyle()) for line in axes.get_lines()[:4]]
    assert looks[0][0] == looks[1][0] != looks[2][0] == looks[3][0]
    assert [style for _, style in looks] == ["-", "--", "-", "--"]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["plain", "robust", "loss gradient", "random"]
    assert axes.get_xlabel().startswith("step, in L2")


def test_given_axes_are_used() -> None:
    axes = plt.subplots()[1]
    assert straightness(cosines(FIVE), ax=axes) is axes


@pytest.mark.parametrize(
    ("results", "names", "error", "match"),
    [
        ([], None, ValueError, "cosines must have at least one entry, got none"),
        (["a"], None, TypeError, "cosines must be GradientCosines results, got str"),
        (
            [cosines(FIVE), cosines(FIVE, unit="L2")],
            None,
            ValueError,
            r"cosines must have the same unit, got \['ε \(L∞\)', 'L2'\]",
        ),
        ([cosines(FIVE)], [], ValueError, "names must have 1 entries, one per result, got 0"),
    ],
)
def test_bad_input_is_refused(results: list, names: list | None, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        straightness(results, names=names)
