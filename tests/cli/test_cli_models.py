"""Models from the words of the command line, and what is said of those that cannot be used.

Situations:

- factories: with needed arguments (functions, classes, decorated and partial ones), failing in the user's file, in
  another file of the user's, in a library, by SystemExit; giving something else; misspelt; a module instead of one
- files of modules: a syntax error, a failure at import, an import of something missing, a file name instead of a name
- files: a state dict, a module, an object beside the weights, text
- torchvision: normalisation, sizes and names from its weights; weights of the user's with as many classes, or others
"""

import re
from pathlib import Path

import pytest
import torch
from command_line import refused, run
from PIL import Image
from torch import nn

from boundarygeo.cli.factories import make_module
from boundarygeo.cli.models import Model, load_models
from boundarygeo.cli.sources import load_images, make_classifier

NETS = """\
import argparse
import functools

import torch
from torch import nn

from {helper} import broken, quit_at_once


def sized(depth, width, *, scale, bias=True):
    return nn.Linear(depth, width)


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()


@functools.cache
def cached(depth):
    return nn.Linear(depth, 2)


half = functools.partial(sized, 3)


def fails():
    sizes = []
    return nn.Linear(sizes[0], 2)


def fails_in_a_library():
    return nn.Conv2d(
        3,
        4, 3, groups=2)


def fails_elsewhere():
    return broken()


def parses():
    argparse.ArgumentParser().parse_args(["--no-such-option"])


def number():
    return 3


def quits():
    quit_at_once()


def fine(*args, width=4, **settings):
    return nn.Linear(2, width)


class Models:
    small = staticmethod(fine)
    net = fine()
"""
HELPER = """\
import sys


def broken():
    raise RuntimeError("no such file\\nand more")


def quit_at_once():
    sys.exit()
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with factories, in the folder where the command runs; another one for every test."""
    stem = re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{stem}_helper.py").write_text(HELPER)
    (tmp_path / f"{stem}.py").write_text(NETS.replace("{helper}", f"{stem}_helper"))
    monkeypatch.chdir(tmp_path)
    return stem


def line(text: str, part: str) -> int:
    return 1 + next(k for k, each in enumerate(text.splitlines()) if part in each)


