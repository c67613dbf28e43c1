"""Damaged files, other versions, full disks and too little memory: what is lost is named, and computed again."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from long_runs import CHUNK, EXAMPLES, PARTS, TRACE, contents, damage, interrupted, problem, whole_run
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.runs import Job, LocalEngine
from boundarygeo.runs.local import Task, Worker
from boundarygeo.runs.whole import RunStore


@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
@pytest.mark.parametrize("name", ["labels/c/1/0/0", "parts/000001.zarr/labels/c/0/0/0", "parts/000001.json"])
def test_a_damaged_part_is_found_named_and_computed_again(
    how: str, name: str, whole: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trace, finished = whole, tmp_path / "trace", not name.startswith("parts")
    if not finished:
        shutil.rmtree(out)
        interrupted(out, 3)
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
    assert trace.read_text().split() == (
        ["4"] if finished else ["4", *(str(first) for first in range(12, EXAMPLES, CHUNK))]
    )
    assert bg.run_status(out, verify=True).damaged == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.zarr", "trace"]


def test_a_part_that_is_damaged_before_all_are_joined_is_noticed(
    expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert contents(out) == expected


def test_a_repair_that_is_stopped_is_resumed(
    whole: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trace = whole, tmp_path / "trace"
    for part in (1, 3, 5):
        damage(out / "labels" / "c" / str(part) / "0" / "0", "truncated")
    monkeypatch.setenv(TRACE, str(trace))
    with pytest.warns(UserWarning, match="is damaged"):
        interrupted(out, 2)
    with pytest.warns(UserWarning, match="part 5 "):
        whole_run(out)
    assert trace.read_text().split() == ["4", "12", "20"]
    assert contents(out) == expected


@pytest.mark.parametrize("how", ["truncated", "edited"])
@pytest.mark.parametrize("name", ["u/c/0", "labels/zarr.json", "chunks/parts.json"])
def test_where_what_all_chunks_share_is_damaged_all_are_computed_again(
    name: str, how: str, whole: Path, expected: dict[str, bytes]
) -> None:
    if how == "edited":
        file = whole / name
        file.write_bytes(file.read_bytes().replace(b"17", b"19").replace(b"\x80", b"\x81"))
    else:
        damage(whole / name, how)
    assert contents(whole) != expected
    assert len(bg.run_status(whole, verify=True).damaged or {}) == PARTS
    with pytest.warns(UserWarning, match="is damaged"):
        whole_run(whole)
    assert contents(whole) == expected


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


@pytest.mark.parametrize("failing", [30, 90])
def test_a_full_disk_is_said_and_what_is_there_can_be_read(
    failing: int, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert (0 < done.done < PARTS) == (failing == 30)
    assert done.damaged == {}
    assert len(bg.load(out.with_name("run.zarr.partial")).labels) == done.examples_done  # type: ignore[attr-defined]
    whole_run(out)
    assert contents(out) == expected


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


def test_a_disk_that_is_really_full_or_read_only(small_disk: Path, expected: dict[str, bytes]) -> None:
    out = small_disk / "run.zarr"
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\)"):
        whole_run(out)
    done = bg.run_status(out, verify=True)
    assert 0 < done.done < PARTS
    assert done.damaged == {}
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="out must be in a writable folder, got .*Read-only file system"):
        whole_run(out)
    assert len(bg.load(out.with_name("run.zarr.partial")).labels) == done.examples_done  # type: ignore[attr-defined]
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(small_disk)], check=True)
    whole_run(out)
    assert contents(out) == expected


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


@pytest.mark.slow
def test_the_simulation_of_many_workers_writes_whole_stores() -> None:
    scale = Path(__file__).parent.parent.parent / "benchmarks" / "scale.py"
    words = ["--workers", "2", "--stores", "2", "--examples", "48", "--chunk-size", "16", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, str(scale), *words, "--failures", "0.5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = re.findall(r"^\| 2 \|.*\| (\d+) of 6 \|", done.stdout, re.MULTILINE)
    assert int(row) > 0  # chunks that were lost and computed again
