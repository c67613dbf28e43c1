"""Long runs: killed anywhere and resumed, they give the store of a run that was not killed."""

import errno
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
import zarr
from command_line import base, make_folder, run, train
from filelock import FileLock
from oracles import no_labels
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.runs import Job, LocalEngine, run_jobs
from boundarygeo.runs import whole as runs_whole
from boundarygeo.runs.local import Done, Task, Worker
from boundarygeo.runs.whole import RunStore
from boundarygeo.transfer.dimension import dimension_and_transfer

EXAMPLES, CHUNK = 45, 4
TRACE = "BOUNDARYGEO_TEST_TRACE"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def problem(examples: int = EXAMPLES) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(network(), device="cpu")
    x = torch.rand(examples, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    return clf, x, clf.predict(x)


def traced_maps(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, **settings: Any) -> bg.BoundaryMaps:
    """Maps; every beginning of a chunk is written down."""
    if TRACE in os.environ:
        with Path(os.environ[TRACE]).open("a") as trace:
            trace.write(f"{int(index[0])}\n")
    return bg.example_maps(clf, x, y, index=index, progress=False, **settings)


SETTINGS: dict[str, Any] = {
    "extent": 0.5, "resolution": 17, "keep": ("margin", "planes"), "chunk_size": CHUNK, "progress": False,
}  # fmt: skip


def whole_run(out: Path, **changes: Any) -> Path:
    clf, x, y = problem()
    return bg.run(traced_maps, clf, x, y, out=out, **(SETTINGS | changes))


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the log."""
    files = {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert files.pop("chunks/log.jsonl", b"") or store.name.endswith(".partial")
    return files


def drawn_alike(clf: bg.Classifier, x: Tensor, y: Tensor, *, seed: int = 0) -> bg.Result:
    """An analysis that would draw the same for the first example of every chunk."""
    return bg.boundary_distance(clf, x, y, direction="random", max_distance=1.0, seed=seed)


# --- what a run gives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("analysis", "settings"),
    [
        (bg.example_maps, {"extent": 0.3, "resolution": 9, "keep": ("margin", "probability", "planes")}),
        (bg.example_maps, {"extent": 0.3, "resolution": 9, "planes": "random", "seed": 4, "class_names": tuple("abc")}),
        (bg.boundary_distance, {"direction": "fgsm", "max_distance": 0.5}),
        (bg.logit_lines, {"extent": 0.2, "points": 5}),
        (bg.accuracy_curve, {"attack": "pgd", "eps": [0.0, 0.1], "seed": 2, "steps": 3}),
        (bg.adversarial_dimension, {"eps": 1.0}),
        (bg.sequential_directions, {"eps": 2.0, "max_directions": 3}),
        (bg.pgd, {"eps": 0.1, "seed": 1, "steps": 2}),
        (bg.minimal_norm, {}),
        (bg.fgsm, {"eps": 0.1}),
        (bg.defences.certify, {"sigma": 0.2, "n": 100}),
        (bg.exact_boundary_distance, {"direction": "fgsm", "max_distance": 0.2}),
        (bg.noise_success, {"eps": 0.5, "draws": 5}),
        (bg.local_smoothness, {"eps": 0.1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_run_gives_what_the_analysis_gives_at_once(analysis: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    clf, x, y = problem(11)
    index = torch.arange(11) * 3 + 2
    path = bg.run(analysis, clf, x, y, out=tmp_path / "run.zarr", index=index, chunk_size=4, **settings)
    kept, direct = bg.load(path), analysis(clf, x, y, index=index, **settings)
    assert type(kept) is type(direct)
    for name, value in vars(direct).items():
        if isinstance(value, Tensor):
            got = getattr(kept, name)
            assert got.dtype == value.dtype
            torch.testing.assert_close(got, value, equal_nan=True, atol=1e-4, rtol=1e-4, msg=name)
        elif name == "provenance":
            assert got_cost(kept) == got_cost(direct)
            assert kept.provenance.seconds > 0
        else:
            assert getattr(kept, name) == value
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


def got_cost(result: bg.Result) -> tuple[Any, ...]:
    cost = result.provenance
    return cost.command, cost.seed, cost.model, cost.device, cost.forwards, cost.backwards


def test_analyses_of_several_classifiers_run_in_chunks(tmp_path: Path) -> None:
    clf, x, y = problem(11)
    other = bg.Classifier(network(), device="cpu")
    with torch.no_grad():
        other.module[1].weight *= 1.001  # type: ignore[index,operator,union-attr]
    models = {"one": clf, "other": other}
    settings: dict[str, Any] = {"eps": 0.1, "attack": "pgd", "seed": 3}
    path = bg.run(bg.transfer_matrix, models, x, y, out=tmp_path / "run.zarr", chunk_size=4, **settings)
    kept, direct = bg.load(path), bg.transfer_matrix(models, x, y, **settings)
    assert isinstance(kept, bg.TransferMatrix)
    assert torch.equal(kept.predicted, direct.predicted)
    assert kept.rate("shared").tolist() == direct.rate("shared").tolist()


def test_xarray_reads_the_store_lazily_and_without_a_warning(tmp_path: Path) -> None:
    path = whole_run(tmp_path / "run.zarr")
    dataset = xr.open_zarr(path, chunks=None)
    assert dataset["labels"].dims == ("example", "row", "col")
    assert set(dataset.coords) == {"u", "v", "index"}
    assert dataset["u"].attrs["units"] == "axis units"
    lazy = bg.open_store(path)
    assert not lazy["labels"].variable._in_memory
    both = xr.concat([lazy.isel(example=slice(0, 20)), lazy.isel(example=slice(20, None))], dim="example")
    assert both["labels"].equals(dataset["labels"])


def test_stores_of_several_models_are_merged_by_xarray(tmp_path: Path) -> None:
    _, x, y = problem(9)
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), device="cpu")
        out = tmp_path / f"{seed}.zarr"
        paths.append(bg.run(bg.boundary_distance, clf, x, y, out=out, direction="random", max_distance=2.0))
    merged = xr.concat([bg.open_store(path) for path in paths], "model")
    assert merged["distance"].dims == ("model", "example")
    assert merged["distance"].sel(model=1).values.tolist() == bg.load(paths[1]).distance.tolist()  # type: ignore[attr-defined]


def test_part_of_a_store_is_read_alone(tmp_path: Path) -> None:
    path = whole_run(tmp_path / "run.zarr")
    whole = bg.load(path)
    assert isinstance(whole, bg.BoundaryMaps)
    for examples, rows in ((slice(3, 7), [3, 4, 5, 6]), ([40, 2], [40, 2])):
        part = bg.load(path, examples=examples)
        assert isinstance(part, bg.BoundaryMaps)
        assert torch.equal(part.labels, whole.labels[rows])
        assert torch.equal(part.u, whole.u)
    for damaged in path.glob("labels/c/*"):
        if damaged.name != "0":
            shutil.rmtree(damaged)
            damaged.write_text("never read")
    assert torch.equal(bg.load(path, examples=slice(4)).labels, whole.labels[:4])  # type: ignore[attr-defined]
    for bad in (slice(45, 50), [45], [], [-1]):
        with pytest.raises(ValueError, match="examples must be some of the 45 in"):
            bg.load(path, examples=bad)


def test_pooled_fields_are_those_of_all_examples_or_of_those_read(tmp_path: Path) -> None:
    clf, x, y = problem()
    y = (y + (torch.arange(EXAMPLES) < 9).long()) % 3  # the first nine are wrong
    path = bg.run(bg.accuracy_curve, clf, x, y, out=tmp_path / "run.zarr", eps=[0.0, 0.01], chunk_size=CHUNK)
    direct = bg.accuracy_curve(clf, x, y, eps=[0.0, 0.01])
    kept, part = bg.load(path), bg.load(path, examples=slice(0, 18))
    assert isinstance(kept, bg.AccuracyCurve)
    assert isinstance(part, bg.AccuracyCurve)
    assert kept.n == EXAMPLES
    assert torch.equal(kept.accuracy, direct.accuracy)
    assert torch.equal(kept.low, direct.low)
    assert (part.n, float(part.accuracy[0])) == (18, 0.5)


def test_results_of_parts_are_joined() -> None:
    clf, x, y = problem(10)
    curves = [
        bg.accuracy_curve(clf, x[rows], y[rows], eps=[0.0, 0.1], index=range(10)[rows])
        for rows in (slice(0, 3), slice(3, 10))
    ]
    whole, direct = bg.AccuracyCurve.concatenate(curves), bg.accuracy_curve(clf, x, y, eps=[0.0, 0.1])
    assert torch.equal(whole.correct, direct.correct)
    assert torch.equal(whole.low, direct.low)
    assert whole.provenance.forwards == sum(curve.provenance.forwards for curve in curves)
    other = bg.accuracy_curve(clf, x, y, eps=[0.0, 0.2])
    with pytest.raises(ValueError, match=r"parts must have the same 'command' in their provenance|same 'eps'"):
        bg.AccuracyCurve.concatenate([direct, other])
    with pytest.raises(ValueError, match="parts must be one AccuracyCurve or more"):
        bg.AccuracyCurve.concatenate([])


def test_several_classifiers_have_their_stores_filled_in_one_run(tmp_path: Path) -> None:
    clf, x, y = problem(9)
    index = torch.arange(9)
    other = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), device="cpu")
    settings = {"extent": 0.4, "resolution": 9, "planes_of": clf}
    jobs = [
        Job(
            analysis=bg.example_maps,
            classifiers=one,
            x=x,
            y=y,
            index=index,
            settings=settings,
            stores=(tmp_path / name,),
        )
        for name, one in (("a.zarr", clf), ("b.zarr", other))
    ]
    run_jobs(jobs, chunk_size=4)
    first, second = (bg.load(path) for job in jobs for path in job.stores)
    planes = bg.fgsm_random_planes(clf, x, y)
    for result, one in ((first, clf), (second, other)):
        assert torch.equal(result.labels, bg.boundary_maps(one, planes, extent=0.4, resolution=9).labels)
    with pytest.raises(ValueError, match="two results have the same store"):
        run_jobs([jobs[0], jobs[0]])


def test_an_analysis_may_give_several_results_each_with_a_store(tmp_path: Path) -> None:
    clf, x, y = problem(11)
    alike = network()
    with torch.no_grad():
        for parameter in alike.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    other = bg.Classifier(alike, device="cpu")
    stores = (tmp_path / "own.zarr", tmp_path / "sent.zarr")
    job = Job(
        analysis=dimension_and_transfer,
        classifiers=[clf, other],
        x=x,
        y=y,
        index=torch.arange(11),
        settings={"eps": 1.5, "box": "ignore"},
        stores=stores,
    )
    run_jobs([job], chunk_size=4)
    source = bg.adversarial_dimension(clf, x, y, eps=1.5, box="ignore", keep_directions=True)
    sent = bg.transferred_dimension(other, x, source)
    kept = [bg.load(store) for store in stores]
    assert torch.equal(kept[0].verified, source.verified)  # type: ignore[attr-defined]
    assert torch.equal(kept[1].count, sent.count)  # type: ignore[attr-defined]
    assert sent.count.sum() > 0
    assert kept[0].provenance.forwards == source.provenance.forwards
    assert kept[1].provenance.forwards == sent.provenance.forwards
    # A part that one of them lacks is computed for that one; nothing is written to the other.
    before = [contents(store) for store in stores]
    (stores[1] / "count" / "c" / "1").unlink()
    logs = [(store / "chunks" / "log.jsonl").read_text().splitlines() for store in stores]
    with pytest.warns(UserWarning, match=r"part 1 .*sent.zarr' is damaged"):
        run_jobs([job], chunk_size=4)
    assert [contents(store) for store in stores] == before
    assert (stores[0] / "chunks" / "log.jsonl").read_text().splitlines() == logs[0]
    now = (stores[1] / "chunks" / "log.jsonl").read_text().splitlines()
    assert [line for line in now if line not in logs[1]] == now[1:2]
    assert [json.loads(line)["part"] for line in now] == [0, 1, 2]
    # The time that a chunk took is divided among its results.
    later = tuple(tmp_path / f"later-{store.name}" for store in stores)
    run_jobs([replace(job, stores=later)], chunk_size=4, engine=Slow())
    seconds = [bg.load(store).provenance.seconds for store in later]
    assert min(seconds) > 0
    assert sum(seconds) == pytest.approx(30, abs=0.01)
    with pytest.raises(ValueError, match="was started with other settings .*result: 1, now 0"):
        run_jobs([replace(job, stores=stores[::-1])], chunk_size=4)
    with pytest.raises(ValueError, match="analysis must return 1 results, one per store, got 2"):
        run_jobs([replace(job, stores=(tmp_path / "one.zarr",))], chunk_size=4)


# --- as many entries as an example needs ----------------------------------------------------------------------------


def pieces_of(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, extent: float) -> bg.LinearPieces:
    """Pieces along directions that grow with the number of the example, and so do their numbers."""
    growing = torch.linspace(0.01, 1, 45)[index % 45].view(-1, 1, 1, 1) * torch.ones_like(x)
    return bg.linear_pieces(clf, x, no_labels(x), direction=growing, extent=extent, clip=False, progress=False)


def test_examples_may_have_different_numbers_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = problem()
    index = torch.arange(EXAMPLES)
    direct = pieces_of(clf, x, y, index=index, extent=2.0)
    widths = [pieces_of(clf, x[i : i + 4], y, index=index[i : i + 4], extent=2.0).layer.shape[1] for i in (0, 24, 40)]
    assert widths[0] < widths[1]
    path = bg.run(pieces_of, clf, x, y, out=tmp_path / "run.zarr", chunk_size=4, extent=2.0)
    kept = bg.load(path)
    assert isinstance(kept, bg.LinearPieces)
    for name in ("breakpoints", "logits", "layer", "bends", "count"):
        torch.testing.assert_close(getattr(kept, name), getattr(direct, name), equal_nan=True, msg=name)
    assert xr.open_zarr(path)["layer"].dtype == "int64"
    # In pieces of few columns, in any order of the chunks, and after chunks were lost: always the same files.
    monkeypatch.setattr("boundarygeo.runs.whole.COLUMNS", 3)
    run = {"extent": 2.0, "chunk_size": 4}
    straight = contents(bg.run(pieces_of, clf, x, y, out=tmp_path / "straight.zarr", **run))
    assert any(key.startswith("logits/c/10/1/") for key in straight)
    turned = bg.run(pieces_of, clf, x, y, out=tmp_path / "turned.zarr", engine=Backwards(), **run)
    assert contents(turned) == straight
    narrow = turned / "layer" / "zarr.json"
    whole = narrow.read_text()
    for broken, name in (
        (whole.replace(f"{direct.layer.shape[1]}", "1", 1), "layer/zarr.json"),
        ("{", "layer/zarr.json"),
    ):
        assert broken != whole
        narrow.write_text(broken)
        assert name in bg.run_status(turned, verify=True).damaged.values()  # type: ignore[union-attr]
        narrow.write_text(whole)
    (turned / "logits" / "c" / "10" / "1" / "0").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"part 10 .* is damaged \(logits/c/10/1/0\): it is computed again"):
        bg.run(pieces_of, clf, x, y, out=turned, **run)
    assert contents(turned) == straight


def test_parts_with_different_numbers_of_entries_are_joined() -> None:
    clf, x, y = problem(45)
    index = torch.arange(45)
    parts = [pieces_of(clf, x[rows], y, index=index[rows], extent=2.0) for rows in (slice(0, 4), slice(4, 45))]
    whole, direct = bg.LinearPieces.concatenate(parts), pieces_of(clf, x, y, index=index, extent=2.0)
    assert parts[0].layer.shape[1] < parts[1].layer.shape[1]
    for name in ("breakpoints", "logits", "layer", "bends", "count"):
        torch.testing.assert_close(getattr(whole, name), getattr(direct, name), equal_nan=True, msg=name)


class Slow(LocalEngine):
    """Takes ten seconds for every chunk, or says so."""

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        return (done._replace(seconds=10.0) for done in super().compute(jobs, tasks))


class Backwards(LocalEngine):
    """Computes the last chunk first."""

    def compute(self, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        return super().compute(jobs, tasks[::-1])


# --- lists of which every example has another number ----------------------------------------------------------------

DIRECTIONS: dict[str, Any] = {"eps": 1.5, "box": "ignore", "keep_directions": True, "chunk_size": 4, "progress": False}
LISTS = ("perturbations", "owner", "adversarial_label")


def with_one_wrong() -> tuple[bg.Classifier, Tensor, Tensor]:
    """Examples of which a whole chunk is wrong, and has no direction."""
    clf, x, y = problem()
    y[8:12] = (y[8:12] + 1) % 3
    return clf, x, y


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of three directions, so that chunks share them."""
    monkeypatch.setattr("boundarygeo.runs.whole.BYTES_PER_CHUNK", 3 * 12 * 4)


def test_directions_are_kept(tmp_path: Path, few_rows: None) -> None:
    clf, x, y = with_one_wrong()
    path = bg.run(bg.adversarial_dimension, clf, x, y, out=tmp_path / "run.zarr", **DIRECTIONS)
    kept = bg.load(path)
    settings = {name: DIRECTIONS[name] for name in ("eps", "box", "keep_directions")}
    direct = bg.adversarial_dimension(clf, x, y, **settings)
    assert isinstance(kept, bg.AdversarialDimension)
    assert kept.owner is not None
    assert direct.owner is not None
    assert len(kept.owner) > 45
    assert torch.equal(kept.owner, direct.owner)
    assert kept.adversarial_label is not None
    assert direct.adversarial_label is not None
    assert torch.equal(kept.adversarial_label, direct.adversarial_label)
    torch.testing.assert_close(kept.perturbations, direct.perturbations)
    opened, saved = (xr.open_zarr(each) for each in (path, direct.save(tmp_path / "direct.zarr")))
    for name in LISTS:
        assert opened[name].dims == saved[name].dims
        assert opened[name].attrs == saved[name].attrs
        assert opened[name].dtype == saved[name].dtype
    part = bg.load(path, examples=slice(20, 23))
    assert isinstance(part, bg.AdversarialDimension)
    assert part.perturbations is not None
    assert kept.perturbations is not None
    assert torch.equal(part.perturbations, kept.perturbations[(kept.owner >= 20) & (kept.owner < 23)])
    found = bg.load(
        bg.run(bg.sequential_directions, clf, x, y, out=tmp_path / "s.zarr", chunk_size=4, max_directions=2)
    )
    whole = bg.sequential_directions(clf, x, y, max_directions=2)
    assert isinstance(found, bg.SequentialDirections)
    assert torch.equal(found.owner, whole.owner)
    assert torch.equal(found.rank, whole.rank)


def test_directions_are_the_same_in_any_order_and_after_any_end(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf, x, y = with_one_wrong()
    expected = contents(bg.run(bg.adversarial_dimension, clf, x, y, out=tmp_path / "whole.zarr", **DIRECTIONS))
    out = tmp_path / "run.zarr"

    def go(**changes: Any) -> Path:
        return bg.run(bg.adversarial_dimension, clf, x, y, out=out, **(DIRECTIONS | changes))

    assert contents(go(engine=Backwards())) == expected
    shutil.rmtree(out)
    write, count = RunStore.write, iter(range(10**6))
    monkeypatch.setattr(
        RunStore, "write", lambda *given, **told: killed() if next(count) == 5 else write(*given, **told)
    )
    with pytest.raises(KeyboardInterrupt):
        go()
    partial = bg.load(out.with_name("run.zarr.partial"))
    assert isinstance(partial, bg.AdversarialDimension)
    assert len(partial.verified) == 20
    assert partial.owner is not None
    assert len(partial.owner) == partial.verified.sum()
    for name in ("consolidate", "digests", "move_into_place"):  # at three moments of joining them
        with monkeypatch.context() as stopping:
            stopping.setattr(runs_whole, name, killed)
            with pytest.raises(KeyboardInterrupt):
                go()
        assert not out.exists()
        left = out.with_name("run.zarr.partial") / "whole.zarr"
        left.mkdir()
        (left / "zarr.json").write_text("{")  # as if killed while that was written
    with monkeypatch.context() as stopping:
        stopping.setattr(runs_whole, "clear", killed)
        with pytest.raises(KeyboardInterrupt):
            go()
    assert contents(out) == expected
    assert out.with_name("run.zarr.partial").exists()
    assert contents(go()) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.zarr", "whole.zarr"]


def test_directions_that_do_not_go_with_the_others_are_refused(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf, x, y = with_one_wrong()

    def changing(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, **settings: Any) -> bg.Result:
        found = bg.adversarial_dimension(clf, x, y, index=index, progress=False, **settings)
        assert found.owner is not None
        assert found.perturbations is not None
        assert found.adversarial_label is not None
        fault = os.environ["FAULT"]  # what a run does not know of its analysis
        if fault == "other dtype" and int(index[0]) >= 4:
            return replace(found, perturbations=found.perturbations.double())
        if fault == "fewer":
            return replace(
                found,
                perturbations=found.perturbations[1:],
                owner=found.owner[1:],
                adversarial_label=found.adversarial_label[1:],
            )
        return found

    def go(name: str) -> Path:
        return bg.run(changing, clf, x, y, out=tmp_path / name, **DIRECTIONS)

    monkeypatch.setenv("FAULT", "other dtype")
    with pytest.raises(
        ValueError, match=r"analysis must return the same 'perturbations' for every part.*float32.*float64"
    ):
        go("types.zarr")
    monkeypatch.setenv("FAULT", "")
    (go("run.zarr") / "adversarial_label" / "c" / "0").write_bytes(b"nothing")
    monkeypatch.setenv("FAULT", "fewer")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"analysis must return the same sizes for part 0 as before \(.*\), got"),
    ):
        go("run.zarr")


def test_damaged_directions_are_named_and_computed_again(tmp_path: Path, few_rows: None) -> None:
    clf, x, y = with_one_wrong()

    def go() -> Path:
        return bg.run(bg.adversarial_dimension, clf, x, y, out=tmp_path / "run.zarr", **DIRECTIONS)

    expected = contents(go())
    out, plain = tmp_path / "run.zarr", bg.load(tmp_path / "run.zarr")
    assert isinstance(plain, bg.AdversarialDimension)
    assert plain.owner is not None
    here = sorted({int(owner) // 4 for owner in plain.owner[6:9]})  # whose directions are in the third file
    for broken in (b"nothing", None):
        file = out / "perturbations" / "c" / "2" / "0" / "0" / "0"
        file.unlink() if broken is None else file.write_bytes(broken)
        assert bg.run_status(out, verify=True).damaged == dict.fromkeys(here, "perturbations/c/2/0/0/0")
        with pytest.warns(UserWarning, match=r"is damaged \(perturbations/c/2/0/0/0\): it is computed again"):
            go()
        assert contents(out) == expected
    (out / "owner" / "zarr.json").write_text("{")
    with pytest.warns(UserWarning, match=r"is damaged \(owner/zarr.json\): it is computed again"):
        go()
    assert contents(out) == expected
    # While chunks are missing, it is the part of a chunk that is compared.
    shutil.rmtree(out)
    with pytest.MonkeyPatch.context() as stopping:
        stopping.setattr(RunStore, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            go()
    (out.with_name("run.zarr.partial") / "parts" / "000003.zarr" / "owner" / "c" / "0").write_bytes(b"PK")
    with pytest.warns(UserWarning, match=r"part 3 .* is damaged \(parts/000003.zarr/owner/c/0\): it is computed again"):
        go()
    assert contents(out) == expected


# --- killed, and gone on with ---------------------------------------------------------------------------------------


def test_a_run_killed_at_twenty_random_moments_ends_with_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, out = tmp_path / "trace", tmp_path / "run.zarr"
    expected = contents(whole_run(tmp_path / "uninterrupted.zarr"))
    monkeypatch.setenv(TRACE, str(trace))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boundarygeo", "test_runs"])
    draw = random.Random(0)
    kills = here = finished = 0

    def kept() -> set[str]:
        return {entry.name for entry in out.with_name("run.zarr.partial").glob("parts/[0-9]*.json")}

    while kills < 20 or finished == 0:
        before = kept()
        begun = len(trace.read_text().split()) if trace.exists() else 0
        process = context.Process(target=whole_run, args=(out,))
        process.start()
        if kills < 20:
            while process.is_alive() and begun == (len(trace.read_text().split()) if trace.exists() else 0):
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.12))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode:
            kills, here = kills + 1, here + 1
            if out.exists():  # never before it is whole: killed while the parts were deleted
                assert contents(out) == expected
            else:
                assert before <= kept()
        else:
            assert contents(out) == expected
            parts = -(-EXAMPLES // CHUNK)
            assert len(trace.read_text().split()) <= parts + here  # at most one part per kill was computed twice
            shutil.rmtree(out)
            trace.unlink()
            here, finished = 0, finished + 1


def test_a_run_killed_while_it_clears_away_what_another_left_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"resolution": 5, "chunk_size": 15}
    expected = contents(whole_run(tmp_path / "uninterrupted.zarr", **small))
    left = tmp_path / "left"
    interrupted(left, 1, **(small | {"resolution": 7}))
    files = sorted(path for path in left.with_name("left.partial").rglob("*") if path.is_file())
    assert len(files) > 5
    removed: list[str] = []
    unlink = os.unlink
    for most in range(0, len(files), 2):
        out = tmp_path / f"run{most}"
        shutil.copytree(left.with_name("left.partial"), out.with_name(f"{out.name}.partial"))
        removed.clear()

        def killed(path: Any, *, most: int = most, **settings: Any) -> None:
            if str(path).endswith(".lock"):
                return unlink(path, **settings)
            if len(removed) == most:
                raise KeyboardInterrupt
            removed.append(str(path))
            unlink(path, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                whole_run(out, overwrite=True, **small)
        assert contents(whole_run(out, overwrite=True, **small)) == expected


def test_a_part_without_its_entry_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run.zarr"
    with monkeypatch.context() as patch:
        patch.setattr("boundarygeo.runs.parts.write_sealed", killed)
        with pytest.raises(KeyboardInterrupt):
            whole_run(out)
    assert (out.with_name("run.zarr.partial") / "parts" / "000000.zarr").is_dir()
    assert bg.run_status(out).done == 0
    assert contents(whole_run(out)) == contents(whole_run(tmp_path / "uninterrupted.zarr"))


def test_a_finished_run_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, out = tmp_path / "trace", tmp_path / "run.zarr"
    monkeypatch.setenv(TRACE, str(trace))
    whole_run(out)
    before, log = contents(out), (out / "chunks/log.jsonl").read_text()
    begun = trace.read_text()
    whole_run(out)
    assert trace.read_text() == begun
    assert contents(out) == before
    assert (out / "chunks/log.jsonl").read_text() == log


def interrupted(out: Path, chunks: int, **changes: Any) -> None:
    """Leave a run after some chunks."""

    class Impatient(LocalEngine):
        def compute(self, jobs, tasks):
            yield from super().compute(jobs, tasks[:chunks])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole_run(out, engine=Impatient(), **changes)


def test_an_interrupted_run_goes_on_and_what_is_finished_can_be_read(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    expected = bg.load(whole_run(tmp_path / "uninterrupted.zarr"))
    assert isinstance(expected, bg.BoundaryMaps)
    interrupted(out, 3)
    with pytest.raises(ValueError, match=r"run\.zarr.partial' is unfinished: re-running the command resumes it"):
        bg.load(out)
    read = bg.load(out.with_name("run.zarr.partial"))
    assert isinstance(read, bg.BoundaryMaps)
    assert torch.equal(read.labels, expected.labels[:12])
    assert (
        not xr.open_zarr(out.with_name("run.zarr.partial") / "parts" / "000002.zarr", chunks=None)["labels"]
        .isnull()
        .any()
    )
    whole_run(out)
    assert contents(out) == contents(tmp_path / "uninterrupted.zarr")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.zarr", "uninterrupted.zarr"]


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    interrupted(out, 3)
    for name in ("parts/.000004.json.8858.partial", "parts/.000003.zarr.01234567.partial", "whole.zarr"):
        (out.with_name("run.zarr.partial") / name).write_text("half")
    whole_run(out)
    assert contents(out) == contents(whole_run(tmp_path / "uninterrupted.zarr"))


def test_a_line_of_the_log_that_was_cut_off_harms_nobody(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    interrupted(out, 3)
    whole_run(out)
    log = out / "chunks/log.jsonl"
    lines = log.read_text().splitlines()
    assert [json.loads(line)["part"] for line in lines] == list(range(12))
    assert bg.load(out).provenance.seconds == pytest.approx(sum(json.loads(line)["seconds"] for line in lines))
    log.write_text(log.read_text()[:-9])
    assert bg.run_status(out, verify=True).damaged == {}
    assert bg.load(out).provenance.seconds == pytest.approx(sum(json.loads(line)["seconds"] for line in lines[:-1]))
    before = contents(out)
    assert contents(whole_run(out)) == before


OTHERS = {
    "settings": ({"extent": 0.4}, r"settings.extent: 0.5, now 0.4"),
    "new setting": ({"seed": 1}, r"settings.seed: nothing, now 1"),
    "chunk size": ({"chunk_size": 5}, r"chunk_size: 4, now 5"),
    "batch size": ({"batch_size": 8}, r"classifiers.batch_size: 2048, now 8"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_with_other_settings_is_refused_and_the_difference_named(
    case: str, finished: bool, tmp_path: Path
) -> None:
    changes, message = OTHERS[case]
    out = tmp_path / "run.zarr"
    if finished:
        whole_run(out)
    else:
        interrupted(out, 2)
    store = out if finished else out.with_name("run.zarr.partial")
    before = contents(store)
    with pytest.raises(
        ValueError, match=rf"was started with other settings \({message}\): use those, or pass overwrite"
    ):
        whole_run(out, **changes)
    assert contents(store) == before
    whole_run(out, overwrite=True, **changes)
    assert contents(out) == contents(whole_run(tmp_path / "other.zarr", **changes))


def test_other_examples_weights_bounds_and_analyses_are_refused(tmp_path: Path) -> None:
    clf, x, y = problem()
    out = whole_run(tmp_path / "run.zarr")
    brighter = x.clone()
    brighter[0] = brighter[0] * 0.5
    last = x.clone()
    last[-1, -1, -1, -1] = 0.5
    weights = network()
    with torch.no_grad():
        weights[1].bias += 1e-3
    cases = [
        (traced_maps, clf, brighter, y, "data.inputs: "),
        (traced_maps, clf, last, y, "data.inputs: "),
        (traced_maps, clf, x.double(), y, "data.dtype: torch.float32, now torch.float64"),
        (traced_maps, clf, x[:44], y[:44], "examples: 45, now 44"),
        (traced_maps, bg.Classifier(weights, device="cpu"), x, y, "classifiers.weights: "),
        (traced_maps, bg.Classifier(network(), bounds=(0, 2), device="cpu"), x, y, r"classifiers.bounds: \[0.0, 1.0\]"),
        (traced_maps, bg.Classifier(network(), mean=0.5, device="cpu"), x, y, r"classifiers.mean: None, now \[0.5\]"),
        (bg.example_maps, clf, x, y, "analysis: test_runs.traced_maps [0-9a-f]{16}, now boundarygeo.maps"),
    ]
    for analysis, other, inputs, labels, message in cases:
        with pytest.raises(ValueError, match=message):
            bg.run(analysis, other, inputs, labels, out=out, **SETTINGS)


def test_an_old_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = whole_run(tmp_path / "run.zarr")
    before = contents(out)

    class Fails(LocalEngine):
        def compute(self, jobs, tasks):
            yield from super().compute(jobs, tasks[:2])
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        whole_run(out, extent=0.2, overwrite=True, engine=Fails())
    assert contents(out) == before
    with pytest.raises(ValueError, match="extent must be a positive number"):
        whole_run(out, extent=-1.0, overwrite=True)
    assert contents(out) == before
    whole_run(out, extent=0.2, overwrite=True)
    assert contents(out) == contents(whole_run(tmp_path / "new.zarr", extent=0.2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new.zarr", "run.zarr"]


def test_overwriting_begins_anew_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trace = whole_run(tmp_path / "run.zarr"), tmp_path / "trace"
    expected = contents(out)
    monkeypatch.setenv(TRACE, str(trace))
    interrupted(out, 3, overwrite=True)
    assert trace.read_text().split() == ["0", "4", "8"]
    trace.unlink()
    whole_run(out, overwrite=True)
    assert trace.read_text().split()[0] == "12"
    assert contents(out) == expected
    assert not out.with_name("run.zarr.partial").exists()


def test_what_is_no_run_is_not_touched(tmp_path: Path) -> None:
    clf, x, y = problem(4)
    saved = bg.boundary_distance(clf, x, y, direction="random", max_distance=1.0).save(tmp_path / "run.zarr")
    with pytest.raises(ValueError, match="path must not exist yet"):
        whole_run(saved)
    assert isinstance(bg.load(saved), bg.BoundaryDistances)
    whole_run(saved, overwrite=True)
    assert isinstance(bg.load(saved), bg.BoundaryMaps)


def test_two_processes_do_not_write_to_one_store(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    with (
        FileLock(tmp_path / ".run.zarr.lock"),
        pytest.raises(ValueError, match="another process is writing .*run.zarr"),
    ):
        whole_run(out)
    whole_run(out)


# --- damage ---------------------------------------------------------------------------------------------------------


def damage(file: Path, how: str) -> None:
    if how == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "changed":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
@pytest.mark.parametrize("name", ["labels/c/1/0/0", "parts/000001.zarr/labels/c/0/0/0", "parts/000001.json"])
def test_a_damaged_part_is_found_named_and_computed_again(
    how: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trace, finished = tmp_path / "run.zarr", tmp_path / "trace", not name.startswith("parts")
    expected = contents(whole_run(tmp_path / "uninterrupted.zarr"))
    if finished:
        whole_run(out)
    else:
        interrupted(out, 5)
    store = out if finished else out.with_name("run.zarr.partial")
    damage(store / name, how)
    unlisted = how == "missing" and name.endswith("1.json")  # then it was never finished
    if not unlisted:
        assert bg.run_status(out, verify=True).damaged == {1: name}
    monkeypatch.setenv(TRACE, str(trace))
    if unlisted:
        whole_run(out)
    else:
        with pytest.warns(UserWarning, match=r"part 1 \(examples 4 to 7\) of .* is damaged"):
            whole_run(out)
    assert contents(out) == expected
    assert trace.read_text().split() == (["4"] if finished else ["4", *(str(first) for first in range(20, 45, 4))])
    assert bg.run_status(out, verify=True).damaged == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.zarr", "trace", "uninterrupted.zarr"]


def test_a_part_that_is_damaged_before_all_are_joined_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, finish = tmp_path / "run.zarr", RunStore.finish

    def late(self: RunStore) -> None:
        damage(
            out.with_name("run.zarr.partial") / "parts" / "000002.zarr" / "labels" / "c" / "0" / "0" / "0", "changed"
        )
        finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "finish", late)
        with pytest.raises(ValueError, match=r"is damaged \(parts/000002.zarr/labels/c/0/0/0\): re-running computes"):
            whole_run(out)
    assert not out.exists()
    with pytest.warns(UserWarning, match="part 2 "):
        whole_run(out)
    assert contents(out) == contents(whole_run(tmp_path / "uninterrupted.zarr"))


def test_a_repair_that_is_stopped_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, trace = whole_run(tmp_path / "run.zarr"), tmp_path / "trace"
    expected = contents(out)
    for part in (1, 3, 7):
        damage(out / "labels" / "c" / str(part) / "0" / "0", "truncated")
    monkeypatch.setenv(TRACE, str(trace))
    with pytest.warns(UserWarning, match="is damaged"):
        interrupted(out, 2)
    with pytest.warns(UserWarning, match="part 7 "):
        whole_run(out)
    assert trace.read_text().split() == ["4", "12", "28"]
    assert contents(out) == expected


@pytest.mark.parametrize("how", ["truncated", "edited"])
@pytest.mark.parametrize("name", ["u/c/0", "labels/zarr.json", "chunks/parts.json"])
def test_where_what_all_chunks_share_is_damaged_all_are_computed_again(name: str, how: str, tmp_path: Path) -> None:
    out = whole_run(tmp_path / "run.zarr")
    expected = contents(out)
    if how == "edited":
        file = out / name
        file.write_bytes(file.read_bytes().replace(b"17", b"19").replace(b"\x80", b"\x81"))
    else:
        damage(out / name, how)
    assert contents(out) != expected
    assert len(bg.run_status(out, verify=True).damaged or {}) == 12
    with pytest.warns(UserWarning, match="is damaged"):
        whole_run(out)
    assert contents(out) == expected


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "run.zarr", 2)
    plan = tmp_path / "run.zarr.partial/parts/plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"format": 3}))
    for use in (whole_run, bg.run_status):
        with pytest.raises(ValueError, match="has format 3, and this version of boundarygeo reads formats up to"):
            use(tmp_path / "run.zarr")


def old_plan(folder: Path) -> None:
    """What version 0.1 wrote of its runs."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(
        json.dumps({"analysis": "a", "part": 0, "settings": {}, "chunk_size": 4, "format": 1})
    )


def test_runs_of_an_earlier_version_are_refused_in_a_sentence_and_may_be_replaced(tmp_path: Path) -> None:
    for out, folder in ((tmp_path / "a.zarr", tmp_path / "a.zarr.partial"), (tmp_path / "b.zarr", tmp_path / "b.zarr")):
        old_plan(folder / "chunks")
        for use in (whole_run, bg.run_status):
            with pytest.raises(ValueError, match="started by an earlier version of boundarygeo and cannot be resumed"):
                use(out)
        assert isinstance(bg.load(whole_run(out, overwrite=True)), bg.BoundaryMaps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize("failing", [60, 200])
def test_a_full_disk_is_said_and_what_is_there_can_be_read(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.zarr"
    written = 0
    write = zarr.Array.__setitem__

    def fail(self: zarr.Array, *arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *arguments)

    with monkeypatch.context() as disk:
        disk.setattr(zarr.Array, "__setitem__", fail)
        with pytest.raises(OSError, match=r"written \(No space left on device\): \d+ finished parts") as full:
            whole_run(out)
    done = bg.run_status(out, verify=True)
    assert f"{done.done} finished parts are safe, and re-running resumes from there" in str(full.value)
    assert (0 < done.done < 12) == (failing == 60)
    assert done.damaged == {}
    assert len(bg.load(out.with_name("run.zarr.partial")).labels) == done.examples_done  # type: ignore[attr-defined]
    whole_run(out)
    assert contents(out) == contents(whole_run(tmp_path / "uninterrupted.zarr"))


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system with room for a few chunks."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.name != "posix" or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_or_read_only(small_disk: Path) -> None:
    out = small_disk / "run.zarr"
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\)"):
        whole_run(out)
    done = bg.run_status(out, verify=True)
    assert 0 < done.done < 12
    assert done.damaged == {}
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="out must be in a writable folder, got .*Read-only file system"):
        whole_run(out)
    assert len(bg.load(out.with_name("run.zarr.partial")).labels) == done.examples_done  # type: ignore[attr-defined]
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(small_disk)], check=True)
    whole_run(out)
    assert contents(out) == contents(whole_run(small_disk / "uninterrupted.zarr"))


# --- memory ---------------------------------------------------------------------------------------------------------


def test_where_memory_runs_out_fewer_examples_are_given_at_once_and_that_is_remembered() -> None:
    clf, x, y = problem(40)
    sizes = []

    def hungry(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor) -> bg.BoundaryDistances:
        sizes.append(len(x))
        if len(x) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return bg.boundary_distance(clf, x, y, direction="fgsm", max_distance=1.0, index=index)

    index = torch.arange(40)
    job = Job(analysis=hungry, classifiers=clf, x=x, y=y, index=index, settings={}, stores=(Path("never"),))
    tasks = [Task(0, part, slice(20 * part, 20 * part + 20)) for part in range(2)]
    done = list(LocalEngine().compute([job], tasks))
    assert sizes == [20, 10, 5, 5, 5, 5, 5, 5, 5, 5]
    direct = bg.boundary_distance(clf, x, y, direction="fgsm", max_distance=1.0)
    assert len(direct.distance.unique()) > 20
    assert torch.equal(torch.cat([each.results[0].distance for each in done]), direct.distance)  # type: ignore[attr-defined]
    sizes.clear()

    def starving(*arguments: Any, index: Tensor) -> bg.Result:
        sizes.append(len(index))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Worker([replace(job, analysis=starving)]).compute(Task(0, 0, slice(40)), x, y, index)
    assert sizes == [40, 20, 10, 5, 2, 1]


def test_batches_are_of_a_size_that_no_clock_decides() -> None:
    clf, x, _ = problem()
    assert clf.steady_batch_size(x) == 2048  # 2 * (12 * 6 + 6 * 3) operations per example: as many as are allowed
    heavy = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 1_000_000), nn.Linear(1_000_000, 3)).eval())
    assert heavy.steady_batch_size(x) == 128  # 6e9 / (2 * 15e6) = 200
    sizes = []
    fixed = clf.with_batch_size(7)
    with fixed.session(x) as session:
        session.in_batches(lambda start, stop: sizes.append(stop - start), 45, x.shape[1:], kind="gradient")
    assert sizes == [7] * 6 + [3]
    assert clf.batch_size is None
    with pytest.raises(ValueError, match="batch_size must be a positive whole number, or None, got 0"):
        clf.with_batch_size(0)


@pytest.mark.slow
def test_the_peak_of_memory_does_not_grow_with_the_number_of_examples(tmp_path: Path) -> None:
    program = """
import resource, sys, torch, boundarygeo as bg
count, out = int(sys.argv[1]), sys.argv[2]
class Drawn:
    def __len__(self): return count
    def __getitem__(self, rows):
        numbers = range(count)[rows]
        return torch.stack([torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(n)) for n in numbers])
torch.manual_seed(0)
clf = bg.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).eval(), device="cpu")
y = torch.zeros(count, dtype=torch.int64)
bg.run(bg.example_maps, clf, Drawn(), y, out=out, extent=0.1, resolution=33, keep=("margin", "planes"), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(count), str(tmp_path / f"{count}.zarr")],
                           check=True, capture_output=True, text=True).stdout)
        for count in (1_000, 10_000)
    ]  # fmt: skip
    assert peaks[1] < 1.1 * peaks[0], peaks


# --- how far it scales ----------------------------------------------------------------------------------------------


def test_the_simulation_of_many_workers_writes_whole_stores() -> None:
    scale = Path(__file__).parent.parent.parent / "benchmarks" / "scale.py"
    words = ["--workers", "2", "--stores", "2", "--examples", "48", "--chunk-size", "16", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, str(scale), *words, "--failures", "0.5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = re.findall(r"^\| 2 \|.*\| (\d+) of 6 \|", done.stdout, re.MULTILINE)
    assert int(row) > 0  # chunks that were lost and computed again


# --- bad input ------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "chunk size": ({"chunk_size": 0}, ValueError, "chunk_size must be a positive whole number, or None, got 0"),
    "batch size": ({"batch_size": True}, ValueError, "batch_size must be a positive whole number, or None, got True"),
    "setting": ({"extra": object()}, TypeError, "extra must be plain values, tensors or classifiers, got object"),
    "unknown": ({"colour": 1}, TypeError, "unexpected keyword argument 'colour'"),
    "no index": (
        {"analysis": drawn_alike},
        TypeError,
        "cannot be run in parts: it has no argument index=, the numbers of its examples",
    ),
    "no classifier": ({"clf": network()}, TypeError, "clf must be a Classifier, or several, got Sequential"),
    "labels": ({"y": torch.zeros(3, dtype=torch.int64)}, ValueError, r"y must have shape \[45\]"),
    "twice": ({"index": [0] * EXAMPLES}, ValueError, "index must be a different number for each example"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    changes, kind, message = BAD[case]
    clf, x, y = problem()
    arguments = {"analysis": traced_maps, "clf": clf, "x": x, "y": y, "out": tmp_path / "run.zarr"} | SETTINGS
    with pytest.raises(kind, match=message):
        bg.run(**(arguments | changes))
    assert not list(tmp_path.iterdir())


def test_an_analysis_that_depends_on_the_other_examples_is_refused(tmp_path: Path) -> None:
    clf, x, y = problem(8)

    def of_all(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor) -> bg.BoundaryDistances:
        reach = float(x.max())
        return bg.boundary_distance(clf, x, y, direction="random", max_distance=reach, index=index)

    with pytest.raises(ValueError, match="analysis must return the same 'max_distance' for every part, got"):
        bg.run(of_all, clf, x, y, out=tmp_path / "run.zarr", chunk_size=4)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("runs"))
    train(folder / "other.pt", folder / "data.npz", "mlp", "--seed", 1)
    return folder


COMMANDS = {
    "maps": ["--resolution", 9, "--extent", 0.3],
    "lines": ["--points", 5],
    "distances": ["--scan", 8],
    "accuracy": ["--eps", "0,0.1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_goes_on_and_says_so(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [command, *base(folder)[1:], *COMMANDS[command], "--examples", 10, "--chunk-size", 3]
    whole, out = tmp_path / "whole.zarr", tmp_path / "run.zarr"
    status, _, _ = run(capsys, *words, "--out", whole)
    assert status == 0
    compute, calls = LocalEngine.compute, []

    def stops(self: LocalEngine, jobs, tasks):
        for done in compute(self, jobs, tasks):
            yield done
            calls.append(done.task.part)
            if len(calls) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(LocalEngine, "compute", stops)
    status, _, complaint = run(capsys, *words, "--out", out)
    assert status == 130
    assert "finished parts are safe; re-running the command resumes from there" in complaint
    status, said, _ = run(capsys, "status", out)
    assert "unfinished, 2 of 4 parts, 6 of 10 examples" in said
    assert run(capsys, *words, "--out", out)[0] == 0
    assert calls == [0, 1, 2, 3] * (2 if command == "distances" else 1)  # both ways, of which one is kept
    assert contents(out) == contents(whole)
    status, said, _ = run(capsys, "status", out, "--verify")
    assert status == 0
    assert "finished, 4 of 4 parts, 10 of 10 examples" in said
    assert "no part is damaged" in said


SEVERAL = {
    "distances, one way kept": ["distances", "--max-distance", "0.5", "--out", "{model}.zarr"],
    "dims, all kinds": ["dims", "--eps", "2,6", "--out", "{model}-{kind}-{size}.zarr"],
    "dims, own alone": ["dims", "--eps", "6", "--out", "{model}.zarr"],
    "dims, sequential": ["dims", "--eps", "6", "--method", "sequential", "--max-dimension", 2, "--out", "{model}.zarr"],
    "pieces": ["pieces", "--extent", "0.05", "--out", "{model}.zarr"],
    "matrix": ["transfer matrix", "--eps", "0.3", "--out", "matrix.zarr"],
    "dimension": ["transfer dimension", "--eps", "6", "--out", "{source}-{target}.zarr"],
    "shared": ["transfer shared", "--eps", "6", "--out", "shared.zarr"],
    "between boundaries": ["transfer distances", "--max-distance", "9", "--out", "between.zarr"],
    "overlap": ["transfer overlap", "--eps", "6", "--dimension", 2, "--restarts", 4, "--out", "o.zarr"],
}
HIDDEN = {"distances, one way kept", "dims, own alone", "pieces", "overlap"}


@pytest.mark.parametrize("name", SEVERAL)
def test_commands_with_several_results_go_on_with_all_of_them(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *words = SEVERAL[name]
    words = [*command.split(), *base(folder)[1:], "--model", folder / "other.pt", *words, "--examples", 9]
    compute, calls, stops_at = LocalEngine.compute, [], [10**9]

    def stops(self: LocalEngine, jobs: Sequence[Job], tasks: Sequence[Task]) -> Iterator[Done]:
        for number, done in enumerate(compute(self, jobs, tasks)):
            yield done
            calls.append(done.task)
            if number + 1 == stops_at[0]:
                raise KeyboardInterrupt

    monkeypatch.setattr(LocalEngine, "compute", stops)
    (whole := tmp_path / "whole").mkdir()
    monkeypatch.chdir(whole)
    status, expected, _ = run(capsys, *words, "--chunk-size", 4)
    assert status == 0
    needed, out = len(calls), tmp_path / "run"
    assert needed >= 3
    calls.clear()
    stops_at[0] = max(2, needed // 3)
    out.mkdir()
    monkeypatch.chdir(out)
    status, said, complaint = run(capsys, *words, "--chunk-size", 4)
    assert status == 130
    assert "re-running the command resumes from there" in complaint
    assert bool(list(out.glob(".*.unkept"))) == (name in HIDDEN)
    for _ in range(3):
        if status:
            status, said, _ = run(capsys, *words, "--chunk-size", 4)
    assert status == 0
    assert len(calls) == needed  # nothing was computed twice
    seconds = r"[\d.]+ s\b"
    assert re.sub(seconds, "", said) == re.sub(seconds, "", expected)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    for store in out.glob("*.zarr"):
        if name == "overlap":
            assert bg.load(store).random_p_all == bg.load(whole / store.name).random_p_all  # type: ignore[attr-defined]
        else:
            assert contents(store) == contents(whole / store.name)


def test_what_was_not_to_be_kept_is_dropped_with_the_stores_that_it_belongs_to(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*base(folder, "dims"), "--examples", 4, "--out", tmp_path / "own.zarr"]
    finish = RunStore.finish
    monkeypatch.setattr(RunStore, "finish", killed)
    assert run(capsys, *words, "--eps", 6)[0] == 130
    monkeypatch.setattr(RunStore, "finish", finish)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".own.zarr.unkept", "own.zarr.partial"]
    status, _, complaint = run(capsys, *words, "--eps", 5)
    assert status == 2
    assert "own.zarr.partial' was started with other settings (settings.eps: 6.0, now 5.0)" in complaint
    shutil.rmtree(tmp_path / "own.zarr.partial")
    assert run(capsys, *words, "--eps", 5)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["own.zarr"]
    assert bg.load(tmp_path / "own.zarr").eps == 5.0  # type: ignore[attr-defined]
    kept = contents(tmp_path / "own.zarr")
    assert run(capsys, *words, "--eps", 5)[0] == 0  # what is kept is read; what is not is computed for the table
    assert contents(tmp_path / "own.zarr") == kept
    assert run(capsys, *words, "--eps", 6, "--overwrite")[0] == 0
    assert bg.load(tmp_path / "own.zarr").eps == 6.0  # type: ignore[attr-defined]


def test_what_another_process_has_just_begun_is_not_dropped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / ".own.zarr.unkept" / "0.zarr.partial"
    theirs.mkdir(parents=True)
    words = [*base(folder, "dims"), "--examples", 4, "--eps", 6, "--out", tmp_path / "own.zarr"]
    with FileLock(tmp_path / ".own.zarr.lock"):
        status, _, complaint = run(capsys, *words)
    assert status == 2
    assert "another process is writing" in complaint
    assert theirs.is_dir()
    assert run(capsys, *words)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["own.zarr"]


def killed(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_what_maps_keep_is_chosen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, kept in (
        ([], {"margin", "origin", "axes"}),
        (["--keep", "none"], set()),
        (["--keep", "margin"], {"margin"}),
    ):
        out = tmp_path / f"{len(kept)}.zarr"
        assert run(capsys, *base(folder), "--resolution", 9, "--examples", 4, "--out", out, *words)[0] == 0
        assert set(bg.open_store(out)) & {"margin", "probability", "origin", "axes"} == kept


def test_options_of_runs_are_refused_where_they_say_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["--chunk-size", 0, "--out", tmp_path / "x"], "--chunk-size must be at least 1, not 0"),
        (["--chunk-size", 5], "--engine and --chunk-size need --out"),
        (["--engine", "ray"], "--engine and --chunk-size need --out"),
        (["--workers", 2, "--out", tmp_path / "x"], "--workers and --address apply to --engine ray only"),
    ):
        status, _, complaint = run(capsys, *base(folder), *words)
        assert status == 2
        assert message in complaint
    status, _, complaint = run(capsys, "status", tmp_path / "nowhere.zarr")
    assert (status, complaint.count("\n")) == (2, 1)
    assert "there is no store" in complaint
    assert not list(tmp_path.iterdir())


def test_inputs_are_identified_once_for_all_models_and_results(tmp_path: Path) -> None:
    clf, x, y = problem()
    read: list[int] = []

    class Files:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, rows: slice) -> Tensor:
            read.extend(range(len(x))[rows])
            return x[rows]

    inputs = Files()
    jobs = [
        Job(
            analysis=traced_maps,
            classifiers=clf,
            x=inputs,
            y=y,
            index=torch.arange(len(x)),
            settings={"extent": 0.1, "resolution": 5},
            stores=(tmp_path / f"{number}.zarr",),
        )
        for number in range(3)
    ]
    run_jobs(jobs, chunk_size=15, progress=False)
    read.clear()
    run_jobs(jobs, chunk_size=15, progress=False)  # all is there: what they are of is only compared
    assert read.count(len(x) - 1) == 1
