"""Exactness and cost of `linear_pieces` on the third-party ResNet-20: needs BOUNDARYGEO_DATA.

    python benchmarks/pieces_exact.py [--device cuda] [--examples 1] [--epsilons 0.25 1]

For each example and ε (in 1/255), along the sign of the input gradient: number of breakpoints, and of pieces of the
logits; largest difference between interpolated logits and the network's at 1,000 random points; of 1,000 pieces, on
how many the ReLU patterns at three interior points are equal; and the time against plain float64 forward passes over
as many points as there are breakpoints (the faster of two, in batches of the size that the classifier found best), in
the same run.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from real import machine, resnet20_on_cifar10
from torch import Tensor

import boundarygeo as bg
from boundarygeo.directions import gradient_directions
from boundarygeo.evaluation import frozen_copy
from boundarygeo.sections.pieces import LinearPieces, linear_pieces

POINTS = 1000
PIECES_CHECKED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--examples", type=int, default=1)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.25, 1.0])
    arguments = parser.parse_args()
    clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    print("| example | ε | breakpoints | pieces | largest error | pieces with one pattern | seconds | cost ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for example in range(arguments.examples):
        one, label = x[example : example + 1], y[example : example + 1]
        direction = gradient_directions(clf, one, label).sign()
        for epsilon in arguments.epsilons:
            began = time.perf_counter()
            pieces = linear_pieces(clf, one, direction, extent=epsilon / 255)
            seconds = time.perf_counter() - began
            total = int(pieces.patterns[0]) + 1
            plain = min(plain_seconds(clf, points(clf, one, direction, pieces.breakpoints[0])) for _ in range(2))
            constant, checked = one_pattern(clf, one, direction, pieces)
            print(
                f"| {example} | {epsilon:g}/255 | {total:,} | {int(pieces.count[0]):,} | "
                f"{largest_error(clf, one, direction, pieces):.1e} | {constant} of {checked} | {seconds:.1f} | "
                f"{seconds / plain:.2f} |",
                flush=True,
            )
    print(f"\n{machine(clf.device)}")


def plain_seconds(clf: bg.Classifier, inputs: Tensor) -> float:
    began = time.perf_counter()
    clf.logits(inputs, precision="float64")
    return time.perf_counter() - began


def points(clf: bg.Classifier, x: Tensor, direction: Tensor, t: Tensor) -> Tensor:
    """Points of one segment, in float64."""
    return (x.double() + t[:, None, None, None] * direction.double()).clamp(*clf.bounds)


def largest_error(clf: bg.Classifier, x: Tensor, direction: Tensor, pieces: LinearPieces) -> float:
    """Largest difference between interpolated logits and the network's, at random points."""
    low, high = pieces.extent
    t = low + (high - low) * torch.rand(POINTS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = clf.logits(points(clf, x, direction, t), precision="float64")
    return float((pieces.at(t)[0] - network).abs().max())


def one_pattern(clf: bg.Classifier, x: Tensor, direction: Tensor, pieces: LinearPieces) -> tuple[int, int]:
    """On how many of some pieces the ReLU patterns at three interior points are equal, and how many were looked at."""
    t = pieces.breakpoints[0]
    t = t[t.isfinite()]
    chosen = torch.randperm(len(t) - 1, generator=torch.Generator().manual_seed(0))[:PIECES_CHECKED]
    patterns: list[Tensor] = []
    plain_relu = F.relu

    def recording_relu(z: Tensor, inplace: bool = False) -> Tensor:
        patterns.append((z > 0).flatten(1))
        return plain_relu(z)

    equal = 0
    module = frozen_copy(clf.module, clf.device).double()
    for part in chosen.split(20):
        inside = torch.lerp(t[part, None], t[part + 1, None], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        inputs = clf.normalise(points(clf, x, direction, inside.flatten()).to(clf.device))
        patterns.clear()
        F.relu = recording_relu
        try:
            module(inputs)
        finally:
            F.relu = plain_relu
        whole = torch.cat(patterns, 1).view(len(part), 3, -1)
        equal += int((whole == whole[:, :1]).all(2).all(1).sum())
    return equal, len(chosen)


if __name__ == "__main__":
    main()
