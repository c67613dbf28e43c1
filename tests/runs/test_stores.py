"""Stores that were copied in part are noticed; numbers of NumPy and labels of many classes are kept as they are.

Situations: a result saved at once, a run, a run with a growing array, a run with lists, and an unfinished run, each
without a file of one array, without all of them, and without the whole array; without the folder `chunks`; cut in the
middle; arrays of zeros, of False and of padding alone, scalars and empty arrays, which lack nothing; stores of an
earlier version, which left such chunks out, and what xarray writes of ours, are read as before. `status --verify` says
by its exit status what is damaged: a changed chunk, a missing one, missing digests, the store's own metadata.
"""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from command_line import base, make_folder, run
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.maps.example_maps import example_maps
from boundarygeo.results import Provenance, Result, array
from boundarygeo.runs.local import LocalEngine


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Zeros(Result):
    """A result whose values are what Zarr fills holes with."""

    labels: Tensor = array("example", "row")
    found: Tensor = array("example")
    nothing: Tensor = array("example", "entry")
    one: Tensor = array()
    ratio: float


def zeros(**changes) -> Zeros:
    fields = {
        "labels": torch.zeros(4, 3, dtype=torch.int16),
        "found": torch.zeros(4, dtype=torch.bool),
        "nothing": torch.zeros(4, 0),
        "one": torch.tensor(0.0),
        "ratio": 0.5,
        "provenance": Provenance("zeros()"),
    }
    return Zeros(**(fields | changes))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Growing(Result):
    """A result of which each example has another number of entries."""

    entries: Tensor = array("example", "entry", padding=0)
    wrong: Tensor = array("example")


def growing(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, longest: int = 2100) -> Growing:
    """Zeros for all examples; the last one has many."""
    count = longest if 5 in index.tolist() else 1
    entries = torch.zeros(len(x), count, dtype=torch.int32)
    return Growing(entries=entries, wrong=clf.predict(x) != y, provenance=Provenance("growing()"))


def classifier(classes: int = 3) -> bg.Classifier:
    torch.manual_seed(0)
    return bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, classes)), device="cpu", batch_size=32)


def inputs(count: int = 6) -> Tensor:
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(0))


MAPS = {"extent": 0.1, "resolution": 5, "method": "dense"}


def run_of(analysis, out: Path, **settings) -> Path:
    clf, x = classifier(), inputs()
    return bg.run(analysis, clf, x, clf.predict(x), out=out, chunk_size=2, progress=False, **settings)


def saved(path: Path) -> Path:
    return zeros().save(path)


def run_of_maps(path: Path) -> Path:
    return run_of(example_maps, path, **MAPS)


def run_that_grows(path: Path) -> Path:
    return run_of(growing, path)


STORES = {
    "saved": (saved, ["labels", "found", "one"]),
    "run": (run_of_maps, ["labels", "valid", "center_labels", "u"]),
    "growing": (run_that_grows, ["entries", "wrong"]),
}
CASES = [(make, name) for make, (_, names) in STORES.items() for name in names]


@pytest.mark.parametrize(("make", "name"), CASES)
def test_a_store_without_some_of_its_files_is_refused_and_the_array_named(make: str, name: str, tmp_path: Path) -> None:
    path = STORES[make][0](tmp_path / "whole.zarr")
    assert isinstance(bg.load(path), Result)
    files = sorted(file for file in (path / name).rglob("*") if file.is_file() and file.name != "zarr.json")
    for number, lost in enumerate([files[:1], files[-1:], files, [path / name]]):
        copy = tmp_path / f"copy{number}.zarr"
        shutil.copytree(path, copy, ignore=lambda folder, names, lost=lost: [
            each for each in names if any(Path(folder) / each == file for file in lost)
        ])  # fmt: skip
        for load in (bg.load, lambda path: bg.load(path, examples=[0])):
            with pytest.raises(
                ValueError, match=rf"copy{number}.zarr' lacks files of '{name}'.* copy or compute it again"
            ):
                load(copy)
        shutil.rmtree(copy / "chunks")  # what it lacks is known without that folder, too
        with pytest.raises(ValueError, match=f"lacks files of '{name}'"):
            bg.load(copy)


