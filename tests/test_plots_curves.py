from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from boundarygeo.plots.curves import accuracy_curves
from boundarygeo.results import Provenance
from boundarygeo.sections.accuracy import AccuracyCurve
from boundarygeo.statistics import share

LEVELS = [k / 255 for k in range(9)]


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


def curve(
    hits: list[int], eps: list[float], *, norm: str = "linf", attack: str = "fgsm", model: str = "a", n: int = 100
) -> AccuracyCurve:
    shares = [share(count, n) for count in hits]
    return AccuracyCurve(
        provenance=Provenance(command="by hand", model=model),
        eps=torch.tensor(eps, dtype=torch.float64),
        accuracy=torch.tensor([s.value for s in shares], dtype=torch.float64),
        low=torch.tensor([s.low for s in shares], dtype=torch.float64),
        high=torch.tensor([s.high for s in shares], dtype=torch.float64),
        correct=torch.arange(n)[None] < torch.tensor(hits)[:, None],
        index=torch.arange(n),
        n=n,
        attack=attack,
        norm=norm,
    )


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
    assert lines[0].get_color().tolist() != lines[1].get_color().tolist()
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


def test_default_names_tell_attacks_and_models_apart() -> None:
    def names(curves: list[AccuracyCurve]) -> list[str]:
        return [text.get_text() for text in accuracy_curves(curves).get_legend().get_texts()]

    one, same = curve(HITS, LEVELS), curve(HITS, LEVELS, attack="pgd")
    assert names([one]) == ["FGSM"]
    assert names([one, same]) == ["FGSM", "PGD"]
    assert names([one, curve(HITS, LEVELS, model="b")]) == ["model 1, FGSM", "model 2, FGSM"]


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
            r"curves must be in one norm, got \['l2', 'linf'\]",
        ),
        ([curve(HITS, LEVELS)], ["a", "b"], ValueError, "names must have 1 entries, one per curve, got 2"),
        ([curve(HITS, LEVELS)], "a", TypeError, "names must be a sequence of names, got 'a'"),
    ],
)
def test_bad_input_is_refused(curves: list, names: list | None, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        accuracy_curves(curves, names=names)
