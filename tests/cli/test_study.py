"""Study files: models and data listed once, for every command that takes models; what is wrong with a file is one line.

Situations:

- all commands of models, with the names and settings of the file; options besides it win, `--model` is refused
- paths: relative to the file, from another working directory; factories beside it
- bad files: not TOML, missing, without models, unknown keys, wrong kinds, a name twice, weights of a checkpoint
- `compare`: models that are no checkpoints, grouped; checkpoints keep what they say of their training
"""

import csv
import os
import re
from pathlib import Path

import pytest
import torch
from command_line import make_folder, refused, run
from quick_attacks import few_steps

import boundarygeo as bg
from boundarygeo.cli.study import ModelEntry, read_study

Capture = pytest.CaptureFixture[str]
NETS = """\
from torch import nn


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
"""
STUDY = """\
data = "npz:data.npz"
examples = 12
seed = 3

[[model]]
name = "plain"
model = "NETS:plain"
weights = "plain.pth"
mean = [0.5, 0.5, 0.5]
std = "1/4"

[[model]]
name = "trained/well"
model = "model.pt"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a checkpoint, a factory with weights, and a study of both."""
    folder = make_folder(tmp_path_factory.mktemp("study"))
    nets = re.sub(r"\W", "_", f"nets_{folder.name}")
    (folder / f"{nets}.py").write_text(NETS)
    weight = torch.full((2, 192), 0.05) * torch.tensor([[-1.0], [1.0]])
    torch.save({"1.weight": weight, "1.bias": torch.zeros(2)}, folder / "plain.pth")
    (folder / "study.toml").write_text(STUDY.replace("NETS", nets))
    return folder


def with_text(folder: Path, old: str, new: str, name: str = "other.toml") -> Path:
    """Another study file beside the first, with one change."""
    text = (folder / "study.toml").read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    return folder / name


def test_paths_are_relative_to_the_file_and_values_are_those_of_options(folder: Path) -> None:
    study = read_study(folder / "study.toml")
    assert study.settings == {"data": f"npz:{folder}/data.npz", "examples": 12, "seed": 3}
    plain, trained = study.models
    assert (plain.name, plain.weights, plain.mean, plain.std) == (
        "plain", folder / "plain.pth", (0.5, 0.5, 0.5), (0.25,),
    )  # fmt: skip
    assert trained == ModelEntry(str(folder / "model.pt"), name="trained/well")
    usual = read_study(with_text(folder, "seed = 3", "mean = 0.1\nbounds = [-1, 1]"))
    assert [entry.mean for entry in usual.models] == [(0.5, 0.5, 0.5), (0.1,)]
    assert usual.settings["bounds"] == "-1,1"
    unnamed = read_study(with_text(folder, 'name = "trained/well"\n', ""))
    assert unnamed.models[1].name == "model"


def test_models_of_hugging_face_and_home_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "vit").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", "/home/someone")
    for word, expected in (
        ("hf:vit", f"hf:{folder}/vit"),
        ("hf:google/vit", "hf:google/vit"),
        ("~/net.pt", "/home/someone/net.pt"),
        ("/nets/net.pt", "/nets/net.pt"),
        ("timm:resnet18", "timm:resnet18"),
    ):
        assert read_study(with_text(folder, "model.pt", word)).words[1] == expected


