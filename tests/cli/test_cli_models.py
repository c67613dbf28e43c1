"""Models from the words of the command line, and what is said of those that cannot be used.

Situations:

- factories: with needed arguments (functions, classes, decorated and partial ones), failing in the user's file, in
  another file of the user's, in a library, by SystemExit; giving something else; misspelt; a module instead of one
- files of modules: a syntax error, a failure at import, an import of something missing, a file name instead of a name
- files: a state dict, a module, an object beside the weights, text
- libraries: normalisation, photo pipeline and names that come with their models; weights of the user's with as many
  classes, or others; misspelt names, missing libraries, failed downloads
"""

import enum
import importlib
import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refused, run
from PIL import Image
from torch import nn

from boundarygeo.adapters import Pipeline
from boundarygeo.cli.factories import make_module
from boundarygeo.cli.models import Model, load_models
from boundarygeo.cli.sources import load_images, make_classifier
from boundarygeo.cli.study import ModelEntry
from boundarygeo.zoo import Dataset

NEAREST = Image.Resampling.NEAREST

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
    (model,) = load_models([ModelEntry("torchvision:squeezenet1_1")], weights=[torchvision_weights[1000]])
    assert model.class_names[1] == "goldfish"
    assert model.channels == 3
    assert model.prepare is not None
    assert model.prepare(Image.new("RGB", (300, 260))).shape == (3, 224, 224)
    clf = make_classifier(model, mean=None, std=None, bounds="0,1", device="cpu")
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(clf.normalise(torch.full((1, 3, 1, 1), 0.5)).flatten(), expected)
    other = make_classifier(model, mean="0", std="1", bounds="0,1", device="cpu")
    assert other.normalise(torch.full((1, 3, 1, 1), 0.5)).unique().tolist() == [0.5]


def test_weights_of_other_classes_have_the_head_that_fits_and_no_names(torchvision_weights: dict[int, Path]) -> None:
    (model,) = load_models([ModelEntry("torchvision:squeezenet1_1")], weights=[torchvision_weights[5]])
    assert model.module.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert (model.class_names, model.mean, model.prepare) == ((), None, None)
    with pytest.warns(UserWarning, match="its inputs are not normalised"):
        make_classifier(model, mean=None, std=None, bounds="0,1", device="cpu")


def test_downloaded_weights_say_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    state = models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state, raising=False)
    (model,) = load_models([ModelEntry("torchvision:squeezenet1_1")])
    assert model.names_are_certain
    assert len(model.class_names) == 1000
    with pytest.raises(ValueError, match="must name a model of torchvision, got 'no_such_net'"):
        load_models([ModelEntry("torchvision:no_such_net")])


