"""Every result comes back from its store as it was saved."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from analyses import EPS, ONE, QUIET, SEVERAL, Classifiers, X, Y, classifier

import boundarygeo as bg
from boundarygeo.results.result import equal_values

FURTHER: dict[str, Callable[[Classifiers], Any]] = {
    "mistakes": lambda these: bg.transfer_mistakes(SEVERAL["matrix"](these)),
    "targeted matrix": lambda these: bg.transfer_matrix(
        these, X, Y, attack="fgsm", eps=EPS, targets=(Y + 1) % 3, index=[7, 3, 5, 4], **QUIET
    ),
    "predictors with dimensions": lambda these: bg.transfer_predictors(
        these, X, Y, SEVERAL["matrix"](these), dimensions=[3, 4], draws=2, steps=4, **QUIET
    ),
    "bases": lambda these: bg.perturbation_bases(these["a"], X, Y, dimension=2, eps=1.0, restarts=3, steps=3, **QUIET),
    "smoothed": lambda these: bg.defences.predict_smoothed(these["a"], X, sigma=0.1, n=20, **QUIET),
}


@pytest.mark.parametrize("name", [*ONE, *SEVERAL, *FURTHER])
def test_a_result_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    these = {"a": classifier("cpu"), "b": classifier("cpu", 1)}
    result = ONE[name](these["a"]) if name in ONE else (SEVERAL | FURTHER)[name](these)
    again = bg.load(result.save(tmp_path / "result.zarr"))
    assert type(again) is type(result)
    for field in dataclasses.fields(result):
        assert equal_values(getattr(again, field.name), getattr(result, field.name)), field.name
