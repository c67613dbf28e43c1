"""`boundarygeo compare`: what it prints and keeps is what the library gives; bad input is one line, and no file."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import classifier, make_folder, refused, run, train
from quick_attacks import few_steps

import boundarygeo as bg
from boundarygeo.cli.checkpoints import group_names
from boundarygeo.comparison import INSTRUMENTS
from boundarygeo.results.statistics import share
from boundarygeo.training import Checkpoint, TrainingResult, load_checkpoint, save_checkpoint
from boundarygeo.zoo import build_model, load_data

Capture = pytest.CaptureFixture[str]
SMALL = ("--examples", 20, "--few", 2, "--pairs", 10, "--restarts", 2, "--queries", 50, "--max-dimension", 4)
SMALL += ("--device", "cpu")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with few_steps():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("compare"))
    train(folder / "plain.pt", folder / "data.npz", "mlp", "--seeds", 2)
    train(folder / "mixed.pt", folder / "data.npz", "mlp", "--method", "mixup", "--set", "alpha=2", "--seed", 1)
    return folder


def models(folder: Path) -> list[Path]:
    return [folder / name for name in ("plain-seed0.pt", "plain-seed1.pt", "mixed.pt")]


def test_the_table_groups_seeds_and_is_kept_with_results_and_figures(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures"
    words = ["--instruments", "accuracy, masking,transfer,segments", "--out", out, "--figures", figures]
    status, said, complaint = run(capsys, "compare", *models(folder), *SMALL, *words)
    assert (status, complaint) == (0, "")
    for word in ("mlp standard", "mlp mixup (alpha 2.0)", "ε = 0.03137; n = 20", "gradient masking", "forwards"):
        assert word in said
    assert {path.stem for path in figures.iterdir()} == {"accuracy", "masking", "segments", "transfer"}
    data = load_data(f"npz:{folder}/data.npz")
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20]
    x, y = data.test.x[order], data.test.y[order]
    pgd = bg.accuracy_curve(classifier(folder / "mixed.pt"), x, y, attack="pgd", eps=[8 / 255], steps=20, index=order)
    kept = bg.load(out / "results" / "accuracy-mixed-pgd-20.zarr")
    assert isinstance(kept, bg.AccuracyCurve)
    assert torch.equal(kept.correct, pgd.correct)
    with (out / "table.csv").open() as file:
        rows = {(row["name"], row["quantity"]): row for row in csv.DictReader(file)}
    expected = share(int(pgd.correct.sum()), 20)
    assert float(rows["mixed", "PGD-20"]["low"]) == expected.low
    assert expected.percent() in said
    assert (rows["plain-seed1", "clean"]["group"], rows["plain-seed1", "clean"]["seed"]) == ("mlp standard", "1")
    assert rows["mixed", "to standard"]["note"] == "with plain-seed1"
    assert rows["mlp standard", "clean"]["seeds"] == "2"
    assert "| mlp standard | 2 |" in (out / "table.md").read_text()
    assert "was started with other settings" in refused(capsys, "compare", *models(folder), *SMALL, "--out", out)
    words = ["--instruments", "spectrum", "--out", out, "--overwrite"]
    assert run(capsys, "compare", folder / "mixed.pt", *SMALL, *words)[0] == 0
    assert [path.name for path in (out / "results").iterdir()] == ["spectrum-mixed-spectrum.zarr"]


def test_all_instruments_work_on_one_checkpoint_and_the_table_alone_is_written(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "deep" / "table.csv"
    words = ["--smoothing", "0.2", "--votes", 20, "--frame", "--eps", "16/255", "--radius", 2, "--out", out]
    status, said, _ = run(capsys, "compare", folder / "mixed.pt", *SMALL, *words)
    assert status == 0
    assert "optimised frames, inside the bounds" in said
    assert "σ = 0.2, 20 noise vectors" in said
    assert "ε = 0.06275" in said
    assert "L2, ε = 2;" in said
    with out.open() as file:
        used = dict.fromkeys(row["instrument"] for row in csv.DictReader(file))
    assert list(used) == [name for name in INSTRUMENTS if name != "transfer"]
    assert [path.name for path in out.parent.iterdir()] == ["table.csv"]


def test_bad_input_is_one_line_and_nothing_is_written(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    def saved(name: str, **changes: Any) -> Path:
        checkpoint = dataclasses.replace(load_checkpoint(folder / "mixed.pt")[1], **changes)
        module = build_model("mlp", num_classes=checkpoint.num_classes, input_shape=checkpoint.input_shape)
        return save_checkpoint(folder / f"{name}.pt", module, checkpoint, overwrite=True)

    three, grey = saved("three", num_classes=3), saved("grey", input_shape=(1, 8, 8), mean=(0.5,), std=(0.5,))
    elsewhere, nowhere = saved("elsewhere", data="digits"), saved("nowhere", data="")
    mixed, plain = folder / "mixed.pt", folder / "plain-seed0.pt"
    before = sorted(folder.iterdir())
    out = tmp_path / "out"
    for words, message in (
        (
            (mixed, "--instruments", "accuracy,maps"),
            "--instruments takes some of accuracy,masking,distances,",
        ),
        ((mixed, "--instruments", "transfer"), "'transfer' needs a standard model among the others"),
        ((mixed, "--instruments", "certified"), "'certified' needs the standard deviation"),
        ((mixed, folder / "missing.pt"), "missing.pt"),
        ((mixed, folder / "data.npz"), "data.npz"),
        ((mixed, mixed), "checkpoint 'mixed' is given twice"),
        ((mixed, three), "must have the same number of classes, got 2 (mixed) and 3 (three)"),
        ((mixed, grey), "must have the same input shape, got [3, 8, 8] (mixed) and [1, 8, 8] (grey)"),
        ((mixed, elsewhere), "pass --data: the checkpoints were trained on different data"),
        ((nowhere,), "pass --data: checkpoint nowhere does not record its data"),
        ((mixed, "--data", "digits"), "--data must have the input shape of the checkpoints, [3, 8, 8], got [1, 8, 8]"),
        ((mixed, "--eps", "-1"), "--eps must be a positive number, not '-1'"),
        ((mixed, "--restarts", 0), "--restarts must be at least 1, not 0"),
        ((mixed, plain, "--figures", out), "--out and --figures are the same folder"),
        ((), "Missing argument"),
    ):
        complaint = refused(capsys, "compare", *SMALL, "--out", out, *words)
        assert message in complaint
    assert not out.exists()
    assert sorted(folder.iterdir()) == before


def test_groups_are_named_by_what_tells_them_apart() -> None:
    def checkpoint(method: str, seed: int, settings: dict[str, Any], **config: Any) -> Checkpoint:
        training = TrainingResult(
            loss=(1.0,), accuracy=(0.5,), test_accuracy=(0.5,), seconds=1.0, seed=seed,
            config={"epochs": 3, "settings": settings, **config},
        )  # fmt: skip
        return Checkpoint(
            architecture="mlp", num_classes=2, input_shape=(1, 8, 8), data="digits", method=method, training=training
        )

    usual = {"alpha": 1.0}
    cases = {
        "mlp standard, epochs 3": checkpoint("standard", 0, {}, device="cpu"),
        "mlp standard, epochs 9": checkpoint("standard", 1, {}, epochs=9, device="cuda"),
        "mlp mixup": checkpoint("mixup", 0, usual),
        "mlp mixup (alpha 0.2)": checkpoint("mixup", 0, {"alpha": 0.2}),
        "mlp batchout (eta 0.3,-0.2)": checkpoint("batchout", 0, {"eta": [0.3, -0.2]}),
        "file": dataclasses.replace(checkpoint("", 0, {}), training=None),
    }
    assert group_names(list(cases.values()), ["file"] * len(cases)) == list(cases)
    seeds = [checkpoint("mixup", seed, usual, device=device) for seed, device in enumerate(("cpu", "cuda"))]
    assert group_names(seeds, ["a", "b"]) == ["mlp mixup", "mlp mixup"]
