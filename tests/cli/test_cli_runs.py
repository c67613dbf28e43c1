"""Commands that are stopped and called again, and the options of long runs."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from command_line import base, run
from filelock import FileLock
from long_runs import contents, killed

import boundarygeo as bg
from boundarygeo.runs import Job, LocalEngine
from boundarygeo.runs.local import Done, Task
from boundarygeo.runs.whole import RunStore

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


QUICK = ("distances, one way kept", "dims, own alone", "matrix", "between boundaries")
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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SEVERAL]
)
def test_commands_with_several_results_go_on_with_all_of_them(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *words = SEVERAL[name]
    words += ["--examples", 3, "--chunk-size", 1 if command.startswith("transfer") else 2]
    words = [*command.split(), *base(folder)[1:], "--model", folder / "other.pt", *words]
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
    status, expected, _ = run(capsys, *words)
    assert status == 0
    needed, out = len(calls), tmp_path / "run"
    assert needed >= 3
    calls.clear()
    stops_at[0] = max(2, -(-needed // 3))
    out.mkdir()
    monkeypatch.chdir(out)
    status, said, complaint = run(capsys, *words)
    assert status == 130
    assert "re-running the command resumes from there" in complaint
    assert bool(list(out.glob(".*.unkept"))) == (name in HIDDEN)
    for _ in range(3):
        if status:
            status, said, _ = run(capsys, *words)
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
