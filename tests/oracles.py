"""Classifiers whose decision regions are known on paper, and slow, readable references."""

import torch
from torch import Tensor, nn

import boundarygeo as bg


class Linear(nn.Module):
    """Two classes, logits ±(wᵀx - b)/2: the boundary is the hyperplane wᵀx = b."""

    def __init__(self, weight: Tensor, offset: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.offset = nn.Parameter(torch.tensor(float(offset)))

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) @ self.weight - self.offset)[:, None] / 2
        return torch.cat([-score, score], 1)


class Sphere(nn.Module):
    """Two classes: 0 inside a sphere around a centre, 1 outside."""

    def __init__(self, centre: Tensor, radius: float) -> None:
        super().__init__()
        self.register_buffer("centre", centre.clone())
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        score = (x - self.centre).flatten(1).square().sum(1, keepdim=True) - self.radius**2
        return torch.cat([-score, score], 1)


class Checkerboard(nn.Module):
    """Two classes in squares of a given side in the first two coordinates; logits ±1 without a hint of the boundary."""

    def __init__(self, side: float) -> None:
        super().__init__()
        self.side = side
        self.slope = nn.Parameter(torch.zeros(()))  # gives every input a (zero) gradient

    def forward(self, x: Tensor) -> Tensor:
        cells = (x.flatten(1)[:, :2] / self.side).floor().sum(1, keepdim=True)
        score = (cells % 2) * 2 - 1 + self.slope * x.flatten(1).sum(1, keepdim=True)
        return torch.cat([-score, score], 1)


class SmallNet(nn.Module):
    """A random convolutional net with batch norm and a shortcut, for 3×8×8 inputs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(8)
            self.head = nn.Linear(8 * 16, 5)
            for norm in (self.bn1, self.bn2):
                norm.running_mean.uniform_(-0.3, 0.3)
                norm.running_var.uniform_(0.3, 2.0)
                nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(self.head.weight, std=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1))


def images(count: int, *, seed: int = 0, shape: tuple[int, ...] = (3, 8, 8)) -> Tensor:
    """Random images well inside the bounds."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def no_labels(x: Tensor) -> Tensor:
    """Class 0 for every example, where it decides nothing."""
    return torch.zeros(len(x), dtype=torch.int64, device=x.device)


def planes_along(origin: Tensor, u: Tensor, v: Tensor, labels: Tensor) -> bg.Planes:
    """Planes with axes given by hand."""
    return bg.Planes(
        origin=origin,
        u=u,
        v=v,
        index=torch.arange(len(origin)),
        labels=labels,
        valid=torch.ones(len(origin), dtype=torch.bool),
        anchors=torch.zeros(len(origin), 1, 2, dtype=torch.float64),
        extent=None,
        kind="by_hand",
        axis_names=("first", "second"),
        unit="input units",
        seed=None,
    )


def plain_map(module: nn.Module, planes: bg.Planes, axis: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """The map as a user would write it: one plane, one pixel after another, in float32."""
    labels = torch.empty(len(planes), len(axis), len(axis), dtype=torch.int16)
    was_training = module.training
    module.eval()
    for i in range(len(planes)):
        for row, b in enumerate(axis.tolist()):
            for col, a in enumerate(axis.tolist()):
                point = planes.origin[i] + a * planes.u[i] + b * planes.v[i]
                if bounds is not None:
                    point = point.clamp(*bounds)
                with torch.no_grad():
                    labels[i, row, col] = module(point[None]).argmax()
    module.train(was_training)
    return labels