def test_the_files_of_an_unfinished_run_are_those_of_its_parts(tmp_path: Path) -> None:
    class Stops(LocalEngine):
        def compute(self, jobs, tasks):
            yield from list(super().compute(jobs, tasks))[:2]
            raise KeyboardInterrupt

    path = tmp_path / "maps.zarr.partial"
    with pytest.raises(KeyboardInterrupt):
        run_of(example_maps, tmp_path / "maps.zarr", engine=Stops(), **MAPS)
    assert len(bg.load(path).labels) == 4  # type: ignore[attr-defined]
    (path / "parts" / "000001.zarr" / "valid" / "c" / "0").unlink()
    with pytest.raises(ValueError, match="lacks files of 'valid'"):
        bg.load(path)


def test_padding_is_written_everywhere_and_reads_as_it_was(tmp_path: Path) -> None:
    whole = bg.load(run_of(growing, tmp_path / "run.zarr"))
    assert isinstance(whole, Growing)
    assert whole.entries.shape == (6, 2100)
    assert not whole.entries.any()
    assert not whole.wrong.any()
    assert len(list((tmp_path / "run.zarr" / "entries" / "c").rglob("0"))) > 0
    assert sorted(each.name for each in (tmp_path / "run.zarr" / "entries" / "c" / "0").iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_file_that_was_cut_is_named(keep: float, tmp_path: Path) -> None:
    path = zeros(labels=torch.arange(1200, dtype=torch.int16).view(4, 300)).save(tmp_path / "cut.zarr")
    file = path / "labels" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(ValueError, match="the store is damaged: 'labels' cannot be read"):
        bg.load(path)


def test_what_earlier_versions_and_others_write_is_read_as_before(tmp_path: Path) -> None:
    before = zeros()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        before.to_xarray().to_zarr(tmp_path / "old.zarr", consolidated=True)  # leaves chunks of zeros out
        with xr.open_zarr(before.save(tmp_path / "new.zarr"), chunks=None) as read:
            read.isel(example=slice(2)).to_zarr(tmp_path / "copy.zarr", consolidated=True)
    assert not (tmp_path / "old.zarr" / "labels" / "c").exists()
    for name, count in (("old.zarr", 4), ("copy.zarr", 2)):
        again = bg.load(tmp_path / name)
        assert isinstance(again, Zeros)
        assert torch.equal(again.labels, before.labels[:count])
        assert torch.equal(again.found, before.found[:count])


def test_finished_runs_of_version_0_1_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "old.zarr")
    (path / "chunks" / "plan.json").write_text(json.dumps({"analysis": "a", "part": 0, "format": 1}))
    (path / "chunks" / "layout.json").write_text("{}")
    (path / "chunks" / "000000.json").write_text("{}")
    (path / "chunks" / "log.jsonl").write_text('{"chunk": 0, "seconds": 1.5}\n{"chunk": 1, "seconds": 2.0}\n')
    assert bg.load(path).provenance.seconds == 3.5
    assert len(bg.load(path, examples=[2]).labels) == 1  # type: ignore[attr-defined]
    zeros().save(path, overwrite=True)
    assert not (path / "chunks" / "plan.json").exists()


def test_an_unfinished_run_of_version_0_1_is_refused(tmp_path: Path) -> None:
    zeros().to_xarray().to_zarr(tmp_path / "old.zarr.partial", consolidated=False)
    with pytest.raises(ValueError, match="has no finished part yet, or was written by an earlier version"):
        bg.load(tmp_path / "old.zarr.partial")


