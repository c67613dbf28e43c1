"""The command line in process: what it prints, writes and refuses."""

import functools
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from command_line import base, refused, run
from synthetic_maps import make_maps

import boundarygeo as bg
from boundarygeo.cli import main
from boundarygeo.cli.maps import axis_table
from boundarygeo.maps.summary import map_summary
from boundarygeo.training import load_checkpoint, train
from boundarygeo.zoo import build_model, load_data

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


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, said, complaint = run(capsys, *words)
    assert (status, complaint) == (0, "")
    assert said.startswith("Usage: boundarygeo")
    assert said.count("\n") > 15
    for command in ("demo", "maps", "lines", "distances", "accuracy", "pieces", "train", "info"):
        assert command in said


BAD_WORDS = {
    "no such option": (["--colour", "red"], "--colour"),
    "not a number": (["--examples", "many"], "--examples"),
    "extent words": (["--extent", "large"], "--extent takes numbers such as 0.5 or 16/255"),
    "extent fraction": (["--extent", "1/0"], "--extent takes numbers"),
    "even resolution": (["--resolution", "128"], "--resolution must be an odd number of pixels, at least 5, got 128"),
    "tiny resolution": (["--resolution", "1"], "--resolution must be an odd number"),
    "unknown planes": (["--planes", "curved"], "--planes"),
    "unknown to keep": (["--keep", "logits"], "--keep takes some of margin,probability,planes, not 'logits'"),
    "unknown method": (["--method", "clever"], "'--method': 'clever' is not one of 'adaptive', 'dense'"),
    "unknown precision": (["--precision", "half"], "'--precision': 'half' is not one of"),
    "unknown device": (["--device", "toaster"], "device must be 'auto' or a device of this machine"),
    "channels": (["--mean", "0.5,0.5"], "mean"),
    "std": (["--std", "0,0,0"], "std must be positive"),
    "bounds": (["--bounds", "1,0"], "bounds must be"),
    "bounds count": (["--bounds", "1"], "--bounds must be two numbers"),
    "narrow bounds": (["--bounds", "0,0.1"], r"must lie in [0, 0.1]"),
    "unknown data": (["--data", "imagenet22k"], "imagenet22k"),
    "missing npz": (["--data", "npz:nowhere.npz"], "nowhere.npz"),
    "missing folder": (["--data", "folder:nowhere"], "nowhere"),
    "unknown model": (["--model", "my model"], "--model must be a checkpoint"),
    "missing module": (["--model", "no_such_module:net"], "--model must name a factory that can be imported"),
    "missing factory": (["--model", "boundarygeo.zoo.models:no_such"], "--model must name a factory"),
    "not a module": (["--model", "math:sqrt"], "sqrt"),
    "weights too many": (["--weights", "w.th"], "--weights must be given once per model without"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_words_are_one_line_status_2_and_write_nothing(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, message = BAD_WORDS[case]
    monkeypatch.chdir(tmp_path)
    start = base(folder)
    for option in ("--model", "--data", "--device"):
        if option in words:
            place = start.index(option)
            del start[place : place + 2]
    assert message in refused(capsys, *start, *SMALL, "--out", "maps.zarr", *words)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept_unless_overwrite_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.zarr"
    assert run(capsys, *base(folder), *SMALL, "--out", out)[0] == 0
    before = bg.load(out)
    complaint = refused(capsys, *base(folder), *SMALL, "--seed", 1, "--out", out)
    assert "was started with other settings (settings.seed: 0, now 1" in complaint
    after = bg.load(out)
    assert isinstance(before, bg.BoundaryMaps)
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
    assert "evil.pt" in refused(capsys, *words)
    assert not trap.exists()


def test_empty_data_folder(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images" / "test").mkdir(parents=True)
    complaint = refused(capsys, "maps", "--model", folder / "model.pt", "--data", f"folder:{tmp_path}/images")
    assert f"{tmp_path}/images" in complaint


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_an_interrupt_has_its_own_status(
    error: type[BaseException], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(spec: str, **_: object) -> None:
        raise error

    monkeypatch.setattr("boundarygeo.cli.sources.load_data", interrupt)
    status, said, complaint = run(capsys, *base(folder))
    assert (status, said) == (130, "")
    assert complaint in ("", "boundarygeo: error: interrupted\n")


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(spec: str, **_: object) -> None:
        raise RuntimeError("two\n  lines")

    monkeypatch.setattr("boundarygeo.cli.sources.load_data", fail)
    monkeypatch.delenv("BOUNDARYGEO_DEBUG", raising=False)
    expected = "boundarygeo: error: two lines (RuntimeError; set BOUNDARYGEO_DEBUG=1 for the traceback)\n"
    assert run(capsys, *base(folder)) == (2, "", expected)
    monkeypatch.setenv("BOUNDARYGEO_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        main([str(word) for word in base(folder)])


def test_settings_reach_the_maps(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "maps.zarr"
    words = [
        *["--method", "dense", "--precision", "float64", "--no-clip", "--coarse", "3", "--planes", "random", "--seed"],
        5,
    ]
    status, said, _ = run(capsys, *base(folder), *SMALL, *words, "--out", out)
    assert status == 0
    maps = bg.load(out)
    assert isinstance(maps, bg.BoundaryMaps)
    assert (maps.method, maps.clip, maps.provenance.seed) == ("dense", False, 5)
    assert maps.provenance.precision == "float64"
    assert "coarse=3" in maps.provenance.command
    assert "100.0 % of pixels evaluated" in said
    assert f"{maps.provenance.forwards:,} forwards in float64" in said


@pytest.mark.parametrize("planes", ["fgsm_random", "random"])
def test_a_plane_belongs_to_its_example_and_the_seed(
    planes: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The map of an example is that of the library, numbered by its place in the data.
    words = ["--resolution", 17, "--extent", 1, "--planes", planes, "--seed", 3, "--examples", 3]
    assert run(capsys, *base(folder), *words, "--out", tmp_path / "maps.zarr")[0] == 0
    maps = bg.load(tmp_path / "maps.zarr")
    assert isinstance(maps, bg.BoundaryMaps)
    module, checkpoint = load_checkpoint(folder / "model.pt")
    clf = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device="cpu")
    test = load_data(f"npz:{folder}/data.npz").test
    x, y, index = test.x[maps.index], test.y[maps.index], maps.index
    assert torch.equal(maps.true_labels, y)
    same = []
    for settings in ({"seed": 3, "index": index}, {"seed": 3}, {"index": index}):
        make = bg.random_planes if planes == "random" else functools.partial(bg.fgsm_random_planes, clf)
        again = bg.boundary_maps(clf, make(x, y, **settings), extent=1, resolution=17)
        same.append(torch.equal(again.labels, maps.labels))
    assert same == [True, False, False]


def test_a_second_model_is_another_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        capsys,
        *f"train --arch softmax_regression --data npz:{folder}/data.npz --epochs 1 --batch-size 60 --seed 1".split(),
        *("--learning-rate", "1e-5", "--out", tmp_path / "other.pt", "--device", "cpu"),
    )
    words = [*base(folder), "--model", tmp_path / "other.pt", *SMALL, "--out", tmp_path / "{model}.zarr"]
    status, said, _ = run(capsys, *words)
    assert status == 0
    first, second = bg.load(tmp_path / "1.zarr"), bg.load(tmp_path / "2.zarr")
    assert first.provenance.model != second.provenance.model
    agree = 100 * float((first.labels == second.labels).double().mean())
    assert agree < 99
    assert f"agreement with model 1: {agree:.2f} % of pixels" in said


def test_the_table_counts_examples_that_are_right_on_planes_that_exist() -> None:
    labels = np.zeros((4, 9, 9), dtype=int)
    labels[0, :, 7:] = 1  # two of nine columns, on the right
    labels[2], labels[3] = 1, -1
    maps = make_maps(labels, extent=0.4, true_labels=[0, 0, 0, 0], valid=[True, True, True, False])
    rows = axis_table(map_summary([maps]), maps).splitlines()
    assert rows[1].startswith("+ FGSM sign direction  50.0 % [")
    for row, name, true_share in zip(rows[2:5], ("- FGSM", "+ random", "- random"), (100, 88.9, 88.9), strict=True):
        assert row.startswith(name)
        assert "  0.0 % [" in row
        assert re.search(rf"  inf \[inf, inf\] \(50 %\) +{true_share:.1f} %$", row)
    assert rows[5].startswith(
        "n = 2 correctly classified examples (left out: 1 misclassified, 1 without a plane); extent ±0.4000 ε"
    )


def test_train_refuses_what_exists_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").write_text("precious")
    monkeypatch.setattr("boundarygeo.zoo.load_data", lambda spec: pytest.fail("work was begun"))
    assert "must not exist yet" in refused(capsys, "train", "--out", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "precious"


def test_train_does_what_its_options_say(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {}
    for name, words in {
        "one": ["--seed", 0],
        "again": ["--seed", 0],
        "other seed": ["--seed", 1],
        "longer": ["--seed", 0, "--epochs", 2],
        "slower": ["--seed", 0, "--learning-rate", "1e-4"],
        "smaller batches": ["--seed", 0, "--batch-size", 10],
    }.items():
        path = tmp_path / f"{name}.pt"
        start = ["train", "--arch", "softmax_regression", "--data", f"npz:{folder}/data.npz", "--epochs", 1]
        status, said, _ = run(capsys, *start, *words, "--out", path, "--device", "cpu")
        assert status == 0
        assert f"saved {path}" in said
        module, checkpoint = load_checkpoint(path)
        weights[name] = torch.cat([value.flatten() for value in module.state_dict().values()])
        assert len(checkpoint.training.loss) == (2 if name == "longer" else 1)
    assert torch.equal(weights["one"], weights["again"])
    for name in ("other seed", "longer", "slower", "smaller batches"):
        assert not torch.allclose(weights["one"], weights[name]), name


def test_train_is_that_of_the_library_with_the_normalisation_of_the_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train --arch softmax_regression --data npz:{folder}/data.npz --epochs 1 --seed 5 --device cpu".split()
    assert run(capsys, *words, "--batch-size", 10, "--out", tmp_path / "model.pt")[0] == 0
    module, checkpoint = load_checkpoint(tmp_path / "model.pt")
    data = load_data(f"npz:{folder}/data.npz")
    expected = build_model("softmax_regression", num_classes=2, input_shape=data.input_shape, seed=5)
    train(expected, data.train, epochs=1, batch_size=10, mean=data.mean, std=data.std, seed=5, device="cpu")
    for name, value in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name
    assert (checkpoint.mean, checkpoint.std) == (data.mean, data.std)
    assert (checkpoint.architecture, checkpoint.method) == ("softmax_regression", "standard")