def write_photos(folder: Path) -> str:
    rng = np.random.default_rng(0)
    for name, (rows, cols) in (("goldfish", (60, 90)), ("tench", (300, 240))):
        (folder / "val" / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (rows, cols, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "val" / name / "0.png")
    return f"folder:{folder}"


def resized(rows: int, cols: int, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> Pipeline:
    def prepare(photo: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(photo.resize((cols, rows), resampling))).movedim(-1, 0) / 255

    return prepare


def model(word: str, prepare: Pipeline | None = None) -> Model:
    return Model(word, nn.Identity(), prepare=prepare, source=f"pipeline of {word}")


def photos(models: list[Model], folder: Path, **sizes: int) -> Dataset:
    return load_images(write_photos(folder), models, **({"resize": None, "size": None} | sizes))


@pytest.mark.parametrize(
    ("pipelines", "words", "shape"),
    [
        ([resized(20, 30)], {}, (20, 30)),
        ([resized(20, 30), None], {}, (20, 30)),
        ([resized(20, 30), resized(20, 30)], {}, (20, 30)),
        ([resized(20, 30), resized(30, 30)], {"size": 32}, (32, 32)),
        ([resized(20, 30)], {"size": 40, "resize": 48}, (40, 40)),
        ([None], {"size": 40, "resize": 48}, (40, 40)),
    ],
)
def test_photos_of_any_size_are_prepared_as_the_models_or_the_options_say(
    pipelines: list[Pipeline | None], words: dict[str, int], shape: tuple[int, int], tmp_path: Path
) -> None:
    data = photos([model(f"net{k}", prepare) for k, prepare in enumerate(pipelines)], tmp_path, **words)
    assert data.test.x[:].shape == (2, 3, *shape)


@pytest.mark.parametrize(
    ("other", "shown"),
    [(resized(30, 30), "a (3x20x30, by pipeline of a) and b (3x30x30, by"), (resized(20, 30, NEAREST), "3x20x30")],
)
def test_models_that_prepare_photos_differently_are_refused_without_a_size(
    other: Pipeline, shown: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(shown)) as error:
        photos([model("a", resized(20, 30)), model("b", other)], tmp_path)
    assert str(error.value).startswith("--size (and --resize) must be given for models that prepare photos differently")


def test_photos_prepared_by_torchvision_s_weights_are_those_of_its_resize_and_crop(
    torchvision_weights: dict[int, Path], tmp_path: Path
) -> None:
    (loaded,) = load_models([ModelEntry("torchvision:squeezenet1_1")], weights=[torchvision_weights[1000]])
    prepared = photos([loaded], tmp_path).test.x[:]
    cropped = load_images(f"folder:{tmp_path}", [loaded], resize=256, size=224).test.x[:]
    assert torch.equal(prepared, cropped)


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


# Models of other libraries: built from configurations, with the weights of a file.


@pytest.fixture
def tiny_timm(tmp_path: Path) -> Path:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "timm.pt")
    return tmp_path / "timm.pt"


def test_timm_s_models_come_with_names_normalisation_and_pipeline(tiny_timm: Path) -> None:
    (found,) = load_models([ModelEntry("timm:test_resnet")], weights=[tiny_timm])
    assert found.class_names[:2] == ("tench", "goldfish")  # torchvision's, without synonyms
    assert not found.names_are_certain
    assert found.mean == (0.5, 0.5, 0.5)
    assert found.prepare is not None
    assert found.prepare(Image.new("RGB", (300, 200))).shape == (3, 160, 160)
    clf = make_classifier(found, mean=None, std=None, bounds="0,1", device="cpu")
    assert "timm's configuration of test_resnet" in clf.source
    (own,) = load_models([ModelEntry("timm:test_resnet", weights=tiny_timm, mean=(0.25,), std=(1.0,))])
    assert (own.mean, own.std) == ((0.25,), (1.0,))


def test_weights_of_other_classes_fit_models_of_timm_and_hugging_face(hf_folder: Path, tmp_path: Path) -> None:
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    torch.save(timm.create_model("test_resnet", num_classes=7).state_dict(), tmp_path / "timm7.pt")
    config = transformers.AutoConfig.from_pretrained(hf_folder, num_labels=7)
    torch.save(transformers.ViTForImageClassification(config).state_dict(), tmp_path / "hf7.pt")
    entries = [ModelEntry("timm:test_resnet"), ModelEntry(f"hf:{hf_folder}")]
    for loaded, side in zip(
        load_models(entries, weights=[tmp_path / "timm7.pt", tmp_path / "hf7.pt"]), (160, 32), strict=True
    ):
        assert (loaded.class_names, loaded.mean, loaded.prepare) == ((), None, None)
        with pytest.warns(UserWarning, match="its inputs are not normalised"):
            clf = make_classifier(loaded, mean=None, std=None, bounds="0,1", device="cpu")
        assert clf.logits(torch.rand(2, 3, side, side)).shape == (2, 7)


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    """A tiny vision transformer, saved with its image processor."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    names = {0: "goldfish", 1: "tench", 2: "owl"}
    config = transformers.ViTConfig(**small, image_size=32, patch_size=8, id2label=names)
    folder = tmp_path / "tiny-vit"
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_folder_of_hugging_face_has_everything(
    hf_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    (found,) = load_models([ModelEntry(f"hf:{hf_folder}")])
    assert found.class_names == ("goldfish", "tench", "owl")
    assert found.names_are_certain
    data = photos([found], tmp_path / "photos")
    clf = make_classifier(found, mean=None, std=None, bounds="0,1", device="cpu")
    own = transformers.AutoModelForImageClassification.from_pretrained(hf_folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(hf_folder)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    with torch.no_grad():
        expected = own(**processor([Image.open(file) for file in files], return_tensors="pt")).logits
    x = data.test.x[data.test.y.argsort()]
    torch.testing.assert_close(clf.logits(x), expected, rtol=1e-3, atol=1e-4)
    words = ["accuracy", "--model", f"hf:{hf_folder}", "--data", f"folder:{tmp_path}/photos", "--examples", 2]
    status, said, complaint = run(capsys, *words, "--eps", "0,1/255", "--device", "cpu")
    assert status == 0, complaint
    assert "n = 2" in said


class FakeKind(enum.Enum):
    CIFAR10 = "cifar10"
    LINF = "Linf"


def fake_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 10))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What a stand-in for RobustBench is asked to load."""
    asked: list[tuple[object, ...]] = []

    def load_model(name: str, *, model_dir: Path, dataset: str, threat_model: str) -> nn.Module:
        asked.append((name, model_dir.name, dataset, threat_model))
        return fake_net()

    zoo = {FakeKind.CIFAR10: {FakeKind.LINF: {"Carmon2019Unlabeled": {"model": fake_net}}}}
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    for name, held in (("model_zoo", {"model_dicts": zoo}), ("utils", {"load_model": load_model})):
        module = types.ModuleType(f"robustbench.{name}")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_robustbench_s_models_are_loaded_by_name(asked: list[tuple[object, ...]], tmp_path: Path) -> None:
    for word in ("robustbench:Carmon2019Unlabeled", "robustbench:Carmon2019Unlabeled:cifar10:Linf"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (found,) = load_models([ModelEntry(word)])
            clf = make_classifier(found, mean=None, std=None, bounds="0,1", device="cpu")
        assert clf.logits(torch.rand(2, 3, 8, 8)).shape == (2, 10)
        assert asked.pop() == ("Carmon2019Unlabeled", "robustbench", "cifar10", "Linf")
    torch.save(fake_net().state_dict(), tmp_path / "w.pt")
    load_models([ModelEntry("robustbench:Carmon2019Unlabeled", weights=tmp_path / "w.pt")])
    assert not asked
    for word, said in (
        ("Carmon2019", "must name a model of RobustBench for cifar10:Linf, got 'Carmon2019': did you mean Carmon2019U"),
        (
            "Carmon2019Unlabeled:cifar10:L2",
            "a data set and threat model of RobustBench, got 'cifar10:L2': did you mean",
        ),
        ("Carmon2019Unlabeled:cifar10", "must be robustbench:NAME or robustbench:NAME:DATASET:THREAT, got"),
    ):
        with pytest.raises(ValueError, match=said):
            load_models([ModelEntry(f"robustbench:{word}")])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("torchvision:resnet_18", "must name a model of torchvision, got 'resnet_18': did you mean resnet18 or"),
        (
            "torchvision:resnet50@IMAGENET1K_V3",
            "must name weights of torchvision:resnet50, got 'IMAGENET1K_V3': did you",
        ),
        ("timm:test_resnt", "must name a model of timm, got 'test_resnt': did you mean test_resnet or"),
        (
            "timm:test_resnet.r160",
            "must name a model of timm, got 'test_resnet.r160': did you mean test_resnet.r160_in",
        ),
        ("hf:no/such/folder/at/all", "hf:no/such/folder/at/all could not be loaded: "),
        ("timm:", "must be a checkpoint"),
    ],
)
def test_unknown_models_are_told_what_there_is(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip({"timm": "timm", "hf": "transformers"}.get(word.partition(":")[0], "torchvision"))
    assert said in refused(capsys, "maps", "--model", word, "--data", "digits", "--extent", 1)


@pytest.mark.parametrize("name", ["timm", "transformers", "robustbench.model_zoo"])
def test_a_missing_library_is_named_with_its_package(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    library, package = {"transformers": "hf"}.get(name, name.partition(".")[0]), name.partition(".")[0]
    complaint = refused(capsys, "maps", "--model", f"{library}:anything", "--data", "digits", "--extent", 1)
    assert f"{package} cannot be imported (" in complaint
    assert complaint.endswith(f"): pip install {package}\n")


def test_a_failed_download_is_told_the_way_out(
    hf_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")

    def fails(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    for owner, name in (
        (timm, "create_model"),
        (transformers.AutoModelForImageClassification, "from_pretrained"),
        (importlib.import_module("torchvision.models"), "get_model"),
    ):
        monkeypatch.setattr(owner, name, fails)
    for word, instead in (
        ("timm:test_resnet", "--weights FILE"),
        ("torchvision:squeezenet1_1", "--weights FILE"),
        (f"hf:{hf_folder}", "hf:FOLDER, where it is saved"),
    ):
        complaint = refused(capsys, "maps", "--model", word, "--data", "digits", "--extent", 1)
        assert f"{word} could not be loaded: no route to host; without a network, pass {instead}" in complaint


def test_a_transformer_without_a_classifier_is_refused(hf_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTModel(transformers.AutoConfig.from_pretrained(hf_folder)).save_pretrained(hf_folder)
    with pytest.raises(ValueError, match="could not be loaded: it has no weights for classifier"):
        load_models([ModelEntry(f"hf:{hf_folder}")])
