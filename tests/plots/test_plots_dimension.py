"""Figures of dimensions: densities, shares with at least k, claims, and sequential distances."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from dimensions_by_hand import dimensions, transferred
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

import boundarygeo as bg
from boundarygeo.plots import claimed_verified, class_colors, dimension, dimension_at_least, sequential_distances
from boundarygeo.results import Provenance
from boundarygeo.results.statistics import mean, share
from boundarygeo.subspace.sequential.sequential import STOPS, SequentialDirections


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def outlines(axes: Axes) -> list[StepPatch]:
    return [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]


def stems(axes: Axes) -> list[tuple[Any, ...]]:
    """Marker, count and share of each."""
    lines = [line for line in axes.get_lines() if line.get_marker() not in ("", "None", None)]
    return [(line.get_marker(), line.get_xdata()[0], line.get_ydata()[0]) for line in lines]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def title(axes: Axes) -> str:
    return axes.get_legend().get_title().get_text()


# Of the density


COUNTS = [0, 0, 1, 2, 2, 5, 8, 8, 200, 200]


def test_shares_at_zero_and_at_the_cap_stand_by_themselves() -> None:
    axes = dimension(dimensions(COUNTS), names=["net"])
    (outline,) = outlines(axes)
    values, edges, _ = outline.get_data()
    assert edges[0] == 0.5  # no mass at or below zero
    assert np.nansum(values * np.diff(edges)) / 5 == pytest.approx(0.6)  # per 5 directions: the others' share
    assert sorted(stems(axes)) == [(">", 200, 0.2), ("o", 0, 0.2)]
    average = mean(np.array(COUNTS, dtype=float), within=(0, np.inf)).plain(1)
    assert words(axes) == [f"fool net: mean {average}, n = 10; none 20 %, at the cap 20 %"]
    assert title(axes) == (
        "ε = 2 (L2, input units), gradient-aligned frames, all of a frame succeed, inside the bounds\n"
        "stems: ● none, ▶ limited by the cap of 200; 20 % proven maximal"
    )
    assert axes.get_xlabel() == "number of orthogonal adversarial directions"
    assert axes.get_ylabel() == "density: share of examples\nper 5 directions"
    assert axes.get_xlim()[0] < 0 < 200 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > np.nanmax(values)


def test_small_counts_have_a_bin_each() -> None:
    axes = dimension(dimensions([0, 1, 1, 3]))
    values, edges, _ = outlines(axes)[0].get_data()
    np.testing.assert_allclose(edges, [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(values, [0.5, np.nan, 0.25])
    assert stems(axes) == [("o", 0, 0.25)]  # none at the cap, no stem
    assert axes.get_ylabel() == "share of examples"
    assert axes.get_xlim()[1] < 5  # the cap is far away


def test_the_last_bin_is_a_density_where_the_cap_cuts_it() -> None:
    # Under a cap of 9 there are 1 to 4, 5 to 8; under one of 8, the last bin has only three counts.
    axes = dimension(dimensions([1, 2, 6, 8], cap=8), width=4)
    values, edges, _ = outlines(axes)[0].get_data()
    np.testing.assert_allclose(edges, [0.5, 4.5, 7.5])
    np.testing.assert_allclose(values, [0.5, 0.25 * 4 / 3])
    assert stems(axes) == [(">", 8, 0.25)]


@pytest.mark.parametrize(
    ("counts", "cap"), [([0], 200), ([1], 200), ([200], 200), ([0, 199, 200], 200), ([41], 200), ([0, 1, 1], 1)]
)
def test_all_the_examples_are_somewhere(counts: list[int], cap: int) -> None:
    for width in (None, 1, 7, 1000):
        axes = dimension(dimensions(counts, cap=cap), width=width)
        values, edges, _ = outlines(axes)[0].get_data()
        step = int(axes.get_ylabel().split()[-2]) if "per" in axes.get_ylabel() else 1
        whole = np.nansum(values * np.diff(edges)) / step + sum(height for *_, height in stems(axes))
        assert whole == pytest.approx(1)
        assert edges[-1] <= max(cap - 0.5, 1.5)


def test_misclassified_examples_are_left_out() -> None:
    axes = dimension(dimensions([1, 5, 5], correct=[True, False, True]))
    assert "mean 3.0 [0.0, 28.4] (88 %), n = 2; none 0 %" in words(axes)[0]


def test_transferred_counts_are_over_the_examples_that_both_get_right() -> None:
    source = dimensions([4, 2, 2, 4])
    others = [
        transferred(source, [1, 0, 2, 0], correct=[True, True, True, False]),
        transferred(source, [4, 2, 2, 4], model="c"),
    ]
    axes = dimension(source, others, names=["A", "B", "C"])
    lines = words(axes)
    assert [line.split(":")[0] for line in lines] == ["fool A", "of these, fool B", "of these, fool C"]
    assert "mean 3.0 [" in lines[0]
    assert "mean 1.0 [" in lines[1]
    assert "n = 3; none 33 %, at the cap 0 %" in lines[1]
    assert "n = 4; none 0 %" in lines[2]
    values = [outline.get_data().values for outline in outlines(axes)]
    np.testing.assert_allclose(values[0], [np.nan, 0.5, np.nan, 0.5])
    np.testing.assert_allclose(values[1], [1 / 3, 1 / 3, np.nan, np.nan])
    colors = [to_hex(outline.get_edgecolor()) for outline in outlines(axes)]
    assert colors == [to_hex(color) for color in class_colors(3)]
    assert len({outline.get_linestyle() for outline in outlines(axes)}) == 3
    assert stems(axes) == [("o", 0, pytest.approx(1 / 3))]
    # One other model needs no list.
    assert words(dimension(source, others[0], names=["A", "B"])) == lines[:2]


def test_stems_of_several_models_stand_beside_each_other() -> None:
    source = dimensions([0, 4, 200, 200])
    axes = dimension(source, [transferred(source, [0, 0, 200, 0]), transferred(source, [0, 0, 0, 0], model="c")])
    axes.figure.canvas.draw()
    places = {
        marker: [
            line.get_transform().transform((line.get_xdata()[0], 0))[0]
            for line in axes.get_lines()
            if line.get_marker() == marker
        ]
        for marker in "o>"
    }
    left, right = axes.bbox.x0, axes.bbox.x1
    assert left < places["o"][0] < places["o"][1] < places["o"][2] == axes.transData.transform((0, 0))[0]
    assert axes.transData.transform((200, 0))[0] == places[">"][0] < places[">"][1] < right


def test_long_words_do_not_make_the_axes_narrow() -> None:
    source = dimensions([1, 2, 3])
    name = "package.module:a_factory_with_a_long_name"
    widths = []
    for names in (["A", "B"], [name, name + "_2"]):
        axes = dimension(source, transferred(source, [0, 1, 1]), names=names)
        axes.figure.canvas.draw()
        widths.append(axes.get_position().width)
        assert axes.get_legend().get_window_extent().x1 < axes.figure.bbox.x1
    assert widths[0] == pytest.approx(widths[1], abs=0.02)
    assert " ".join(words(axes)[1].split()).startswith(f"of these, fool {name}_2: mean")
    assert "\n" in words(axes)[1]


# Of the shares with at least k


def curve(axes: Axes, number: int) -> tuple[np.ndarray, np.ndarray]:
    line = [line for line in axes.get_lines() if line.get_marker() in ("", "None", None)][number]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_shares_with_at_least_k_and_their_intervals() -> None:
    counts = [0, 1, 1, 3, 5]
    axes = dimension_at_least(dimensions(counts, cap=5))
    k, value = curve(axes, 0)
    np.testing.assert_allclose(k[1:], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(value[1:], [0.8, 0.4, 0.4, 0.2, 0.2])
    assert 0 < k[0] < 1
    assert value[0] == 0.8  # below one, the share with at least one
    corners = axes.collections[0].get_paths()[0].vertices
    for size, hits in ((2, 2), (4, 1)):  # inside the step that ends there
        heights = corners[np.isclose(corners[:, 0], size), 1]
        expected = share(hits, 5)
        assert np.isclose(heights, expected.low).any()
        assert np.isclose(heights, expected.high).any()
    assert stems(axes) == [(">", 5, 0.2)]  # limited by the cap
    assert "n = 5 examples; bands: 95 % (Wilson); ▶ limited by the cap of 5" in title(axes)
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "examples with at least k directions"
    assert axes.get_xlabel() == "k, number of orthogonal adversarial directions"
    assert words(axes) == []


def test_steps_go_down_behind_each_number() -> None:
    axes = dimension_at_least(dimensions([1, 2], cap=4))
    assert axes.get_lines()[0].get_drawstyle() == "steps-pre"
    assert stems(axes) == []
    assert "cap" not in title(axes)


def test_settings_that_differ_are_in_the_legend_and_the_others_in_the_title() -> None:
    several = [
        dimensions([1, 2], eps=eps, box=box, model=model)
        for model in "ab"
        for eps, box in ((1.0, "clip"), (2.0, "ignore"))
    ]
    axes = dimension_at_least(several, names=["plain", "plain", "robust", "robust"])
    assert words(axes) == [
        "plain",
        "robust",
        "ε = 1 (L2, input units), clipped to the bounds",
        "ε = 2 (L2, input units), bounds ignored",
    ]
    assert title(axes).startswith("gradient-aligned frames, all of a frame succeed\nn = 2 examples")
    lines = axes.get_lines()
    looks = [(to_hex(line.get_color()), line.get_linestyle()) for line in lines]
    assert looks[0][0] == looks[1][0] != looks[2][0] == looks[3][0]
    assert [style for _, style in looks] == ["-", "--", "-", "--"]
    several = [
        dimensions([1]),
        dimensions([1], norm="linf", method="frame", rule="count", targets=torch.ones(1, dtype=torch.int64)),
    ]
    assert words(dimension_at_least(several)) == [
        "ε = 2 (L2, input units), gradient-aligned frames, all of a frame succeed",
        "ε = 2 (L∞, input units), optimised frames, most successes in a frame, targeted",
    ]


def test_models_are_told_apart_by_their_weights() -> None:
    axes = dimension_at_least([dimensions([1, 2]), dimensions([3, 4], model="b"), dimensions([5, 6], eps=3.0)])
    assert words(axes)[:2] == ["model 1", "model 2"]
    assert len(words(axes)) == 4


# Of the claims


def test_claims_by_the_side_of_the_diagonal() -> None:
    #           below     equal  above   at the cap: above, not known, not known
    claimed = [5, 5, 9, 0, 3, 0, 2, 2, 4, 10, 99]
    verified = [2, 2, 0, 0, 3, 1, 4, 4, 10, 10, 10]
    axes = claimed_verified(dimensions(verified, claimed=claimed, cap=10))
    assert axes.get_xscale() == axes.get_yscale() == "symlog"
    below, equal, above, unknown = (
        {tuple(point) for point in dots.get_offsets().tolist()} for dots in axes.collections
    )
    assert below == {(5, 2), (9, 0)}
    assert equal == {(0, 0), (3, 3)}
    assert above == {(0, 1), (2, 4), (4, 10)}
    assert unknown == {(10, 10), (99, 10)}
    sizes = {
        tuple(p): s
        for p, s in zip(axes.collections[0].get_offsets().tolist(), axes.collections[0].get_sizes(), strict=True)
    }
    assert sizes[5, 2] == pytest.approx(2 * sizes[9, 0])  # areas count examples
    assert words(axes) == [
        "verified = claimed",
        f"fewer than claimed:\n{share(3, 11).percent()}",
        f"as many:\n{share(2, 11).percent()}",
        f"more than claimed:\n{share(4, 11).percent()}",
        f"at the cap, claimed\nas many or more:\n{share(2, 11).percent()}",
    ]
    assert title(axes).startswith("n = 11 examples")
    assert [text.get_text() for text in axes.texts] == ["cap 10"]
    assert axes.get_title(loc="left").startswith("ε = 2 (L2, input units), gradient-aligned frames")
    for axis, limits in ((axes.get_xticks(), axes.get_xlim()), (axes.get_yticks(), axes.get_ylim())):
        assert 0 in axis  # zeros are seen
        assert limits[0] < 0
        assert limits[1] > 99


def test_claims_below_the_cap_do_not_speak_of_it() -> None:
    axes = claimed_verified(dimensions([1, 2, 3], claimed=[1, 2, 0], correct=[True, True, False]))
    assert not any("cap" in text for text in words(axes))
    assert not axes.texts
    assert title(axes).startswith("n = 2 examples")


def test_areas_stay_small_and_in_proportion() -> None:
    axes = claimed_verified(dimensions([1] * 500 + [2] * 100, claimed=[1] * 600))
    equal, above = (dots.get_sizes() for dots in axes.collections[1:3])
    assert float(equal[0]) <= 400
    assert float(equal[0]) == pytest.approx(5 * float(above[0]))


# Of the sequential distances


def sequential(distance: list[list[float]], *, valid: list[bool] | None = None, model: str = "a", **changes):
    lengths = torch.tensor(distance, dtype=torch.float64)
    n = len(lengths)
    fields = {
        "provenance": Provenance(command="by hand", model=model),
        "distance": lengths,
        "adversarial_label": lengths.isfinite().long() - 1,
        "count": lengths.isfinite().sum(1),
        "stopped": torch.zeros(n).long(),
        "attempts": torch.ones(n).long(),
        "orthogonality": torch.zeros(n),
        "perturbations": torch.zeros(0, 2),
        "owner": torch.zeros(0).long(),
        "rank": torch.zeros(0).long(),
        "true_labels": torch.zeros(n).long(),
        "index": torch.arange(n),
        "valid": torch.ones(n).bool() if valid is None else torch.tensor(valid),
        "stops": STOPS,
        "max_directions": lengths.shape[1],
        "eps": None,
        "box": "feasible",
        "tolerance": 1e-5,
    }
    return SequentialDirections(**(fields | changes))


INF = float("inf")
# Of five examples, 5, 4, 2 and none have a first, second, third, fourth direction.
LENGTHS = [[1, 2, 4, INF], [2, 3, 5, INF], [3, 4, INF, INF], [4, 5, INF, INF], [5, INF, INF, INF], [9, 9, 9, 9]]


def test_missing_directions_are_infinitely_far_and_counted() -> None:
    figure = sequential_distances(sequential(LENGTHS, valid=[True] * 5 + [False]))
    above, below = figure.axes
    lower, middle, upper = (np.asarray(line.get_ydata()) for line in above.get_lines())
    np.testing.assert_array_equal(lower, [2, 3, 5, np.nan])
    np.testing.assert_array_equal(middle, [3, 4, np.nan, np.nan])  # not that of the two that are left
    np.testing.assert_array_equal(upper, [4, 5, np.nan, np.nan])
    number, value = below.get_lines()[0].get_data()
    np.testing.assert_array_equal(number, [1, 2, 3, 4])
    np.testing.assert_allclose(value, [1, 0.8, 0.4, 0])
    corners = below.collections[0].get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], 3), 1]
    assert (heights.min(), heights.max()) == pytest.approx((share(2, 5).low, share(2, 5).high))
    assert above.get_title() == "n = 5 examples; median and quartiles, inside the bounds"
    assert above.get_ylabel() == "L2 distance, in input units"
    assert below.get_xlabel() == "number of the direction, in the order of finding"
    assert above.get_ylim()[0] == 0
    assert not figure.legends
    assert not plt.get_fignums()


def test_sequential_results_of_several_models_and_boxes() -> None:
    several = [sequential(LENGTHS, model=model, box=box, eps=6.0) for model in "ab" for box in ("feasible", "ignore")]
    figure = sequential_distances(several, names=["plain", "plain", "robust", "robust"])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["plain", "robust", "inside the bounds", "bounds ignored"]
    assert figure.axes[0].get_title() == "n = 6 examples; median and quartiles; none longer than 6"
    looks = [(to_hex(line.get_color()), line.get_linestyle()) for line in figure.axes[1].get_lines()]
    assert len(set(looks)) == 4


# Of all


def test_given_axes_are_used() -> None:
    result = dimensions([1, 2])
    for function in (dimension, dimension_at_least, claimed_verified):
        axes = plt.subplots()[1]
        assert function(result, ax=axes) is axes


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(plt.rcParams)
    dimension(dimensions([1, 2]))
    assert dict(plt.rcParams) == before


EXCLUDED, RENUMBERED = dimensions([1, 2], correct=[False, False]), dimensions([1, 2], index=torch.tensor([4, 5]))
OTHER, FOREIGN = dimensions([1, 2], model="z"), "transferred does not belong to the directions of result"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: dimension("a"), TypeError, "result must be AdversarialDimension results, got str"),
        (lambda: dimension(dimensions([1]), ["a"]), TypeError, "transferred must be TransferredDimension results"),
        (lambda: dimension(dimensions([1, 2]), transferred(OTHER, [1, 1])), ValueError, FOREIGN),
        (lambda: dimension(dimensions([1, 2]), transferred(dimensions([1]), [1])), ValueError, FOREIGN),
        (lambda: dimension(dimensions([1, 2]), transferred(RENUMBERED, [1, 1])), ValueError, FOREIGN),
        (lambda: dimension(dimensions([1]), width=0), ValueError, "width must be at least 1, got 0"),
        (lambda: dimension(dimensions([1]), names=["a", "b"]), ValueError, "names must have 1 entries"),
        (lambda: dimension(EXCLUDED), ValueError, "classifies no example correctly"),
        (
            lambda: dimension(dimensions([1]), transferred(dimensions([1]), [0], correct=[False]), names=["A", "B"]),
            ValueError,
            "B classifies no example correctly: there is nothing to draw",
        ),
        (lambda: dimension_at_least([]), ValueError, "results must have at least one entry, got none"),
        (lambda: dimension_at_least(["a"]), TypeError, "results must be AdversarialDimension results, got str"),
        (lambda: dimension_at_least(EXCLUDED), ValueError, "classifies no example correctly"),
        (lambda: claimed_verified([1]), TypeError, "result must be AdversarialDimension results, got list"),
        (lambda: claimed_verified(EXCLUDED), ValueError, "no example of result is classified correctly"),
        (lambda: claimed_verified(dimensions([1]), ax=3), TypeError, "ax must be matplotlib Axes, got int"),
        (lambda: sequential_distances("a"), TypeError, "results must be SequentialDirections results, got str"),
        (
            lambda: sequential_distances(sequential([[INF]], valid=[False]), names=["net"]),
            ValueError,
            "net classifies no example correctly: there is nothing to draw",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()


def test_real_results_are_drawn(tmp_path) -> None:
    clf = bg.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), device="cpu")
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = clf.predict(x)
    result = bg.adversarial_dimension(clf, x, y, eps=2.0, norm="linf")
    path = bg.plots.save_figure(dimension(result), tmp_path / "d.svg")
    assert path.stat().st_size > 1000
    assert "L∞" in title(dimension(result))
