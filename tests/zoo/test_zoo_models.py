import itertools
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from boundarygeo.zoo import MODELS, build_model, load_data, load_weights
from boundarygeo.zoo.models import mlp
from boundarygeo.zoo.residual import BasicBlock, PreActBlock, preact_resnet18, resnet20, wide_resnet
from boundarygeo.zoo.vgg import vgg11, vgg16

SHAPES = [(1, 28, 28), (1, 8, 8), (3, 32, 32), (3, 13, 9)]


def images(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_every_shape_and_can_be_traced(name: str, shape: tuple[int, int, int]) -> None:
    model = build_model(name, num_classes=7, input_shape=shape).eval()
    x = images(3, shape)
    logits = model(x)
    assert logits.shape == (3, 7)
    assert torch.equal(fx.symbolic_trace(model)(x), logits)


@pytest.mark.parametrize("name", MODELS)
def test_every_factory_has_defaults(name: str) -> None:
    shape = (1, 28, 28) if name in ("softmax_regression", "mlp", "small_cnn") else (3, 32, 32)
    assert MODELS[name]().eval()(images(2, shape)).shape == (2, 10)


@pytest.mark.parametrize("name", MODELS)
def test_weights_depend_on_the_seed_alone_and_leave_the_random_state_alone(name: str) -> None:
    def build(seed: int) -> list[Tensor]:
        return list(build_model(name, num_classes=4, input_shape=(1, 8, 8), seed=seed).parameters())

    before = torch.get_rng_state()
    first = build(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, build(5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, build(6), strict=True))


@pytest.mark.parametrize(
    ("name", "num_classes", "shape", "message"),
    [
        (
            "vgg",
            10,
            (1, 8, 8),
            "model must be one of softmax_regression, mlp, small_cnn, resnet20, .* or wrn<depth>_<width>, got 'vgg'",
        ),
        ("wrn28_0", 10, (3, 8, 8), "depth must be 10, 16, 22, 28, … and width positive, got 28 and 0"),
        ("wrn20_1", 10, (3, 8, 8), "depth must be 10, 16, 22, 28, … and width positive, got 20 and 1"),
        ("mlp", 1, (1, 8, 8), "num_classes must be at least 2, got 1"),
        ("mlp", 2, (8, 8), r"input_shape must be three positive numbers \(channels, rows, columns\), got \(8, 8\)"),
        ("mlp", 2, (1, 8, 0), "input_shape must be"),
    ],
)
def test_errors_of_build_model(name: str, num_classes: int, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(name, num_classes=num_classes, input_shape=shape)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_those_of_the_papers() -> None:
    assert count(mlp()) == (784 * 200 + 200) + (200 * 200 + 200) + (200 * 10 + 10)
    assert count(resnet20()) == 269_722  # He et al., table 6: 0.27M
    assert count(wide_resnet(16, 4)) == 2_748_890  # Zagoruyko, Komodakis, table 4: 2.7M
    assert count(wide_resnet(28, 10)) == 36_479_194  # 36.5M
    assert count(preact_resnet18()) == 11_172_170
    # Simonyan, Zisserman, table 1, columns A and D: 3×3 convolutions without biases, two numbers per channel for batch
    # normalisation, one linear layer.
    for model, depths in ((vgg11(), (1, 1, 2, 2, 2)), (vgg16(), (2, 2, 3, 3, 3))):
        widths = [width for depth, width in zip(depths, (64, 128, 256, 512, 512), strict=True) for _ in range(depth)]
        convolutions = sum(9 * a * b + 2 * b for a, b in itertools.pairwise((3, *widths)))
        assert count(model) == convolutions + 512 * 10 + 10


def test_a_wide_resnet_of_any_size_has_a_name() -> None:
    model = build_model("wrn10_2", num_classes=3, input_shape=(1, 8, 8)).eval()
    assert count(model) == count(wide_resnet(10, 2, 3, (1, 8, 8)))
    assert model(images(2, (1, 8, 8))).shape == (2, 3)


def test_a_preactivation_block_by_hand() -> None:
    block = PreActBlock(3, 5, stride=2)
    with torch.no_grad():
        for bn in (block.bn1, block.bn2):
            bn.running_mean.uniform_(-1, 1)
            bn.running_var.uniform_(0.5, 2)
    block.eval()
    x = images(2, (3, 6, 6)) - 0.5

    def normalised(bn: nn.BatchNorm2d, h: Tensor) -> Tensor:
        return torch.relu((h - bn.running_mean.view(-1, 1, 1)) / (bn.running_var.view(-1, 1, 1) + bn.eps).sqrt())

    first = normalised(block.bn1, x)
    second = normalised(block.bn2, nn.functional.conv2d(first, block.conv1.weight, stride=2, padding=1))
    shortcut = nn.functional.conv2d(first, block.shortcut.weight, stride=2)
    expected = nn.functional.conv2d(second, block.conv2.weight, padding=1) + shortcut
    torch.testing.assert_close(block(x), expected)
    assert PreActBlock(4, 4, stride=1).shortcut is None


def test_a_block_whose_convolutions_are_silent_is_its_shortcut() -> None:
    block = BasicBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(2, (4, 6, 6))
    out = block(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert out[:, :2].abs().max() == 0
    assert out[:, 6:].abs().max() == 0


@pytest.mark.slow
def test_the_real_resnet20_has_its_published_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        pytest.skip("BOUNDARYGEO_DATA is not set")
    monkeypatch.setenv("BOUNDARYGEO_CACHE", str(tmp_path))
    data = load_data(f"folder:{folder}/cifar10-jpeg.tar", limit=500)
    model = build_model("resnet20", num_classes=10, input_shape=(3, 32, 32))
    load_weights(model, f"{folder}/resnet20-12fca82f.th")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        logits = model.eval()((data.test.x - mean) / std)
    # 80.6 % on 2,000 of these JPEG images; 500 have a standard error of 1.8 points.
    assert (logits.argmax(1) == data.test.y).float().mean().item() == pytest.approx(0.806, abs=0.04)
