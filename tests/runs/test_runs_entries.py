"""Results of which every example has another number of entries: padded arrays, and lists."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from long_runs import EXAMPLES, Backwards, contents, killed, problem
from oracles import no_labels
from torch import Tensor

import boundarygeo as bg
from boundarygeo.runs import whole as runs_whole
from boundarygeo.runs.whole import RunStore


def pieces_of(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, extent: float) -> bg.LinearPieces:
    """Pieces along directions that grow with the number of the example, and so do their numbers."""
    growing = torch.linspace(0.01, 1, EXAMPLES)[index % EXAMPLES].view(-1, 1, 1, 1) * torch.ones_like(x)
    return bg.linear_pieces(clf, x, no_labels(x), direction=growing, extent=extent, clip=False, progress=False)


def test_examples_may_have_different_numbers_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x, y = problem()
    index = torch.arange(EXAMPLES)
    direct = pieces_of(clf, x, y, index=index, extent=2.0)
    widths = [pieces_of(clf, x[i : i + 4], y, index=index[i : i + 4], extent=2.0).layer.shape[1] for i in (0, 20)]
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
    assert any(key.startswith("logits/c/5/1/") for key in straight)
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
    (turned / "logits" / "c" / "5" / "1" / "0").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"part 5 .* is damaged \(logits/c/5/1/0\): it is computed again"):
        bg.run(pieces_of, clf, x, y, out=turned, **run)
    assert contents(turned) == straight


def test_parts_with_different_numbers_of_entries_are_joined() -> None:
    clf, x, y = problem()
    index = torch.arange(EXAMPLES)
    parts = [pieces_of(clf, x[rows], y, index=index[rows], extent=2.0) for rows in (slice(0, 4), slice(4, EXAMPLES))]
    whole, direct = bg.LinearPieces.concatenate(parts), pieces_of(clf, x, y, index=index, extent=2.0)
    assert parts[0].layer.shape[1] < parts[1].layer.shape[1]
    for name in ("breakpoints", "logits", "layer", "bends", "count"):
        torch.testing.assert_close(getattr(whole, name), getattr(direct, name), equal_nan=True, msg=name)


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
    assert len(kept.owner) > EXAMPLES
    assert torch.equal(kept.owner, direct.owner)
    assert torch.equal(kept.adversarial_label, direct.adversarial_label)
    torch.testing.assert_close(kept.perturbations, direct.perturbations)
    opened, saved = (xr.open_zarr(each) for each in (path, direct.save(tmp_path / "direct.zarr")))
    for name in LISTS:
        assert opened[name].dims == saved[name].dims
        assert opened[name].attrs == saved[name].attrs
        assert opened[name].dtype == saved[name].dtype
    part = bg.load(path, examples=slice(20, 23))
    assert isinstance(part, bg.AdversarialDimension)
    assert torch.equal(part.perturbations, kept.perturbations[(kept.owner >= 20) & (kept.owner < 23)])
    found = bg.load(
        bg.run(bg.sequential_directions, clf, x[7:12], y[7:12], out=tmp_path / "s.zarr", chunk_size=3, max_directions=2)
    )
    whole = bg.sequential_directions(clf, x[7:12], y[7:12], max_directions=2)
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
