"""Exactness and cost of `linear_pieces`, by default on the third-party ResNet-20: needs BOUNDARYGEO_DATA.

    python benchmarks/pieces_exact.py [--device cuda] [--examples 1] [--epsilons 0.25 1]
    python benchmarks/pieces_exact.py --network small_cnn --examples 10 --epsilons 64    # after `make mnist-models`

For each example and ε (in 1/255), along the sign of the input gradient: number of breakpoints, and of pieces of the
logits; *faint* bends, at which no logit leaves the line between the neighbouring breakpoints by more than 1e-12 of the
largest logit, and at how many of them the ReLU patterns in the middles of both pieces differ, by brute force; largest
difference between interpolated logits and the network's at 1,000 random points; of 1,000 pieces, on how many the ReLU
patterns at three interior points are equal; and the time against plain float64 forward passes over
as many points as there are breakpoints (the faster of two, in batches of the size that the classifier found best), in
the same run.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from real import machine, mnist_network, resnet20_on_cifar10
from torch import Tensor

import boundarygeo as bg
from boundarygeo.directions import gradient_directions
from boundarygeo.evaluation import frozen_copy
from boundarygeo.lines.pieces.pieces import LinearPieces, linear_pieces

POINTS = 1000
PIECES_CHECKED = 1000
FAINT = 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--network", default="resnet20", choices=("resnet20", "mlp", "small_cnn"))
    parser.add_argument("--examples", type=int, default=1)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.25, 1.0])
    arguments = parser.parse_args()
    if arguments.network == "resnet20":
        clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    else:
        clf, x, y = mnist_network(arguments.network, arguments.examples, device=arguments.device)
    print(
        "| example | ε | breakpoints | pieces | faint bends | patterns differ | largest error | one pattern on | "
        "seconds | cost ratio |\n" + "|---" * 10 + "|"
    )
    for example in range(arguments.examples):
        one, label = x[example : example + 1], y[example : example + 1]
        direction = gradient_directions(clf, one, label).sign()
        for epsilon in arguments.epsilons:
            began = time.perf_counter()
            pieces = linear_pieces(clf, one, label, direction=direction, extent=epsilon / 255)
            seconds = time.perf_counter() - began
            total = int(pieces.patterns[0]) + 1
            plain = min(plain_seconds(clf, points(clf, one, direction, pieces.breakpoints[0])) for _ in range(2))
            constant, checked = one_pattern(clf, one, direction, pieces)
            faint = faint_bends(pieces)
            real = patterns_differ(clf, one, direction, pieces, faint)
            print(
                f"| {example} | {epsilon:g}/255 | {total:,} | {int(pieces.count[0]):,} | {len(faint)} | {real} | "
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
    equal = 0
    for part in chosen.split(20):
        inside = torch.lerp(t[part, None], t[part + 1, None], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        whole = relu_patterns(clf, points(clf, x, direction, inside.flatten())).view(len(part), 3, -1)
        equal += int((whole == whole[:, :1]).all(2).all(1).sum())
    return equal, len(chosen)


def faint_bends(pieces: LinearPieces) -> Tensor:
    """Bends of the first example at which no logit visibly leaves the line between the neighbouring breakpoints."""
    last = int(pieces.patterns[0])
    t, logits = pieces.breakpoints[0, : last + 1], pieces.logits[0, : last + 1]
    share = ((t[1:-1] - t[:-2]) / (t[2:] - t[:-2]))[:, None]
    off = (torch.lerp(logits[:-2], logits[2:], share) - logits[1:-1]).abs().amax(1)
    return 1 + (pieces.bends[0, 1:last] & (off <= FAINT * logits.abs().max())).nonzero()[:, 0]


def patterns_differ(clf: bg.Classifier, x: Tensor, direction: Tensor, pieces: LinearPieces, bends: Tensor) -> int:
    """At how many bends the ReLU patterns in the middles of both pieces differ."""
    t, different = pieces.breakpoints[0], 0
    for part in bends[:, None]:  # one at a time: there are few
        middles = torch.stack([t[part - 1] + t[part], t[part] + t[part + 1]], 1) / 2
        whole = relu_patterns(clf, points(clf, x, direction, middles.flatten())).view(2, -1)
        different += int((whole[0] != whole[1]).any())
    return different


def relu_patterns(clf: bg.Classifier, inputs: Tensor) -> Tensor:
    """Which ReLUs are on, in float64, bool `[point, unit]`."""
    patterns: list[Tensor] = []
    plain_relu = F.relu

    def recording_relu(z: Tensor, inplace: bool = False) -> Tensor:
        patterns.append((z > 0).flatten(1))
        return plain_relu(z)

    module = frozen_copy(clf.module, clf.device).double()
    F.relu = recording_relu
    try:
        module(clf.normalise(inputs.to(clf.device)))
    finally:
        F.relu = plain_relu
    return torch.cat(patterns, 1)


if __name__ == "__main__":
    main()