COMMANDS: list[tuple[str, ...]] = [
    ("maps", "--resolution", "5"),
    ("lines", "--points", "3"),
    ("pieces",),
    ("distances", "--scan", "2"),
    ("accuracy", "--eps", "0,8/255"),
    ("dims", "--eps", "1", "--max-dimension", "2"),
    ("transfer", "matrix", "--eps", "0.1", "--steps", "2"),
    ("transfer", "agreement"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_take_models_and_data_from_the_file(
    words: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    study = os.path.relpath(folder / "study.toml")
    status, said, complaint = run(capsys, *words, "--study", study, "--device", "cpu")
    assert status == 0, complaint
    assert "plain" in said
    assert "trained/well" in said


def test_the_result_is_that_of_the_same_options(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    study, stores = folder / "study.toml", [tmp_path / f"{name}.zarr" for name in ("file", "options", "both")]
    nets = read_study(study).words[0]
    start = ["accuracy", "--eps", "0,8/255", "--device", "cpu"]
    one = with_text(folder, '[[model]]\nname = "trained/well"\nmodel = "model.pt"\n', "", "one.toml")
    options = ["--model", nets, "--weights", folder / "plain.pth", "--mean", "0.5,0.5,0.5", "--std", "1/4"]
    options += ["--data", f"npz:{folder}/data.npz", "--examples", 12, "--seed", 3]
    assert run(capsys, *start, "--study", one, "--out", stores[0])[0] == 0
    assert run(capsys, *start, *options, "--out", stores[1])[0] == 0
    assert run(capsys, *start, "--study", one, "--examples", 9, "--mean", "1", "--out", stores[2])[0] == 0
    first, second, both = map(bg.load, stores)
    assert isinstance(first, bg.AccuracyCurve)
    assert isinstance(second, bg.AccuracyCurve)
    assert isinstance(both, bg.AccuracyCurve)
    assert torch.equal(first.correct, second.correct)
    assert first.provenance.model == second.provenance.model
    assert both.n == 9
    assert first.n == 12


BAD: dict[str, tuple[str, str, str]] = {
    "not TOML": ("seed = 3", "seed = ", "cannot be read as TOML: Invalid value (at line 3, column"),
    "unknown key": ("examples", "exampels", "has no key 'exampels': did you mean examples?"),
    "unknown key unlike any": ("seed", "colour", "has no key 'colour', only data, examples, seed, size"),
    "unknown key of a model": ("weights", "wieghts", "bad.toml has no key 'wieghts': did you mean weights?"),
    "text for a number": ("= 12", '= "many"', "bad.toml must be a whole number, got 'many'"),
    "truth for a number": ("= 12", "= true", "must be a whole number, got True"),
    "number for a text": ('"model.pt"', "7", "model of model 2 of --study"),
    "no examples": ("= 12", "= 0", "--examples must be at least 1, not 0"),
    "not numbers": ("[0.5, 0.5, 0.5]", "[0.5, true]", "must be numbers, such as"),
    "numbers that are none": ('"1/4"', '"quarter"', "std of model 1 of --study"),
    "a name twice": ('"trained/well"', '"plain"', "has 2 models called 'plain': give each its own name"),
    "a model without a model": ('model = "model.pt"\n', "", "model 2 of --study"),
    "models that are a text": ("seed = 3", 'model = "net.pt"', "cannot be read as TOML"),
    "weights of a checkpoint": ('"model.pt"', '"model.pt"\nweights = "plain.pth"', "has its own weights: leave out"),
    "missing checkpoint": ('"model.pt"', '"none.pt"', "--model must be a checkpoint"),
    "missing weights": ("plain.pth", "none.pth", "none.pth"),
    "missing data": ("data.npz", "none.npz", "none.npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_file_is_one_line(case: str, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    old, new, message = BAD[case]
    out = tmp_path / "out.zarr"
    file = with_text(folder, old, new, "bad.toml")
    assert message in refused(capsys, "transfer", "matrix", "--eps", "1", "--study", file, "--out", out)
    assert not out.exists()


def test_options_that_do_not_go_with_a_file_are_refused(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    study = folder / "study.toml"
    for words, message in (
        (["--model", "nets:a"], f"--study {study} lists the models: leave out --model"),
        (["--figure", study], "--figure must end in"),
        (["--out", study], f"--out would overwrite {study}, which --study reads"),
        (["--out", folder / "plain.pth"], "which --weights reads"),
        (["--out", folder / "model.pt"], "which --model reads"),
        (["--out", folder / "data.npz"], "which --data reads"),
        (["--weights", "a.pt", "--weights", "b.pt"], "--weights must be given once per model without weights of its"),
    ):
        assert message in refused(capsys, "transfer", "agreement", "--study", study, *words)
    empty = tmp_path / "empty.toml"
    empty.write_text("examples = 3\n")
    assert "must list its models, each under [[model]]" in refused(capsys, "maps", "--study", empty)
    assert "cannot be read as TOML: [Errno 2]" in refused(capsys, "maps", "--study", tmp_path / "none.toml")
    assert "Missing option '--model'" in refused(capsys, "maps")
    assert f"--study {study} lists the models: leave out CHECKPOINT" in refused(
        capsys, "compare", folder / "model.pt", "--study", study
    )
    without = with_text(folder, 'data = "npz:data.npz"\n', "", "without.toml")
    assert 'give --data, or write data = "…" into' in refused(capsys, "compare", "--study", without)


def test_compare_takes_any_models_and_their_groups(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    nets = read_study(folder / "study.toml").words[0]
    again = f'[[model]]\nname = "again"\nmodel = "{nets}"\nweights = "plain.pth"\ngroup = "made by hand"\n\n[[model]]\n'
    named = with_text(folder, 'std = "1/4"\n\n[[model]]\n', f'group = "made by hand"\n\n{again}', "groups.toml")
    out = tmp_path / "table.csv"
    words = ["--instruments", "accuracy,transfer", "--restarts", 1, "--queries", 10, "--few", 2, "--device", "cpu"]
    with few_steps():
        status, said, complaint = run(capsys, "compare", "--study", named, *words, "--out", out)
    assert (status, complaint) == (0, "")
    assert "made by hand" in said
    assert "n = 12" in said
    with out.open() as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] in ("clean", "to standard")]
    ones = {(row["name"], row["quantity"]): row for row in rows if row["level"] == "model"}
    assert ones["plain", "clean"]["group"] == ones["again", "clean"]["group"] == "made by hand"
    assert ones["trained_well", "clean"]["group"] == "trained_well"
    assert ones["trained_well", "clean"]["seed"] == "0"
    assert ones["plain", "to standard"]["note"] == "with trained_well"
    groups = {(row["name"], row["quantity"]): row for row in rows if row["level"] == "group"}
    assert groups["made by hand", "clean"]["seeds"] == "2"


ZOO = Path(os.environ.get("BOUNDARYGEO_DATA", "")) / "zoo"
ZOO_NETS = """\
from torch import nn


def conv(channels, kernel, stride, padding, sizes):
    layers, before = [], 1
    for after in channels:
        layers += [nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU()]
        before = after
    layers.append(nn.Flatten())
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def conv_small():
    return conv((16, 32), 4, 2, 0, (800, 100, 10))


def madry_tiny():
    return conv((4, 8), 5, 2, 2, (392, 128, 10))


def cnn_a():
    return conv((16, 32), 4, 2, 1, (1568, 100, 10))
"""


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the networks in BOUNDARYGEO_DATA")
def test_networks_of_third_parties_are_a_study(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "zoo_of_a_study.py").write_text(ZOO_NETS)
    lines = [f'data = "npz:{ZOO.parent}/mnist.npz"', "examples = 10"]
    for name, file in (("conv_small", "conv_small-nat"), ("madry_tiny", "madry_tiny-adv"), ("cnn_a", "cnn_a-adv")):
        lines += [
            "[[model]]",
            f'name = "{name}"',
            f'model = "zoo_of_a_study:{name}"',
            f'weights = "{ZOO}/mnist-{file}.pth"',
        ]
    (tmp_path / "zoo.toml").write_text("\n".join(lines))
    words = ["--eps", "0.1", "--out", tmp_path / "matrix.zarr", "--device", "cpu"]
    status, said, complaint = run(capsys, "transfer", "matrix", "--study", tmp_path / "zoo.toml", *words)
    assert status == 0, complaint
    assert "madry_tiny → cnn_a" in said
    result = bg.load(tmp_path / "matrix.zarr")
    assert isinstance(result, bg.TransferMatrix)
    assert tuple(result.names) == ("conv_small", "madry_tiny", "cnn_a")
    assert len(result.true_labels) == 10
    assert float((result.clean == result.true_labels).double().mean()) > 0.8