@pytest.mark.parametrize(
    ("factory", "said", "place"),
    [
        ("sized", "needs arguments (depth, width, scale;", "def sized"),
        ("Net", "needs arguments (num_classes;", "class Net"),
        ("cached", "needs arguments (depth;", "def cached"),
        ("half", "needs arguments (width, scale;", "def sized"),
        ("fails", "failed with IndexError: list index out of range", "sizes[0]"),
        ("fails_in_a_library", "failed with ValueError: ", "return nn.Conv2d"),
        ("number", "must make a torch.nn.Module, got int (", "def number"),
        ("parses", "failed with SystemExit: 2", "argparse.ArgumentParser()"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said_with_its_line(factory: str, said: str, place: str, nets: str) -> None:
    with pytest.raises(ValueError) as error:
        make_module(f"{nets}:{factory}")
    assert said in str(error.value)
    assert f"{nets}.py:{line(NETS, place)})" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_line_is_that_of_the_innermost_file_of_the_user_s(nets: str) -> None:
    place = line(HELPER, "raise")
    with pytest.raises(ValueError, match=rf"failed with RuntimeError: no such file \({nets}_helper.py:{place}\)$"):
        make_module(f"{nets}:fails_elsewhere")
    with pytest.raises(ValueError, match=rf"failed with SystemExit \({nets}_helper.py:{line(HELPER, 'exit()')}\)$"):
        make_module(f"{nets}:quits")


def test_factories_with_optional_arguments_and_modules_are_taken(nets: str) -> None:
    for factory in ("fine", "Models.small", "Models.net"):
        module = make_module(f"{nets}:{factory}")
        assert isinstance(module, nn.Linear)
        assert module.out_features == 4


def test_misspelt_factories_are_told_what_there_is(nets: str) -> None:
    with pytest.raises(ValueError, match=f"must name a factory, .*{nets} has no 'fin': did you mean fine"):
        make_module(f"{nets}:fin")
    with pytest.raises(ValueError, match="Models.* has no 'smal': did you mean small|has no 'smal'"):
        make_module(f"{nets}:Models.smal")
    with pytest.raises(ValueError, match=f"No module named .*: write {nets}:fine"):
        make_module(f"{nets}.py:fine")
    with pytest.raises(ValueError, match="that can be imported, .*No module named 'no_such_module'$"):
        make_module("no_such_module:fine")


@pytest.mark.parametrize(
    ("text", "said", "number"),
    [
        ("import torch\n\ndef net(:\n    pass\n", "SyntaxError: ", 3),
        ("def net():\n    pass\n  x = 3\n", "IndentationError: ", 3),
        ("import torch\nimport no_such_package_anywhere\n", "ModuleNotFoundError: No module named 'no_such_pack", 2),
        ("from torch import no_such_thing\n", "ImportError: cannot import name 'no_such_thing'", 1),
        ("x = 1\n\ny = x / 0\n", "ZeroDivisionError: division by zero", 3),
        ("import torch\ntorch.ones(2) @ torch.ones(3)\n", "RuntimeError: ", 2),
        ("import sys\nsys.exit('usage')\n", "SystemExit: usage", 2),
    ],
)
def test_files_that_cannot_be_imported_are_told_with_their_line(
    text: str,
    said: str,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "file_" + re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    complaint = refused(capsys, "maps", "--model", f"{name}:net", "--data", "digits", "--extent", 1)
    assert f"--model {name}:net cannot be imported: {said}" in complaint
    assert complaint.endswith(f"({name}.py:{number})\n")


class Unknown:
    """Something that a file may hold, and that is not plain data."""


def test_files_that_are_no_checkpoints_are_told_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = nn.Linear(2, 3)
    file = tmp_path / "own.pt"
    for content, said in (
        (module.state_dict(), "it holds weights alone"),
        ({"epoch": 3, "model": module.state_dict()}, "it holds weights alone"),
        ({"epoch": 3, "loss": 0.5}, "it holds a dict with the keys epoch, loss"),
        ({"model": module.state_dict(), "options": Unknown()}, "Unknown"),
        (module, "torch.nn.modules.linear.Linear"),
        ([1, 2], "list"),
    ):
        torch.save(content, file)
        complaint = refused(capsys, "maps", "--model", file, "--data", "digits", "--extent", 1)
        assert "not a checkpoint of boundarygeo" in complaint
        assert said in complaint
        assert "--model package.module:factory --weights FILE" in complaint
        assert "torch.save(module.state_dict(), FILE)" in complaint
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "--weights FILE" in refused(capsys, "maps", "--model", file, "--data", "digits", "--extent", 1)


def test_weights_of_another_number_of_classes_are_said_to_be_that(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in nn.Linear(2, 7).state_dict().items()}}, "w.pt")
    complaint = refused(
        capsys, "maps", "--model", f"{nets}:fine", "--weights", "w.pt", "--data", "digits", "--extent", 1
    )
    assert re.search(r"7 classes, the model has 4", complaint)


@pytest.fixture
def torchvision_weights(tmp_path: Path) -> dict[int, Path]:
    from torchvision import models

    files = {}
    for classes in (5, 1000):
        files[classes] = tmp_path / f"{classes}.pt"
        torch.save(models.squeezenet1_1(weights=None, num_classes=classes).state_dict(), files[classes])
    return files


def test_torchvision_s_models_come_with_names_normalisation_and_sizes(
    torchvision_weights: dict[int, Path], tmp_path: Path
) -> None:
    (model,) = load_models(["torchvision:squeezenet1_1"], weights=[torchvision_weights[1000]], classes=[])
    assert model.class_names[1] == "goldfish"
    assert (model.resize, model.size, model.channels) == (256, 224, 3)
    clf = make_classifier(model, mean=None, std=None, bounds="0,1", device="cpu")
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(clf.normalise(torch.full((1, 3, 1, 1), 0.5)).flatten(), expected)
    other = make_classifier(model, mean="0", std="1", bounds="0,1", device="cpu")
    assert other.normalise(torch.full((1, 3, 1, 1), 0.5)).unique().tolist() == [0.5]


def test_weights_of_other_classes_have_the_head_that_fits_and_no_names(torchvision_weights: dict[int, Path]) -> None:
    (model,) = load_models(["torchvision:squeezenet1_1"], weights=[torchvision_weights[5]], classes=[])
    assert model.module.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert (model.class_names, model.mean, model.size) == ((), None, None)
    with pytest.warns(UserWarning, match="its inputs are not normalised"):
        make_classifier(model, mean=None, std=None, bounds="0,1", device="cpu")


def test_downloaded_weights_say_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    state = models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state, raising=False)
    (model,) = load_models(["torchvision:squeezenet1_1"], weights=[], classes=[])
    assert model.names_are_certain
    assert len(model.class_names) == 1000
    with pytest.raises(ValueError, match="must name a model of torchvision, got 'no_such_net'"):
        load_models(["torchvision:no_such_net"], weights=[], classes=[])


def write_photos(folder: Path) -> str:
    for name, size in (("goldfish", (60, 90)), ("tench", (300, 240))):
        (folder / "val" / name).mkdir(parents=True)
        Image.new("RGB", size, "red").save(folder / "val" / name / "0.png")
    return f"folder:{folder}"


@pytest.mark.parametrize(
    ("models", "words", "side"),
    [
        ([(256, 224)], {}, 224),
        ([(232, 224), (None, None)], {}, 224),
        ([(256, 224)], {"size": 32}, 32),
        ([(256, 224)], {"size": 40, "resize": 48}, 40),
        ([(None, None)], {"size": 40, "resize": 48}, 40),
    ],
)
def test_photos_of_any_size_are_prepared_as_the_models_or_the_options_say(
    models: list[tuple[int | None, int | None]], words: dict[str, int], side: int, tmp_path: Path
) -> None:
    made = [Model(f"net{k}", nn.Identity(), resize=resize, size=size) for k, (resize, size) in enumerate(models)]
    data = load_images(write_photos(tmp_path), made, **({"resize": None, "size": None} | words))
    assert data.test.x[:].shape == (2, 3, side, side)


def test_models_that_take_images_of_different_sizes_are_refused_without_a_size(tmp_path: Path) -> None:
    models = [Model(str(size), nn.Identity(), resize=size + 32, size=size) for size in (224, 299)]
    with pytest.raises(ValueError, match="224 .--resize 256 --size 224., 299 .--resize 331 --size 299"):
        load_images(write_photos(tmp_path), models, resize=None, size=None)


def test_grey_images_are_read_in_as_many_channels_as_the_network_takes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8), 100).save(tmp_path / name / "0.png")
    for channels, expected in ((3, 3), (1, 1), (None, 1)):
        data = load_images(
            f"folder:{tmp_path}", [Model("net", nn.Identity(), channels=channels)], resize=None, size=None
        )
        assert data.test.x.shape[1] == expected


def test_the_first_command_on_a_folder_of_photos(
    torchvision_weights: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "torchvision:squeezenet1_1", "--weights", torchvision_weights[1000], "--size", 64]
    words += ["--data", write_photos(tmp_path / "photos"), "--examples", 2, "--eps", 0, "--device", "cpu"]
    status, said, complaint = run(capsys, "accuracy", *words)
    assert status == 0, complaint
    assert "n = 2" in said
