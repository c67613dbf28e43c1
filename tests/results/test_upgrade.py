"""Stores of version 0.1, and stores read by a process that has not computed anything."""

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
    "AdversarialExamples": "fgsm",
    "BoundaryDistances": "distances",
    "CertifiedRadii": "certificates",
    "LinearPieces": "pieces",
    "SegmentCurves": "segments",
    "SequentialDirections": "sequential",
    "SharedDimension": "shared",
    "TransferMatrix": "matrix",
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
    if kind == "AdversarialDimension":
        dataset.attrs["targeted"] = "false"
    if kind == "SequentialDirections":
        dataset.attrs["max_norm"] = dataset.attrs.pop("eps")
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
def test_counts_towards_targets_of_version_0_1_are_refused(tmp_path: Path) -> None:
    path = as_of_version_0_1(result_of("AdversarialDimension"), tmp_path / "old.zarr", targeted=True)
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
