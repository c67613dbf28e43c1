"""A comparison killed anywhere resumes, ends as one that was not killed, and measures nothing twice."""

import copy
import csv
import functools
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import make_folder, refused, run, train
from filelock import FileLock
from quick_attacks import few_steps
from small_networks import Bent, nine_to_three
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.comparison import INSTRUMENTS, Comparison, Settings, Subject, bench, compare
from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.instruments import Found
from boundarygeo.comparison.tables import csv_text, markdown
from boundarygeo.results import Result
from boundarygeo.runs import parts as runs_parts

N = 20
SETTINGS = Settings(eps=0.1, radius=0.5, restarts=2, queries=50, few=3, max_dimension=4, pairs=12, sigma=0.02, votes=40)
FEW = ("accuracy", "masking", "spectrum")
LIGHT = ("segments", "spectrum")
PARTS = 9 * 3 + 1
"""Instruments on subjects, and the matrix."""

Called = list[tuple[str, str]]

trained = functools.cache(nine_to_three)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with few_steps():
        yield


def subject(name: str, module: nn.Module, seed: int = 0, **others: Any) -> Subject:
    return Subject(name=name, group=name[:5], classifier=bg.Classifier(module, device="cpu"), seed=seed, **others)


def subjects() -> list[Subject]:
    """Two seeds of one method; and a network without pieces and layers."""
    plain = [
        subject(f"plain{seed}", copy.deepcopy(trained(seed)), seed, standard=True, layers=("1", "3"))
        for seed in range(2)
    ]
    return [*plain, subject("bent", Bent())]


def examples() -> tuple[Tensor, Tensor]:
    x = torch.rand(N, 9, generator=torch.Generator().manual_seed(3))
    y = x[:, :3].argmax(1)
    y[::5] = (y[::5] + 1) % 3
    return x, y


def compared(out: Path | None, **changes: Any) -> Comparison:
    x, y = examples()
    given: dict[str, Any] = {"classifiers": subjects(), "x": x, "y": y, "settings": SETTINGS, "seed": 5}
    return compare(**given | {"index": torch.arange(50, 50 + N), "progress": False} | changes, out=out)


def direct(**changes: Any) -> Comparison:
    """Without saving anything, in batches of the sizes that a saved comparison uses."""
    first = examples()[0]
    given = changes.pop("classifiers", None) or subjects()
    fixed = [each.classifier.with_batch_size(each.classifier.steady_batch_size(first)) for each in given]
    return compared(None, classifiers=[replace(s, classifier=c) for s, c in zip(given, fixed, strict=True)], **changes)


def contents(folder: Path) -> dict[str, Any]:
    """All files, less the clock's readings and what depends on them."""
    files: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        files[name] = file.read_bytes()
        if name.endswith(".zarr/zarr.json"):
            read = json.loads(files[name])
            provenance = json.loads(read["attributes"]["provenance"])
            assert provenance.pop("seconds") > 0
            files[name] = read | {"attributes": read["attributes"] | {"provenance": provenance}}
        elif name.startswith("journal/0"):
            content = json.loads(files[name])["content"]
            assert content.pop("seconds") >= 0
            changing = [key for key in content["files"] if key.endswith(".zarr/zarr.json")]
            files[name] = repr([content, [content["files"].pop(key) for key in changing] and changing])
    return files


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """What is measured, in order; and the attacks that are made."""
    calls: Called = []

    def counted(name: str, measure: Callable[[Bench, Subject], Found]) -> Callable[[Bench, Subject], Found]:
        def measured(where: Bench, who: Subject) -> Found:
            calls.append((name, who.name))
            return measure(where, who)

        return measured

    for name, instrument in INSTRUMENTS.items():
        monkeypatch.setitem(INSTRUMENTS, name, counted(name, instrument))
    for name in ("accuracy_curve", "transfer_matrix"):
        attack = getattr(bench, name)

        def made(*given: Any, _name: str = name, _attack: Any = attack, **settings: Any) -> Any:
            calls.append((_name, ""))
            return _attack(*given, **settings)

        monkeypatch.setattr(bench, name, made)
    return calls


