"""Maps in a few numbers, against counting by hand."""

import numpy as np
import pytest
import torch
from synthetic_maps import make_maps

from boundarygeo.maps.regions import agreement
from boundarygeo.maps.summary import map_summary, mean_agreement
from boundarygeo.results.statistics import share


def labels() -> np.ndarray:
    made = np.zeros((4, 9, 9), dtype=int)
    made[0, :, 7:] = 1  # on the right, from 3 pixels off the middle
    made[1, 6:] = 1  # above, from 2 pixels off
    made[2], made[3] = 1, -1  # misclassified, and without a plane
    return made


SETTINGS = {"extent": 0.4, "true_labels": [0, 0, 0, 0], "valid": [True, True, True, False]}


def test_a_summary_by_hand() -> None:
    evaluated = torch.tensor([1.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    summary = map_summary([make_maps(labels(), evaluated=evaluated, **SETTINGS)])
    assert (summary.n, summary.misclassified, summary.missing, summary.count) == (2, 1, 1, 4)
    assert summary.evaluated == 0.5
    names = [f"{sign} {axis}" for axis in ("FGSM sign direction", "random orthogonal") for sign in "+-"]
    assert [half.name for half in summary.halves] == names
    assert [half.changed for half in summary.halves] == [share(1, 2), share(0, 2), share(1, 2), share(0, 2)]
    right, left, top, _ = summary.halves
    # The middle between the last pixel of the class and the first of another, in steps of 0.1: 2.5 and 1.5.
    assert [right.distance.low, top.distance.low] == pytest.approx([0.25, 0.15])
    assert right.distance.value == np.inf  # of one alone is known how far it is
    assert left.true_share == pytest.approx((1 + 6 / 9) / 2)


def test_maps_in_parts_are_those_together() -> None:
    made = labels()
    whole = map_summary([make_maps(made, **SETTINGS)])
    parts = [make_maps(made[k : k + 1], extent=0.4, true_labels=[0], valid=[SETTINGS["valid"][k]]) for k in range(4)]
    assert map_summary(iter(parts)) == whole


def test_agreement_is_averaged_over_all_planes() -> None:
    valid = [True] * 3
    first, second = make_maps(labels()[:3], valid=valid), make_maps(np.roll(labels()[:3], 1, axis=0), valid=valid)
    assert mean_agreement([first], [second]) == float(agreement(first, second).mean())
    with pytest.raises(ValueError, match="shorter"):
        mean_agreement([first, first], [second])
