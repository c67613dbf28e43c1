"""Eleven networks that others trained, plainly, adversarially and provably, with test images that they get right.

They need BOUNDARYGEO_DATA: the folder with mnist.npz, cifar10-jpeg.tar, resnet20-12fca82f.th, and zoo/ with the ten
state dicts of the alpha-beta-CROWN and auto_LiRPA model folders.
"""

import functools
import os
import sys
from pathlib import Path

import torch
from real import resnet20_on_cifar10
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.zoo import load_data

Convolution = tuple[int, int, int, int]
"""Channels, kernel size, stride and padding."""

_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_NETWORKS: dict[str, tuple[tuple[Convolution, ...], tuple[int, ...], tuple[tuple[float, ...], ...] | None]]
_NETWORKS = {
    "mnist-fc_6_200-nat": ((), (784, 200, 200, 200, 200, 200, 10), None),
    "mnist-conv_small-nat": (((16, 4, 2, 0), (32, 4, 2, 0)), (800, 100, 10), None),
    "mnist-madry_tiny-adv": (((4, 5, 2, 2), (8, 5, 2, 2)), (392, 128, 10), None),
    "mnist-cnn_a-adv": (((16, 4, 2, 1), (32, 4, 2, 1)), (1568, 100, 10), None),
    "cifar-marabou_medium-nat": (((16, 4, 2, 0), (32, 4, 2, 0)), (1152, 128, 64, 10), None),
    "cifar-conv_small-pgd": (((16, 4, 2, 0), (32, 4, 2, 0)), (1152, 100, 10), _CIFAR),
    "cifar-cnn_a-adv": (((16, 4, 2, 1), (32, 4, 2, 1)), (2048, 100, 10), _CIFAR),
    "cifar-cnn_a-mix": (((16, 4, 2, 1), (32, 4, 2, 1)), (2048, 100, 10), _CIFAR),
    "cifar-oval_base-provable": (
        ((8, 4, 2, 1), (16, 4, 2, 1)),
        (1024, 100, 10),
        ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    ),
    "cifar-resnet2b-adv": ((), (1024, 100, 10), ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))),
}
NAMES = (*_NETWORKS, "cifar-resnet20-nat")
EPS = {"mnist": {"linf": 0.3, "l2": 2.0}, "cifar": {"linf": 8 / 255, "l2": 0.5}}
"""The usual radii of tables of robust accuracy; those networks that were trained for less are also named so there."""


def third_party(name: str, count: int, device: str = "auto") -> tuple[bg.Classifier, Tensor, Tensor]:
    """One of `NAMES`, and the first test images, of a fixed random order, that it gets right."""
    if name == "cifar-resnet20-nat":
        return resnet20_on_cifar10(count, device)
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder with mnist.npz, cifar10-jpeg.tar and zoo/")
    _, _, normalisation = _NETWORKS[name]
    mean, std = normalisation or (None, None)
    clf = bg.Classifier(_module(name, Path(folder)), mean=mean, std=std, device=device)
    x, y = _test_images(name.split("-")[0], folder)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: 3 * count + 100]
    right = order[clf.predict(x[order]) == y[order]][:count]
    return clf, x[right], y[right]


@functools.cache
def _test_images(data: str, folder: str) -> tuple[Tensor, Tensor]:
    if data == "mnist":
        images = load_data(f"npz:{folder}/mnist.npz").test
    else:
        images = load_data(f"folder:{folder}/cifar10-jpeg.tar").test
    return images.x[:], images.y


def _module(name: str, folder: Path) -> nn.Module:
    convolutions, linear, _ = _NETWORKS[name]
    module = _ResNet2b() if "resnet2b" in name else _sequential(convolutions, linear, 1 if "mnist" in name else 3)
    state = torch.load(folder / "zoo" / f"{name}.pth", weights_only=True, map_location="cpu")
    state = state.get("state_dict", state)
    module.load_state_dict(state[0] if isinstance(state, list) else state)
    return module


def _sequential(convolutions: tuple[Convolution, ...], linear: tuple[int, ...], channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, kernel, stride, padding in convolutions:
        layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
        channels = width
    layers.append(nn.Flatten())
    for i in range(len(linear) - 1):
        layers += [nn.Linear(linear[i], linear[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class _ResNet2b(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(_Block(8, 16, 2), _Block(16, 16, 1))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layer1(torch.relu(self.conv1(x))).flatten(1)
        return self.linear2(torch.relu(self.linear1(features)))