def test_a_user_s_setting_of_zarr_changes_nothing(tmp_path: Path) -> None:
    import zarr

    with zarr.config.set({"default_zarr_format": 2, "array.write_empty_chunks": False}):
        saved(tmp_path / "a.zarr")
        run_that_grows(tmp_path / "b.zarr")
        assert not zarr.config.get("array.write_empty_chunks")
    for name in "ab":
        assert isinstance(bg.load(tmp_path / f"{name}.zarr"), Result)


# ---- numbers


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path: Path) -> None:
    result = zeros(ratio=np.float64(0.25), provenance=Provenance("zeros()", seed=np.int64(3), forwards=np.int32(7)))  # type: ignore[arg-type]
    path = result.save(tmp_path / "toy.zarr")
    assert json.loads(xr.open_zarr(path, chunks=None).attrs["ratio"]) == 0.25
    again = bg.load(path)
    assert isinstance(again, Zeros)
    assert (again.ratio, again.provenance.seed, again.provenance.forwards) == (0.25, 3, 7)
    assert type(again.provenance.seed) is int


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must hold plain values besides its arrays, got object"):
        zeros(ratio=object()).save(tmp_path / "toy.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8])
def test_resolutions_of_numpy_are_those_of_python(whole: type) -> None:
    clf, x = classifier(), inputs(2)
    settings = {"extent": 0.1, "method": "adaptive"}
    one, other = (
        example_maps(clf, x, clf.predict(x), resolution=kind(9), coarse=kind(2), **settings) for kind in (int, whole)
    )
    assert torch.equal(one.labels, other.labels)
    assert one.provenance.command == other.provenance.command


@pytest.mark.parametrize(
    ("classes", "dtype"), [(3, torch.int16), (32768, torch.int16), (32769, torch.int32), (40000, torch.int32)]
)
def test_labels_of_many_classes_do_not_wrap(classes: int, dtype: torch.dtype, tmp_path: Path) -> None:
    clf, x = classifier(classes), inputs(4)
    with torch.no_grad():  # the last class wins everywhere but on one side of a plane
        (layer,) = [part for part in clf.module.modules() if isinstance(part, nn.Linear)]
        layer.weight.zero_()
        layer.bias.fill_(-1.0)
        layer.bias[-1] = 0.0
        layer.weight[-2] = 1.0
        layer.bias[-2] = -6.0
    y = clf.predict(x)
    maps = example_maps(clf, x, y, **MAPS)
    assert maps.labels.dtype == dtype
    assert set(maps.labels.unique().tolist()) <= {classes - 2, classes - 1}
    assert torch.equal(maps.labels[:, 2, 2].long(), y)
    out = bg.run(example_maps, clf, x, y, out=tmp_path / "maps.zarr", chunk_size=2, progress=False, **MAPS)
    parts = [example_maps(clf, x[rows], y[rows], index=range(4)[rows], **MAPS) for rows in (slice(1), slice(1, 4))]
    for again in (bg.load(out), bg.BoundaryMaps.concatenate(parts)):
        assert isinstance(again, bg.BoundaryMaps)
        assert again.labels.dtype == dtype
        assert torch.equal(again.labels, maps.labels)


# ---- the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("labels/c/1/0/0", "changed"),
        ("labels/c/1/0/0", "missing"),
        ("valid/c/0", "missing"),
        ("chunks/parts.json", "missing"),
        ("zarr.json", "changed"),
    ],
)
def test_status_says_what_is_damaged(
    name: str, how: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.zarr"
    words = ["--examples", 4, "--resolution", 5, "--chunk-size", 2, "--include-misclassified"]
    assert run(capsys, *base(folder), *words, "--out", out)[0] == 0
    assert run(capsys, "status", out, "--verify")[0] == 0
    if how == "changed":
        (out / name).write_bytes(b"{}")
    else:
        (out / name).unlink()
    assert run(capsys, "status", out)[0] == 0
    status, said, complaint = run(capsys, "status", out, "--verify")
    assert (status, complaint) == (1, "")
    assert f"({name})" in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("damaged: part ")
