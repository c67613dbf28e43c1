"""Long runs: killed anywhere and resumed, they give the store of a run that was not killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from filelock import FileLock
from long_runs import (
    CHUNK,
    EXAMPLES,
    PARTS,
    SETTINGS,
    TRACE,
    contents,
    interrupted,
    killed,
    network,
    problem,
    traced_maps,
    whole_run,
)

import boundarygeo as bg
from boundarygeo.runs import LocalEngine


@pytest.mark.parametrize("most", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_with_the_same_store(
    most: int, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, out = tmp_path / "trace", tmp_path / "run.zarr"
    monkeypatch.setenv(TRACE, str(trace))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boundarygeo", "long_runs"])
    draw = random.Random(0)
    kills = here = finished = 0

    def kept() -> set[str]:
        return {entry.name for entry in out.with_name("run.zarr.partial").glob("parts/[0-9]*.json")}

    while kills < most or finished == 0:
        before = kept()
        begun = len(trace.read_text().split()) if trace.exists() else 0
        process = context.Process(target=whole_run, args=(out,))
        process.start()
        if kills < most:
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
    for most in (*range(4), len(files) // 2, *range(len(files) - 2, len(files))):  # around each end of the deletions
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


def test_a_part_without_its_entry_does_not_count(
    expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.zarr"
    with monkeypatch.context() as patch:
        patch.setattr("boundarygeo.runs.parts.write_sealed", killed)
        with pytest.raises(KeyboardInterrupt):
            whole_run(out)
    assert (out.with_name("run.zarr.partial") / "parts" / "000000.zarr").is_dir()
    assert bg.run_status(out).done == 0
    assert contents(whole_run(out)) == expected


def test_a_finished_run_is_not_computed_again(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, out = tmp_path / "trace", whole
    monkeypatch.setenv(TRACE, str(trace))
    before, log = contents(out), (out / "chunks/log.jsonl").read_text()
    whole_run(out)
    assert not trace.exists()
    assert contents(out) == before
    assert (out / "chunks/log.jsonl").read_text() == log


def test_an_interrupted_run_goes_on_and_what_is_finished_can_be_read(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    expected = bg.load(finished)
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
    assert contents(out) == contents(finished)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.zarr"]


def test_what_a_killed_process_was_writing_is_cleared_away(expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    interrupted(out, 3)
    for name in ("parts/.000004.json.8858.partial", "parts/.000003.zarr.01234567.partial", "whole.zarr"):
        (out.with_name("run.zarr.partial") / name).write_text("half")
    whole_run(out)
    assert contents(out) == expected


def test_a_line_of_the_log_that_was_cut_off_harms_nobody(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    interrupted(out, 3)
    whole_run(out)
    log = out / "chunks/log.jsonl"
    lines = log.read_text().splitlines()
    assert [json.loads(line)["part"] for line in lines] == list(range(PARTS))
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


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_with_other_settings_is_refused_and_the_difference_named(
    is_finished: bool, whole: Path, tmp_path: Path
) -> None:
    store = whole if is_finished else tmp_path / "run.zarr.partial"
    if not is_finished:
        shutil.rmtree(whole)
        interrupted(whole, 2)
    before = contents(store)
    for changes, difference in OTHERS.values():
        message = rf"was started with other settings \({difference}\): use those, or pass overwrite"
        with pytest.raises(ValueError, match=message):
            whole_run(whole, **changes)
        assert contents(store) == before
    changes = {"extent": 0.4, "chunk_size": 5}
    whole_run(whole, overwrite=True, **changes)
    assert contents(whole) == contents(whole_run(tmp_path / "other.zarr", **changes))


def test_other_examples_weights_bounds_and_analyses_are_refused(whole: Path) -> None:
    clf, x, y = problem()
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
        (traced_maps, clf, x[:22], y[:22], "examples: 23, now 22"),
        (traced_maps, bg.Classifier(weights, device="cpu"), x, y, "classifiers.weights: "),
        (traced_maps, bg.Classifier(network(), bounds=(0, 2), device="cpu"), x, y, r"classifiers.bounds: \[0.0, 1.0\]"),
        (traced_maps, bg.Classifier(network(), mean=0.5, device="cpu"), x, y, r"classifiers.mean: None, now \[0.5\]"),
        (bg.example_maps, clf, x, y, "analysis: long_runs.traced_maps [0-9a-f]{16}, now boundarygeo.maps"),
    ]
    for analysis, other, inputs, labels, message in cases:
        with pytest.raises(ValueError, match=message):
            bg.run(analysis, other, inputs, labels, out=whole, **SETTINGS)


def test_an_old_result_stays_until_the_new_one_is_whole(whole: Path, tmp_path: Path) -> None:
    out, before = whole, contents(whole)

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
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trace = whole, tmp_path / "trace"
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
