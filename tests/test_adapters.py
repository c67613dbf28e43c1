"""Models of other libraries, built from configurations: logits equal those of each library's own pipeline."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import boundarygeo as bg
from boundarygeo.adapters import Logits, adapt, normaliser_of


def photo(width: int = 300, height: int = 260) -> Image.Image:
    rows, cols = np.mgrid[:height, :width]
    waves = [np.sin(cols / 17), np.cos(rows / 11), np.sin((rows + cols) / 23)]
    return Image.fromarray((127.5 * (1 + np.stack(waves, -1))).astype(np.uint8))


def logits_of(found) -> torch.Tensor:
    """Logits from the photo by way of inputs in [0, 1]."""
    x = found.prepare(photo())
    assert 0 <= x.min() < 0.05
    assert 0.95 < x.max() <= 1
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (found.mean, found.std))
    with torch.no_grad():
        return found.module.eval()(((x - mean) / std)[None])[0]


def test_torchvision_with_its_weights() -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model, weights = models.squeezenet1_1().eval(), models.SqueezeNet1_1_Weights.DEFAULT
    found = adapt(model, weights=weights)
    with torch.no_grad():
        own = model(weights.transforms()(photo())[None])[0]
    torch.testing.assert_close(logits_of(found), own, rtol=1e-4, atol=1e-5)
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.class_names[1] == "goldfish"
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in found.source


def test_timm_with_its_configuration() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False).eval()
    found = adapt(model)
    config = timm.data.resolve_model_data_config(model)
    with torch.no_grad():
        own = model(timm.data.create_transform(**config)(photo())[None])[0]
    torch.testing.assert_close(logits_of(found), own, rtol=1e-4, atol=1e-5)
    assert found.mean == config["mean"]
    assert len(found.class_names) in (0, model.num_classes)
    assert "test_resnet" in found.source


PROCESSORS = [
    ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}),
    (
        "EfficientNetImageProcessor",
        {"size": {"height": 32, "width": 32}, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    ),
    ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_normalize": False}),
]


@pytest.mark.parametrize(("kind", "settings"), PROCESSORS)
def test_hugging_face_with_its_image_processor(kind: str, settings: dict) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 8,
    }
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            **small, id2label={0: "cat", 1: "dog", 2: "owl"}, label2id={"cat": 0, "dog": 1, "owl": 2}
        )
    ).eval()
    processor = getattr(transformers, kind)(**settings)
    found = adapt(model, image_processor=processor)
    with torch.no_grad():
        own = model(**processor(photo(), return_tensors="pt")).logits[0]
    torch.testing.assert_close(logits_of(found), own, rtol=1e-3, atol=1e-4)
    assert found.class_names == ("cat", "dog", "owl")


class Several(nn.Module):
    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape, self.inner = shape, nn.Linear(4, 3)

    def forward(self, x):
        logits = self.inner(x)
        return {"tuple": (x, logits), "dict": {"out": logits, "features": x}}[self.shape]


@pytest.mark.parametrize(("shape", "output"), [("tuple", 1), ("dict", "out")])
def test_one_of_several_outputs(shape: str, output: str | int) -> None:
    model, x = Several(shape), torch.rand(2, 4)
    found = adapt(model, output=output)
    assert isinstance(found.module, Logits)
    torch.testing.assert_close(found.module(x), model.inner(x))


class NormalizeLayer(nn.Module):
    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


@pytest.mark.parametrize(
    ("mean", "words"),
    [([0.485, 0.456, 0.406], "the same in both"), ([0.5, 0.5, 0.5], r"mean \(0.5, 0.5, 0.5\) .* inside, \(0.485")],
)
def test_a_layer_inside_wins_over_the_weights_and_a_warning_has_both(mean: list[float], words: str) -> None:
    models = pytest.importorskip("torchvision.models")
    layer = NormalizeLayer(mean, [0.229, 0.224, 0.225])
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 3))
    assert normaliser_of(model)[0] == "0"
    with pytest.warns(UserWarning, match=words):
        found = adapt(model, weights=models.SqueezeNet1_1_Weights.DEFAULT)
    assert found.mean is None
    assert found.std is None


def test_any_transform_and_one_that_is_not_affine() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    steps = [transforms.Resize((20, 24)), transforms.ToTensor(), transforms.Normalize([0.1, 0.2, 0.3], [0.4, 0.5, 2.0])]
    found = adapt(nn.Flatten(), transform=transforms.Compose(steps))
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 2.0))
    torch.testing.assert_close(found.prepare(photo()), transforms.Compose(steps[:2])(photo()), rtol=0, atol=1e-6)
    for step in (
        transforms.Lambda(lambda x: x**2),
        transforms.RandomSolarize(0.5, 1.0),
        transforms.Lambda(lambda x: x.flip(0)),
    ):
        with pytest.raises(ValueError, match="the given transform does not normalise red, green and blue by fixed"):
            adapt(nn.Flatten(), transform=transforms.Compose([*steps[:2], step]))
        assert adapt(nn.Flatten(), transform=transforms.Compose([*steps[:2], step]), stated=True).mean is None


def test_batch_norm_is_no_normaliser() -> None:
    assert normaliser_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.LayerNorm(3))) is None


def test_what_is_missing_is_said() -> None:
    models = pytest.importorskip("torchvision.models")
    with pytest.raises(ValueError, match="model of torchvision needs weights=…, a member of its weights, or mean and"):
        adapt(models.squeezenet1_1())
    with pytest.raises(TypeError, match="weights must be a member of torchvision's weights, got str"):
        adapt(models.squeezenet1_1(), weights="DEFAULT")
    with pytest.raises(TypeError, match="image_processor must be one of transformers, got int"):
        adapt(nn.Linear(2, 2), image_processor=3)
    assert adapt(models.squeezenet1_1(), stated=True).mean is None


@pytest.mark.parametrize(("shape", "output"), [("tuple", 1), ("dict", "out")])
def test_a_wrapped_classifier_is_one_like_any_other(shape: str, output: str | int, tmp_path: Path) -> None:
    model, x, y = Several(shape), torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(TypeError, match=r"say which output it is with Classifier.wrap\(module, output=…\)"):
        bg.Classifier(model).logits(x)
    clf = bg.Classifier.wrap(model, output=output, class_names=["a", "b", "c"])
    torch.testing.assert_close(clf.logits(x), model.inner(x).detach())
    bare = bg.Classifier(model.inner)
    torch.testing.assert_close(bg.fgsm(clf, x, y, eps=0.1).x_adv, bg.fgsm(bare, x, y, eps=0.1).x_adv)
    assert clf.with_batch_size(2).class_names == ("a", "b", "c")


def test_normalisation_names_and_source_come_along(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    weights = models.SqueezeNet1_1_Weights.DEFAULT
    torch.manual_seed(0)
    model = models.squeezenet1_1().eval()
    clf = bg.Classifier.wrap(model, weights=weights)
    x = clf.prepare(photo())[None]
    with torch.no_grad():
        torch.testing.assert_close(clf.logits(x), model(weights.transforms()(photo())[None]), rtol=1e-4, atol=1e-5)
    assert "from torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1" in repr(clf)
    again = pickle.loads(pickle.dumps(clf))
    assert (again.class_names, again.source, again.prepare) == (clf.class_names, clf.source, None)
    result = bg.load(bg.fgsm(clf, x, torch.tensor([1]), eps=1 / 255).save(tmp_path / "found.zarr"))
    assert result.provenance.source == clf.source
    own = bg.Classifier.wrap(model, weights=weights, mean=[0.5], std=[0.25])
    assert own.settings()["mean"] == [0.5]


def test_names_must_be_as_many_as_outputs() -> None:
    with pytest.raises(ValueError, match="class_names must be 3, like num_classes, got 2"):
        bg.Classifier(nn.Linear(4, 3), num_classes=3, class_names=["a", "b"])
    with pytest.raises(ValueError, match="the module returns 3 logits, but num_classes is 2"):
        bg.Classifier(nn.Linear(4, 3), class_names=["a", "b"]).logits(torch.rand(2, 4))
