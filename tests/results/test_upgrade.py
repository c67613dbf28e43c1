"""Stores of version 0.1, and stores read by a process that has not computed anything."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from analyses import ONE, SEVERAL, classifier
from torch import Tensor

import boundarygeo as bg
from boundarygeo.results.upgrade import RENAMED

NAMES = {
    "AdversarialDimension": "gaas",
    "BoundaryDistances": "distances",
    "AdversarialExamples": "pgd",
    "LogitLines": "lines",
    "CertifiedRadii": "certificates",
    "LinearPieces": "pieces",
    "SegmentCurves": "segments",
    "SequentialDirections": "sequential",
    "SharedDimension": "shared",
    "TransferMatrix": "matrix",
    "TransferPredictors": "predictors",
}


def result_of(kind: str) -> bg.Result:
    name = NAMES[kind]
    return (
        ONE[name](classifier("cpu"))
        if name in ONE
        else SEVERAL[name]({"a": classifier("cpu"), "b": classifier("cpu", 1)})
    )


def as_of_version_0_1(result: bg.Result, path: Path, **attributes: object) -> Path:
    """Saved with the names that version 0.1 had."""
    kind = type(result).__name__
    dataset = result.to_xarray()
    before = {new: old for old, new in RENAMED.get(kind, {}).items() if new in dataset}
    dataset = dataset.rename(before)
    if kind == "LinearPieces":
        dataset = dataset.drop_vars("index")
    if kind in ("AdversarialDimension", "AdversarialExamples"):
        dataset.attrs["targeted"] = "false"
    for old, new in RENAMED.get(kind, {}).items():
        if new in dataset.attrs:
            dataset.attrs[old] = dataset.attrs.pop(new)
    dataset.attrs |= {"boundarygeo_format": 1} | {name: json.dumps(value) for name, value in attributes.items()}
    dataset.to_zarr(path, consolidated=False, zarr_format=3)
    return path


@pytest.mark.filterwarnings("ignore:.*onsolidated")
@pytest.mark.parametrize("kind", NAMES)
def test_stores_of_version_0_1_have_todays_names(kind: str, tmp_path: Path) -> None:
    result = result_of(kind)
    again = bg.load(as_of_version_0_1(result, tmp_path / "old.zarr"))
    assert type(again) is type(result)
    for name, value in vars(result).items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(getattr(again, name), value, rtol=0, atol=0, equal_nan=True, msg=name)
        elif name != "provenance":
            assert getattr(again, name) == value, name


@pytest.mark.filterwarnings("ignore:.*onsolidated")
@pytest.mark.parametrize(("kind", "old"), [("SequentialDirections", "max_norm"), ("TransferPredictors", "radius")])
def test_sizes_of_version_0_1_are_eps_today(kind: str, old: str, tmp_path: Path) -> None:
    result = result_of(kind)
    path = as_of_version_0_1(result, tmp_path / "old.zarr")
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    assert old in attributes
    assert "eps" not in attributes
    with pytest.warns(DeprecationWarning, match=f"{kind}.{old} is 'eps' since version 0.2"):
        assert getattr(bg.load(path), old) == result.eps  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*onsolidated")
@pytest.mark.parametrize("kind", ["AdversarialDimension", "AdversarialExamples"])
def test_targeted_results_of_version_0_1_are_refused(kind: str, tmp_path: Path) -> None:
    path = as_of_version_0_1(result_of(kind), tmp_path / "old.zarr", targeted=True)
    with pytest.raises(ValueError, match="lack the true classes: compute them again"):
        bg.load(path)


def test_a_process_that_has_computed_nothing_reads_every_kind(tmp_path: Path) -> None:
    kinds = ["BoundaryDistances", "SharedDimension"]
    paths = [str(result_of(kind).save(tmp_path / kind)) for kind in kinds]
    code = f"import boundarygeo as bg; print(*(type(bg.load(path)).__name__ for path in {paths}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == kinds


def test_names_of_version_0_1_still_work_and_warn() -> None:
    matrix = result_of("TransferMatrix")
    with pytest.warns(DeprecationWarning, match="TransferMatrix.labels is 'predicted' since version 0.2"):
        assert matrix.labels is matrix.predicted  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        matrix.nothing  # type: ignore[attr-defined]  # noqa: B018
    clf, x = classifier("cpu"), torch.rand(2, 3, 8, 8)
    with pytest.warns(DeprecationWarning, match="direction= by name"):
        old = bg.linear_pieces(clf, x, torch.ones_like(x), extent=0.01)  # type: ignore[arg-type]
    new = bg.linear_pieces(clf, x, torch.zeros(2, dtype=torch.int64), direction=torch.ones_like(x), extent=0.01)
    torch.testing.assert_close(old.breakpoints, new.breakpoints, rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*onsolidated")
def test_counts_by_the_sequential_method_are_refused(tmp_path: Path) -> None:
    counts = dataclasses.replace(result_of("AdversarialDimension"), method="sequential")  # type: ignore[arg-type]
    for path in (as_of_version_0_1(counts, tmp_path / "1.zarr"), counts.save(tmp_path / "2.zarr")):
        with pytest.raises(ValueError, match="compute them with sequential_directions"):
            bg.load(path)
