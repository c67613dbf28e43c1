"""What every result shares: stores that come back, are never half written, and say where they came from."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.results import Provenance, Result, array


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Toy(Result):
    """A result with one field of each sort."""

    values: Tensor = array("example", "class", unit="logits")
    missing: Tensor | None = array("example")
    number: Tensor = array("example", coordinate=True)
    names: tuple[str, ...]
    flag: bool
    ratio: float | None


def toy(value: float = 1.5, **settings) -> Toy:
    fields = {
        "values": torch.full((2, 3), value),
        "missing": None,
        "number": torch.tensor([7, 3]),
        "names": ("a", "ß"),
        "flag": True,
        "ratio": None,
        "provenance": Provenance("toy()", seed=3, model="abc", seconds=0.25, forwards=5, backwards=2),
    }
    return Toy(**(fields | settings))


def test_a_saved_result_comes_back_as_it_was(tmp_path: Path) -> None:
    before = toy()
    path = before.save(tmp_path / "deep" / "toy.zarr")
    again = bg.load(path)
    assert isinstance(again, Toy)
    assert torch.equal(again.values, before.values)
    assert again.values.dtype == torch.float32
    assert torch.equal(again.number, before.number)
    assert again.missing is None
    assert (again.names, again.flag, again.ratio) == (("a", "ß"), True, None)
    assert again.provenance == before.provenance
    assert set(again.provenance.versions) == {"boundarygeo", "python", "torch", "numpy"}


def test_a_store_is_read_by_xarray_with_dimensions_coordinates_and_units(tmp_path: Path) -> None:
    dataset = xr.open_zarr(toy().save(tmp_path / "toy.zarr"), chunks=None)  # without a warning
    assert dataset["values"].dims == ("example", "class")
    assert dataset["values"].attrs["units"] == "logits"
    assert set(dataset.coords) == {"number"}
    assert "missing" not in dataset
    assert json.loads(dataset.attrs["provenance"])["seed"] == 3


def test_what_exists_is_only_replaced_on_request(tmp_path: Path) -> None:
    path = toy(1.0).save(tmp_path / "toy.zarr")
    with pytest.raises(ValueError, match="path must not exist yet"):
        toy(2.0).save(path)
    assert (bg.load(path).values == 1).all()  # type: ignore[attr-defined]
    toy(2.0).save(path, overwrite=True)
    assert (bg.load(path).values == 2).all()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "toy.zarr"
    path.write_text("no store")
    with pytest.raises(ValueError, match="path must not exist yet, got .*, which is not a store of boundarygeo"):
        toy().save(path, overwrite=True)
    assert path.read_text() == "no store"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_result_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toy(1.0).save(tmp_path / "toy.zarr")

    def fail(self: xr.Dataset, store: Path, **settings: object) -> None:
        Path(store).mkdir()
        (Path(store) / "half").touch()
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_zarr", fail)
    with pytest.raises(OSError, match="disk full"):
        toy(2.0).save(path, overwrite=True)
    assert (bg.load(path).values == 1).all()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == [path]


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as tomorrow:
        for module in ("result", "storage"):
            tomorrow.setattr(f"boundarygeo.results.{module}.FORMAT_VERSION", 3)
        path = toy().save(tmp_path / "toy.zarr")
        assert isinstance(bg.load(path), Toy)
    with pytest.raises(
        ValueError, match=r"has format 3, and this version of boundarygeo reads formats up to 2: upgrade it"
    ):
        bg.load(path)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must be a Zarr store, got .*nowhere.zarr', which is not a folder"):
        bg.load(tmp_path / "nowhere.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="path must be a Zarr store, got .*empty"):
        bg.load(tmp_path / "empty")
    xr.Dataset(attrs={"boundarygeo_type": "Stranger"}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with (
        pytest.warns(RuntimeWarning, match="consolidated"),
        pytest.raises(ValueError, match="path must hold a result of boundarygeo, got .*other.zarr' of type 'Stranger'"),
    ):
        bg.load(tmp_path / "other.zarr")


def test_a_result_is_printed_in_shapes() -> None:
    assert repr(toy()) == "Toy(values=[2, 3], number=[2], names=('a', 'ß'), flag=True)"


def test_lists_follow_their_examples(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), device="cpu")
    x = torch.rand(9, 3, 2, 2)
    y = clf.predict(x)
    y[4] = (y[4] + 1) % 3  # one without any
    settings = {"eps": 1.5, "box": "ignore", "keep_directions": True}
    whole = bg.adversarial_dimension(clf, x, y, **settings)
    assert whole.perturbations is not None
    assert whole.adversarial_label is not None
    assert len(whole.owner.unique()) > 4

    def of(result: bg.AdversarialDimension, example: int) -> torch.Tensor:
        assert result.owner is not None
        return result.perturbations[result.owner == example]

    path = whole.save(tmp_path / "whole.zarr")
    for chosen in ([7, 4, 0, 2], slice(3, 8), [5], [4]):
        part = bg.load(path, examples=chosen)
        assert isinstance(part, bg.AdversarialDimension)
        for new, old in enumerate(range(9)[chosen] if isinstance(chosen, slice) else chosen):
            assert int(part.index[new]) == old
            assert torch.equal(of(part, new), of(whole, old))
        assert len(part.adversarial_label) == int(part.verified.sum())
        sent, all_sent = (bg.transferred_dimension(clf, x[one.index], one) for one in (part, whole))
        assert torch.equal(sent.count, all_sent.count[part.index])
    parts = [bg.adversarial_dimension(clf, x[rows], y[rows], index=range(9)[rows], **settings)
             for rows in (slice(0, 4), slice(4, 5), slice(5, 9))]  # fmt: skip
    joined = bg.AdversarialDimension.concatenate(parts)
    assert torch.equal(joined.owner, whole.owner)
    torch.testing.assert_close(joined.perturbations, whole.perturbations)
    assert torch.equal(joined.adversarial_label, whole.adversarial_label)
    with pytest.raises(ValueError, match="parts must all have 'perturbations' of the same dimensions"):
        bg.AdversarialDimension.concatenate(
            [parts[0], replace(parts[1], perturbations=None, owner=None, adversarial_label=None)]
        )
