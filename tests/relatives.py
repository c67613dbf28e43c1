"""Classifiers that have much in common: lines at a known angle, and networks with almost the same weights."""

import math
from collections.abc import Sequence

import torch
from oracles import Linear, SmallNet, images
from torch import Tensor

import boundarygeo as bg

PIXELS = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def lines_at(degrees: float) -> dict[str, bg.Classifier]:
    """Two lines through the origin of the plane at an angle."""
    half = math.radians(degrees / 2)
    normals = torch.tensor([[math.cos(side * half), math.sin(side * half)] for side in (1, -1)])
    return {name: bg.Classifier(Linear(w, 0.0), bounds=(-10, 10)) for name, w in zip("ab", normals, strict=True)}


def on_the_bisector(degrees: float, sides: Sequence[int] = (1, -1)) -> tuple[Tensor, Tensor]:
    """Ten points at distances 0.1, 0.2, … 1.0 from both lines, on alternating sides of them."""
    side = torch.tensor(sides).repeat(10)[:10]
    along = side * torch.arange(1, 11).double() / 10 / math.cos(math.radians(degrees / 2))
    return torch.stack([along, torch.zeros(10)], 1).float(), (side > 0).long()


def nets(seeds: Sequence[int], count: int) -> tuple[list[bg.Classifier], Tensor, Tensor]:
    """A random net and others near it (0 is the net itself), and images of all classes with the first one's labels."""
    several, x = [], images(count, seed=5)
    mean = SmallNet().eval()(x).mean(0).detach()  # without which almost all images are of one class
    for seed in seeds:
        net = SmallNet()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            net.head.bias -= mean
            for parameter in net.parameters():
                parameter += (0.1 if seed else 0.0) * torch.randn(parameter.shape, generator=generator)
        several.append(bg.Classifier(net, device="cpu"))
    return several, x, several[0].predict(x)


def relatives(count: int, x: Tensor = PIXELS) -> dict[str, bg.Classifier]:
    """Networks with almost the same weights, and all classes among the images."""
    noise = torch.Generator().manual_seed(1)
    several = {}
    for name in "abc"[:count]:
        net = SmallNet()
        with torch.no_grad():
            for weight in net.parameters():
                weight += 0.2 * weight.std() * torch.randn(weight.shape, generator=noise)
            net.eval()
            net.head.bias -= net(x).mean(0)
        several[name] = bg.Classifier(net)
    return several
