"""Shares of labels that change within a distance: steps, censoring, bands and panels."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from results_by_hand import distances_of as result

from boundarygeo.plots import distances
from boundarygeo.results.statistics import share

INF, NAN = math.inf, math.nan


def value_at(line, t: float) -> float:
    """Height of a step curve just after t."""
    x, y = (np.asarray(values) for values in line.get_data())
    assert line.get_drawstyle() == "steps-post"
    return float(y[np.flatnonzero(x <= t)[-1]])


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_curve_steps_up_at_each_distance_and_ends_at_the_reach() -> None:
    # 5 examples with a direction: one changes at 0.25, two at 0.5, two not within reach; one has none.
    figure = distances(result([0.5, INF, 0.25, NAN, 0.5, INF]))
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    for t, expected in ((0, 0.0), (0.24, 0.0), (0.25, 0.2), (0.49, 0.2), (0.5, 0.6), (1.0, 0.6)):
        assert value_at(line, t) == pytest.approx(expected), t
    assert line.get_xdata()[-1] == 1.0
    assert axes.get_title() == "n = 5 examples (1 without a direction); bands: 95 % (Wilson)"
    assert axes.get_xlabel() == "distance, in L2"
    assert axes.get_xlim() == (0, 1)
    assert legend(figure) == ["+ random"]


def test_bands_are_wilson_intervals_over_all_examples() -> None:
    figure = distances(result([0.5, INF, 0.25, NAN, 0.5, INF]))
    (band,) = figure.axes[0].collections
    corners = np.asarray(band.get_paths()[0].vertices)
    for t, hits in ((0.1, 0), (0.3, 1), (0.9, 3)):
        # The band is constant between two steps: its corners there are those of the step before t.
        start = max(x for x in corners[:, 0] if x <= t)
        heights = corners[np.isclose(corners[:, 0], start), 1]
        expected = share(hits, 5)
        assert any(np.isclose(heights, expected.low)), t
        assert any(np.isclose(heights, expected.high)), t


def test_bands_of_many_examples_are_close_to_each_count_s_interval() -> None:
    values = np.linspace(0.001, 1, 2000).tolist()
    figure = distances(result(values))
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    for hits in (1, 3, 500, 1234, 2000):
        start = values[hits - 1]
        heights = corners[np.isclose(corners[:, 0], start), 1]
        expected = share(hits, 2000)
        assert np.abs(heights - expected.low).min() < 1e-3
        assert np.abs(heights - expected.high).min() < 1e-3


def test_all_censored_is_a_line_at_zero_with_its_band() -> None:
    figure = distances(result([INF] * 4, reach=2.0))
    (line,) = figure.axes[0].get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [0.0, 0.0]
    assert np.asarray(line.get_xdata()).tolist() == [0.0, 2.0]
    top = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(share(0, 4).high)


def test_each_unit_has_its_panel_and_each_model_its_color() -> None:
    several = [
        result([0.1, INF], reach=0.5, name=name, unit=unit, model=model)
        for model in "ab"
        for name, unit in (("+ FGSM", "ε (L∞)"), ("- FGSM", "ε (L∞)"), ("+ random", "L2"))
    ]
    figure = distances(several, names=["plain"] * 3 + ["robust"] * 3)
    first, second = figure.axes
    assert (first.get_xlabel(), second.get_xlabel()) == ("distance, in ε (L∞)", "distance, in L2")
    assert (len(first.get_lines()), len(second.get_lines())) == (4, 2)
    assert first.get_ylabel() == "label changed within the distance"
    looks = [(to_hex(line.get_color()), line.get_linestyle()) for axes in (first, second) for line in axes.get_lines()]
    colors = [color for color, _ in looks]
    assert colors[0] == colors[1] == colors[4]
    assert colors[2] == colors[3] == colors[5] != colors[0]
    assert [style for _, style in looks] == ["-", "--", "-", "--", "-.", "-."]
    assert legend(figure) == ["plain", "robust", "+ FGSM", "- FGSM", "+ random"]


def test_curves_of_one_panel_end_at_their_own_reach() -> None:
    figure = distances([result([0.1, INF], reach=0.5), result([0.1, 0.9], reach=2.0, model="b")])
    assert [float(line.get_xdata()[-1]) for line in figure.axes[0].get_lines()] == [0.5, 2.0]
    assert figure.axes[0].get_xlim() == (0, 2)
    assert legend(figure) == ["model 1", "model 2"]


@pytest.mark.parametrize(
    ("results", "names", "error", "match"),
    [
        ([], None, ValueError, "results must have at least one entry, got none"),
        ([1.0], None, TypeError, "results must be BoundaryDistances results, got float"),
        (result([NAN, NAN]), None, ValueError, r"no example has a direction along '\+ ran"),
        ([result([0.1])], ["a", "b"], ValueError, "names must have 1 entries, one per result, got 2"),
        ([result([0.1])], "a", TypeError, "names must be a sequence of names, got 'a'"),
    ],
)
def test_bad_input_is_refused(results: list, names: list | None, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        distances(results, names=names)