def stop_after(monkeypatch: pytest.MonkeyPatch, parts: int, stop: Callable[[], None]) -> None:
    """Stop when so many parts are kept, before the next entry is written: its results are there already."""
    write, written = runs_parts.write_json, 0

    def counted(file: Path, value: Any) -> None:
        nonlocal written
        if file.stem.isdigit():
            if written == parts:
                stop()
            written += 1
        write(file, value)

    monkeypatch.setattr(runs_parts, "write_json", counted)


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupted(out: Path, parts: int, **changes: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, parts, interrupt)
        with pytest.raises(KeyboardInterrupt):
            compared(out, **changes)


def kill_after(out: str, parts: str) -> None:
    """In a process of its own: killed while it writes."""
    stop_after(pytest.MonkeyPatch(), int(parts), lambda: os.kill(os.getpid(), signal.SIGKILL))
    with few_steps():
        compared(Path(out), instruments=FEW)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, compared(out)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison, and one that was interrupted."""
    folder = tmp_path_factory.mktemp("few")
    compared(folder / "whole", instruments=FEW)
    interrupted(folder / "unfinished", 5, instruments=FEW)
    return folder


def same(one: Result, other: Result) -> None:
    assert one.to_xarray().equals(other.to_xarray())


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_what_is_kept_is_what_is_given_without_keeping(whole: tuple[Path, Comparison]) -> None:
    out, found = whole
    unkept = direct()
    assert csv_text(found) == csv_text(unkept) == (out / "table.csv").read_text()
    assert markdown(found) == markdown(unkept) == (out / "table.md").read_text()
    assert (found.forwards, found.backwards) == (unkept.forwards, unkept.backwards)
    assert {path.name for path in (out / "results").iterdir()} == {f"{'-'.join(key)}.zarr" for key in found.results}
    for key, result in found.results.items():
        same(bg.load(out / "results" / f"{'-'.join(key)}.zarr"), result)
        same(result, unkept.results[key])
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_interrupted_again_and_again_it_ends_as_one_that_was_not(
    whole: tuple[Path, Comparison], called: Called, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        interrupted(out, 11)
        assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    found = compared(out)
    assert contents(out) == contents(whole[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for key, result in whole[1].results.items():
        same(found.results[key], result)
    assert (found.forwards, found.backwards) == (whole[1].forwards, whole[1].backwards)
    kept = [json.loads(entry.read_text())["content"]["seconds"] for entry in sorted((out / "journal").glob("0*"))]
    assert len(kept) == PARTS
    assert found.seconds == pytest.approx(sum(kept))
    # Nothing twice but the two that were stopped, which are neither accuracies nor the matrix.
    assert len([call for call in called if call[1]]) == PARTS - 1 + 2
    assert called.count(("transfer_matrix", "")) == 1
    assert called.count(("accuracy_curve", "")) == 5 * 3


def test_it_may_be_stopped_in_any_part(few: Path, called: Called, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(9):
        interrupted(out, 1, instruments=FEW)
    compared(out, instruments=FEW)
    assert contents(out) == contents(few / "whole")
    measured = [call for call in called if call[1]]
    each = [(name, who) for name in FEW for who in ("plain0", "plain1", "bent")]
    assert list(dict.fromkeys(measured)) == each
    assert [measured.count(call) for call in each] == [1, *[2] * 8]  # the first was not interrupted


def test_a_finished_one_is_read_and_nothing_measured(
    whole: tuple[Path, Comparison], called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(whole[0])
    found = compared(whole[0])
    assert called == []
    assert csv_text(found) == csv_text(whole[1])
    assert len({row.measured.estimate.confidence for row in found.rows}) > 1  # of few examples, less than 95 %
    assert (found.forwards, found.backwards) == (whole[1].forwards, whole[1].backwards)
    assert contents(whole[0]) == before


def test_killed_while_it_writes_it_goes_on(few: Path, called: Called, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folders = [str(folder) for folder in Path(__file__).parents[:2]]
    script = f"import sys; sys.path[:0] = {folders}; import test_compare_journal as test; "
    script += "test.kill_after(*sys.argv[1:])"
    killed = subprocess.run([sys.executable, "-c", script, str(out), "4"], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in (tmp_path / "out.partial" / "journal").glob("0*")) == [
        f"{number:06d}.json" for number in range(4)
    ]
    left = tmp_path / "out.partial" / "results" / ".accuracy-bent-fgsm.zarr.0123.partial"  # as Result.save calls it
    left.mkdir()
    (left / "zarr.json").write_text("{}")
    compared(out, instruments=FEW)
    assert called == [("masking", name) for name in ("plain0", "plain1", "bent")] + [
        ("spectrum", name) for name in ("plain0", "plain1", "bent")
    ]
    assert contents(out) == contents(few / "whole")


def test_a_table_alone_keeps_its_parts_beside_it_until_it_is_there(called: Called, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "Table.CSV"
    interrupted(out, 4, instruments=LIGHT)
    assert [path.name for path in out.parent.iterdir()] == ["Table.CSV.partial"]
    called.clear()
    found = compared(out, instruments=LIGHT)
    assert called == [("spectrum", "plain1"), ("spectrum", "bent")]
    assert out.read_text() == csv_text(found) == csv_text(direct(instruments=LIGHT))
    assert [path.name for path in out.parent.iterdir()] == ["Table.CSV"]
    with pytest.raises(ValueError, match="path must not exist yet"):
        compared(out, instruments=LIGHT)
    compared(out, instruments=["spectrum"], overwrite=True)
    assert out.read_text() == csv_text(direct(instruments=["spectrum"]))


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_numbers_that_are_not_finite_and_failures_are_kept_as_that(called: Called, tmp_path: Path) -> None:
    constant = nn.Linear(9, 3)
    nn.init.zeros_(constant.weight)
    nn.init.constant_(constant.bias[:1], 1.0)
    given = {
        "classifiers": [subject("flat", constant), subject("bent", Bent())],
        "instruments": ["distances", "pieces"],
    }
    unkept = direct(**given)
    called.clear()
    out = tmp_path / "out"
    interrupted(out, 3, **given)
    found = compared(out, **given)
    assert called.count(("pieces", "flat")) == 1
    assert called.count(("pieces", "bent")) == 2  # what was stopped, and no other
    assert csv_text(found) == csv_text(unkept)
    kept = [row.measured for row in found.rows]
    assert any(math.isinf(measured.estimate.value) for measured in kept)
    assert any(math.isnan(measured.estimate.low) for measured in kept)
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert {(bool(row["low"]), bool(row["confidence"])) for row in rows} == {(True, True), (False, False)}
    assert csv_text(compared(out, **given)) == csv_text(unkept)
    assert "affine" in kept[-1].note
    assert not kept[-1].quantity


def test_an_accuracy_that_failed_is_not_looked_for_among_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(where: Bench, who: Subject) -> Found:
        raise ValueError("accuracy must be measurable, got none")

    monkeypatch.setitem(INSTRUMENTS, "accuracy", fails)
    out = tmp_path / "out"
    interrupted(out, 4, instruments=FEW)
    found = compared(out, instruments=FEW)
    assert csv_text(found) == csv_text(direct(instruments=FEW))
    assert found.rows[0].measured.note == "accuracy must be measurable, got none"


# --- what is refused ------------------------------------------------------------------------------------------------


def other_weights() -> list[Subject]:
    first, *others = subjects()
    with torch.no_grad():
        first.classifier.module[0].weight[0, 0] += 1e-3  # type: ignore[index,operator,union-attr]
    return [first, *others]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, "settings.seed: 5, now 6"),
        ({"settings": replace(SETTINGS, eps=0.2, few=4)}, "settings.eps: 0.1, now 0.2; settings.few: 3, now 4"),
        (
            {"instruments": ["spectrum"]},
            "settings.instruments: ['accuracy', 'masking', 'spectrum'], now ['spectrum']",
        ),
        ({"classifiers": other_weights()}, "classifiers.plain0.weights: "),
        ({"classifiers": subjects()[::-1]}, "settings.names: ['plain0', 'plain1', 'bent'], now ['bent', "),
        ({"classifiers": [replace(s, group="g") for s in subjects()]}, "settings.subjects.plain0.group: plain, now g"),
        ({"x": examples()[0] * 0.99}, "data.inputs: "),
        ({"x": examples()[0][:-1], "y": examples()[1][:-1], "index": range(N - 1)}, "examples: 20, now 19; "),
    ],
)  # fmt: skip
def test_other_settings_are_refused_by_name(changes: dict[str, Any], message: str, few: Path, called: Called) -> None:
    before = contents(few)
    for out in (few / "unfinished", few / "whole"):
        with pytest.raises(ValueError, match="was started with other settings") as refusal:
            compared(out, **{"instruments": FEW, **changes})
        assert f"({message}" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert called == []
    assert contents(few) == before


def test_other_versions_devices_and_plans_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, 1, instruments=["spectrum"])
    file = tmp_path / "out.partial" / "journal" / "plan.json"
    plan = json.loads(file.read_text())
    for change, message in (
        ({"versions": plan["versions"] | {"torch": "1.0"}}, r"\(versions.torch: 1.0, now "),
        ({"device": "cuda"}, r"\(device: cuda, now cpu\)"),
        ({"format": 99}, "format 99, and this version of boundarygeo reads formats up to"),
        ({"format": 1}, "was started by an earlier version of boundarygeo and cannot be resumed by this one"),
        ({"new": 1}, "is not the plan of a run: pass overwrite to start again"),
    ):
        file.write_text(json.dumps(plan | change))
        with pytest.raises(ValueError, match=message):
            compared(out, instruments=["spectrum"])
    file.write_text("{")
    with pytest.raises(ValueError, match="is not the plan of a run"):
        compared(out, instruments=["spectrum"])
    compared(out, instruments=["spectrum"], overwrite=True)
    assert (out / "table.md").is_file()


def test_overwriting_starts_anew_and_replaces_once_complete(called: Called, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    interrupted(out, 4, instruments=LIGHT)
    called.clear()
    compared(out, instruments=LIGHT, seed=6, overwrite=True)
    assert len(called) == 2 * 3
    compared(fresh, instruments=LIGHT, seed=6)
    assert contents(out) == contents(fresh)
    (out / "notes.txt").write_text("somebody else's")
    before = contents(out)
    interrupted(out, 2, instruments=["spectrum"], overwrite=True)
    assert contents(out) == before
    called.clear()
    compared(out, instruments=["spectrum"], overwrite=True)
    assert called == [("spectrum", "bent")]  # the same command resumes
    assert (out / "notes.txt").read_text() == "somebody else's"
    assert not list((out / "results").glob("segments*"))
    called.clear()
    compared(out, instruments=["spectrum"], overwrite=True)
    assert len(called) == 3


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must not exist yet"):
        compared(tmp_path)


def test_one_process_at_a_time_writes(tmp_path: Path, called: Called) -> None:
    out = tmp_path / "out"
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(ValueError, match="another process is writing .*out"),
    ):
        compared(out)
    assert called == []
    assert not list(tmp_path.glob("out*"))


def test_names_that_are_no_part_of_a_file_name_are_refused_before_any_work(tmp_path: Path, called: Called) -> None:
    for name in ("a/b", "a\\b", ""):
        with pytest.raises(ValueError, match="its name must be usable in a file name"):
            compared(tmp_path / "out", classifiers=[subject(name, trained(0))])
    assert called == []
    assert list(tmp_path.iterdir()) == []


# --- what is damaged ------------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def change_a_number(file: Path) -> None:
    read = json.loads(file.read_text())
    read["content"]["measurements"][0]["estimate"]["value"] += 0.01
    file.write_text(json.dumps(read))


@pytest.mark.parametrize(
    ("damage", "file", "measured", "finished"),
    [
        (cut, "results/accuracy-plain1-pgd-20.zarr/correct/c/0/0", [("accuracy", "plain1")], False),
        (Path.unlink, "results/accuracy-plain1-fgsm.zarr/zarr.json", [("accuracy", "plain1")], True),
        (cut, "results/transfer-all-matrix.zarr/predicted/c/0/0/0", [], False),
        (cut, "journal/000000.json", [("accuracy", "plain0")], True),
        (change_a_number, "journal/000004.json", [("masking", "plain0")], False),
        (lambda file: file.write_text("[]"), "journal/000004.json", [("masking", "plain0")], True),
    ],
)
def test_what_is_damaged_is_named_and_measured_again(
    damage: Callable[[Path], None],
    file: str,
    measured: Called,
    finished: bool,
    few: Path,
    called: Called,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    root = out if finished else tmp_path / "out.partial"
    shutil.copytree(few / ("whole" if finished else "unfinished.partial"), root)
    damage(root / file)
    with pytest.warns(UserWarning, match=f"is damaged .{file}.: measuring that part again"):
        compared(out, instruments=FEW)
    again = [call for call in called if call[1]]
    assert again[: len(measured)] == measured
    assert len(again) == len(measured) + (0 if finished else 5)
    assert (("transfer_matrix", "") in called) == ("matrix" in file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compared(out, instruments=FEW)
    assert contents(out) == contents(few / "whole")


def test_a_full_disk_is_told_with_what_is_safe(tmp_path: Path, called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4, full)
        with pytest.raises(OSError, match=r"written \(No space left on device\): 4 finished parts are safe"):
            compared(out, instruments=LIGHT)
    called.clear()
    compared(out, instruments=LIGHT)
    assert len(called) == 2


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_kept_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], called: Called
) -> None:
    folder = make_folder(tmp_path)
    models = [train(folder / f"{name}.pt", folder / "data.npz") for name in ("one", "two")]
    out, figures = tmp_path / "out", tmp_path / "figures"
    words = ["compare", *models, "--examples", 12, "--instruments", "accuracy,spectrum", "--queries", 20]
    words += ["--device", "cpu"]
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, interrupt)
        status, said, complaint = run(capsys, *words, "--out", out)
    assert (status, said) == (130, "")
    assert complaint.splitlines() == [
        "boundarygeo: finished measurements are safe; re-running the command resumes from there",
        "boundarygeo: error: interrupted",
    ]
    for place in (out, tmp_path / "out.partial"):
        assert "there is no run at" in refused(capsys, "status", place)
    assert "(settings.seed: 0, now 1; " in refused(capsys, *words, "--out", out, "--seed", 1)
    called.clear()
    status, resumed, complaint = run(capsys, *words, "--out", out)
    assert (status, complaint) == (0, "")
    assert called == [("spectrum", "two")]
    status, again, _ = run(capsys, *words, "--out", out, "--figures", figures)
    assert status == 0
    assert again.startswith(resumed)  # its seconds, too: they are those of what was measured
    assert [path.name for path in figures.iterdir()] == ["accuracy.png"]
    (out / "journal" / "000000.json").write_text("")
    with pytest.warns(UserWarning, match=r"is damaged \(journal/000000.json\): measuring that part again"):
        status, _, _ = run(capsys, *words, "--out", out)
    assert status == 0
