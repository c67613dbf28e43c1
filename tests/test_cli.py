"""The command line in process: what it prints, writes and refuses."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import boundarygeo as bg
from boundarygeo.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 60 + 60 tiny images in two classes, told apart by brightness, and a checkpoint trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    split = {}
    for name in ("train", "test"):
        bright = labels[:, None, None, None] * 120
        split[f"x_{name}"] = (rng.integers(0, 120, (60, 8, 8, 3)) + bright).astype(np.uint8)
        split[f"y_{name}"] = labels
    np.savez(folder / "data.npz", **split)
    with pytest.raises(SystemExit) as stopped:
        main(
            f"train --arch softmax_regression --data npz:{folder}/data.npz --epochs 3 --batch-size 16 "
            f"--out {folder}/model.pt --device cpu".split()
        )
    assert stopped.value.code == 0
    return folder


def base(folder: Path) -> list[object]:
    return ["maps", "--model", folder / "model.pt", "--data", f"npz:{folder}/data.npz", "--device", "cpu"]


SMALL = ["--examples", 4, "--resolution", 17, "--extent", "64/255"]


@pytest.mark.parametrize("planes", ["fgsm_random", "fgsm_adversarial", "random"])
def test_maps_writes_data_and_figure_and_prints_its_table(
    planes: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figure = tmp_path / "maps.zarr", tmp_path / "maps.png"
    status, said, _ = run(capsys, *base(folder), *SMALL, "--planes", planes, "--out", out, "--figure", figure)
    assert status == 0
    maps = bg.load(out)
    assert isinstance(maps, bg.BoundaryMaps)
    assert maps.kind == planes
    assert maps.labels.shape == (4, 17, 17)
    assert maps.u[-1] == pytest.approx(64 / 255)
    assert figure.stat().st_size > 1000
    assert "label changes within extent" in said
    assert re.search(r"n = 4 correctly classified examples \(left out: 0 misclassified, 0 without a plane\)", said)


def test_same_seed_same_maps_other_seed_other_examples(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = []
    for number, seed in enumerate((0, 0, 1)):
        stores.append(tmp_path / f"{number}.zarr")
        assert run(capsys, *base(folder), *SMALL, "--seed", seed, "--out", stores[-1])[0] == 0
    first, second, third = (bg.load(store) for store in stores)
    assert isinstance(first, bg.BoundaryMaps)
    assert isinstance(second, bg.BoundaryMaps)
    assert isinstance(third, bg.BoundaryMaps)
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.index, second.index)
    assert not torch.equal(first.index, third.index)


def test_a_factory_with_weights_is_a_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_nets.py").write_text(
        textwrap.dedent("""
        from torch import nn
        def tiny(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        """)
    )
    weight = torch.linspace(-1, 1, 384).view(2, 192)
    state = {"module.1.weight": weight, "module.1.bias": torch.zeros(2)}
    torch.save({"state_dict": state}, tmp_path / "w.th")
    monkeypatch.chdir(tmp_path)
    words = ["maps", "--model", "my_nets:tiny", "--data", f"npz:{folder}/data.npz", *SMALL, "--include-misclassified"]
    status, said, _ = run(capsys, *words, "--weights", "w.th", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert status == 0
    assert "n = " in said


def test_several_models_on_the_planes_of_the_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*base(folder), "--model", folder / "model.pt", *SMALL, "--figure", tmp_path / "outlines.png"]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "{model}.zarr")
    assert status == 0
    first, second = bg.load(tmp_path / "1.zarr"), bg.load(tmp_path / "2.zarr")
    assert isinstance(first, bg.BoundaryMaps)
    assert isinstance(second, bg.BoundaryMaps)
    assert torch.equal(first.labels, second.labels)
    assert (tmp_path / "outlines.png").exists()
    assert "agreement with model 1: 100.00 %" in said


def test_fewer_correct_examples_than_asked_for_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match=r"only \d+ of the 1000 correctly classified examples"):
        status, said, _ = run(capsys, *base(folder), "--examples", 1000, "--resolution", 9)
    assert status == 0
    assert "n = " in said


def test_info_says_versions_devices_and_precision(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "info")
    assert status == 0
    for word in (torch.__version__, "cpu", "precision auto =", "small_cnn", "standard"):
        assert word in said


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "--help")
    assert status == 0
    for command in ("demo", "maps", "train", "info"):
        assert command in said


BAD_WORDS = {
    "no such option": (["--colour", "red"], "--colour"),
    "not a number": (["--examples", "many"], "--examples"),
    "extent zero": (["--extent", "0"], "extent must be a positive number"),
    "extent negative": (["--extent", "-16/255"], "extent must be a positive number"),
    "extent words": (["--extent", "large"], "--extent must be numbers such as 0.5 or 16/255"),
    "extent fraction": (["--extent", "1/0"], "--extent must be numbers"),
    "even resolution": (["--resolution", "128"], "resolution must be an odd number of pixels, at least 5, got 128"),
    "tiny resolution": (["--resolution", "1"], "resolution must be an odd number"),
    "unknown planes": (["--planes", "curved"], "--planes"),
    "unknown method": (["--method", "clever"], "method must be one of"),
    "unknown precision": (["--precision", "half"], "precision must be 'auto' or one of"),
    "no examples": (["--examples", "0"], "--examples must be at least 1, got 0"),
    "unknown device": (["--device", "toaster"], "device must be 'auto' or a device of this machine"),
    "channels": (["--mean", "0.5,0.5"], "mean"),
    "std": (["--std", "0,0,0"], "std must be positive"),
    "bounds": (["--bounds", "1,0"], "bounds must be"),
    "bounds count": (["--bounds", "1"], "--bounds must be two numbers"),
    "narrow bounds": (["--bounds", "0,0.1"], r"must lie in the bounds [0, 0.1]"),
    "unknown data": (["--data", "imagenet22k"], "imagenet22k"),
    "missing npz": (["--data", "npz:nowhere.npz"], "nowhere.npz"),
    "missing folder": (["--data", "folder:nowhere"], "nowhere"),
    "unknown model": (["--model", "my model"], "--model must be a checkpoint"),
    "missing module": (["--model", "no_such_module:net"], "--model must name a factory that can be imported"),
    "missing factory": (["--model", "boundarygeo.zoo.models:no_such"], "--model must name a factory"),
    "not a module": (["--model", "math:sqrt"], "sqrt"),
    "weights too many": (
        ["--weights", "w.th"],
        "--weights must be given once per model without",
    ),
    "one store for two": (["--model", "boundarygeo.zoo.models:mlp"], "--out must hold {model} for 2 models"),
    "figure format": (["--figure", "grid.docx"], "path must end in .png, .pdf, .svg"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_words_are_one_line_status_2_and_write_nothing(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, message = BAD_WORDS[case]
    monkeypatch.chdir(tmp_path)
    start = base(folder)
    for option in ("--model", "--data", "--device"):
        if option in words and case != "one store for two":
            place = start.index(option)
            del start[place : place + 2]
    status, _, complaint = run(capsys, *start, *SMALL, "--out", "maps.zarr", *words)
    assert status == 2
    assert complaint.count("\n") == 1
    assert complaint.startswith("boundarygeo: error: ")
    assert message in complaint
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept_unless_overwrite_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.zarr"
    assert run(capsys, *base(folder), *SMALL, "--out", out)[0] == 0
    before = bg.load(out)
    status, _, complaint = run(capsys, *base(folder), *SMALL, "--seed", 1, "--out", out)
    assert status == 2
    assert "must not exist yet" in complaint
    after = bg.load(out)
    assert isinstance(before, bg.BoundaryMaps)
    assert isinstance(after, bg.BoundaryMaps)
    assert torch.equal(before.index, after.index)
    # A run that fails later leaves the old result, too.
    assert run(capsys, *base(folder), *SMALL, "--extent", 0, "--out", out, "--overwrite")[0] == 2
    assert torch.equal(bg.load(out).index, before.index)  # type: ignore[attr-defined]
    assert run(capsys, *base(folder), *SMALL, "--seed", 1, "--out", out, "--overwrite")[0] == 0
    assert not torch.equal(bg.load(out).index, before.index)  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["maps.zarr"]


class Bomb:
    """What a malicious pickle holds: unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("option", ["--model", "--weights"])
def test_pickled_code_is_refused_and_not_run(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "executed"
    torch.save({"state_dict": Bomb(trap)}, tmp_path / "evil.pt")
    words = ["maps", "--data", f"npz:{folder}/data.npz", *SMALL, option, tmp_path / "evil.pt"]
    if option == "--weights":
        words += ["--model", "boundarygeo.zoo.models:softmax_regression"]
    status, _, complaint = run(capsys, *words)
    assert status == 2
    assert complaint.count("\n") == 1
    assert "evil.pt" in complaint
    assert not trap.exists()


def test_empty_data_folder(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images" / "test").mkdir(parents=True)
    words = ["maps", "--model", folder / "model.pt", "--data", f"folder:{tmp_path}/images"]
    status, _, complaint = run(capsys, *words)
    assert status == 2
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "magic"], "--method must be one of ['standard'], got 'magic'"),
        (["--arch", "transformer"], "--arch must be one of"),
        (["--epochs", "0"], "epochs must be positive"),
    ],
)
def test_train_refuses_what_it_does_not_know(
    words: list[str], message: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, complaint = run(
        capsys, "train", "--data", f"npz:{folder}/data.npz", "--out", tmp_path / "m.pt", "--device", "cpu", *words
    )
    assert status == 2
    assert message in complaint
    assert not list(tmp_path.iterdir())
