"""Two-dimensional problems, whose whole input space can be drawn: two moons, and spirals.

Points lie in [0, 1]² and have the shape of one-row images with two pixels, `[example, 1, 1, 2]`, so that everything for
images applies to them.
"""

import math
from itertools import pairwise
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn

from boundarygeo.zoo.data import Split

INPUT_SHAPE = (1, 1, 2)
"""Shape of one point: channel, row, columns."""


def two_moons(count: int = 400, *, noise: float = 0.03, seed: int = 0) -> Split:
    """Two interlocking half circles, one per class.

    Args:
        count: number of points, alternating between classes 0 and 1.
        noise: standard deviation of the Gaussian noise on both coordinates, in input units.
        seed: seed of the points.

    Returns:
        Points, float32 `[example, 1, 1, 2]` in [0, 1]², and classes.

    Raises:
        ValueError: if `count` is below 2 or `noise` is negative.
    """
    rng, classes = _start(count, noise, 2, seed)
    angle = rng.uniform(0, math.pi, count)
    upper = classes == 0
    x = 0.3625 + 0.275 * np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = 0.43125 + 0.275 * np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return _split(rng, x, y, classes, noise)


def spirals(count: int = 400, *, classes: int = 2, turns: float = 1.5, noise: float = 0.01, seed: int = 0) -> Split:
    """Interlocking spirals, one arm per class.

    Args:
        count: number of points, cycling through the classes.
        classes: number of arms.
        turns: number of turns of each arm around the centre.
        noise: standard deviation of the Gaussian noise on both coordinates, in input units.
        seed: seed of the points.

    Returns:
        Points, float32 `[example, 1, 1, 2]` in [0, 1]², and classes.

    Raises:
        ValueError: if `count` is below `classes`, there are fewer than 2 classes, or `turns` or `noise` is invalid.
    """
    if not isinstance(classes, Integral) or classes < 2:
        raise ValueError(f"classes must be a whole number, at least 2, got {classes!r}")
    if not 0 < turns < math.inf:
        raise ValueError(f"turns must be a positive number, got {turns}")
    rng, labels = _start(count, noise, classes, seed)
    # Square roots of uniform numbers make points about equally dense along the arm.
    along = np.sqrt(rng.uniform(0.01, 1, count))
    angle = 2 * math.pi * (turns * along + labels / classes)
    radius = 0.45 * along
    return _split(rng, 0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle), labels, noise)


def corners() -> tuple[Tensor, Tensor, Tensor]:
    """Three corners of [0, 1]²: the plane through them, with margin 0, is the input space.

    Returns:
        Bottom left, bottom right and top left, each float32 `[1, 1, 1, 2]`.
    """
    low, right, top = (torch.tensor(point).view(1, *INPUT_SHAPE) for point in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    return low, right, top


def toy_mlp(classes: int = 2, *, width: int = 64, seed: int = 0) -> nn.Module:
    """A network for these problems: three hidden layers of ReLUs.

    Args:
        classes: number of logits.
        width: units of each hidden layer.
        seed: seed of the initial weights.

    Returns:
        The module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        sizes = [2, width, width, width]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, classes))


def _start(count: int, noise: float, classes: int, seed: int) -> tuple[np.random.Generator, np.ndarray]:
    if not isinstance(count, Integral) or count < classes:
        raise ValueError(f"count must be a whole number, at least {classes}, got {count!r}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a number >= 0, got {noise}")
    return np.random.default_rng(seed), np.arange(count) % classes


def _split(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, classes: np.ndarray, noise: float) -> Split:
    points = np.stack([x, y], 1) + noise * rng.standard_normal((len(x), 2))
    return Split(torch.from_numpy(points).float().clamp(0, 1).view(-1, *INPUT_SHAPE), torch.from_numpy(classes))
