"""How smooth the loss is, what that leaves of the first-order claim, and whether the claim predicts random noise.

    python benchmarks/smoothness.py [--examples 150] [--networks mlp small_cnn] [--eps 5] [--noise 5 10]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Correctly classified MNIST test digits, everything in L2 around them.
The first table is without the pixel box, as the theory is: β is the largest seen at 9 points of the ball (the digit,
4 steps along the gradient, 4 random ones; 10 power iterations), a lower bound of the true one. Wanted of a loss is what
takes it to where the true class has no more than half of the probability (cross-entropy, log-odds), or to the boundary
(margin). The counts are min(784, ⌊ε²‖g‖²/γ²⌋) and min(784, ⌊ε²‖g‖²/(γ + βε²/2)²⌋), and the latter at its best radius.

The second table asks the network whether the guarantee holds with the β that was seen: for the γ at which ten
directions are guaranteed at the best radius, γ = ‖g‖²/20β and ε = ‖g‖/β√10, a frame of ten gradient-aligned ones.

The third table is about uniform noise on the sphere, with the box and without: its success, what a half-space of the
first-order claim's dimension would give, and the rank correlation of success with the claim and with the margin alone.

Means and medians with 95 % intervals over the examples.
"""

import argparse
import math
import time

import numpy as np
import torch
from real import machine, mnist_network
from torch import Tensor

import boundarygeo as bg
from boundarygeo.losses import LOSSES
from boundarygeo.results.statistics import mean, median, rank_correlation, share
from boundarygeo.subspace.frames.gaas import claimed_dimension, gaas_frame
from boundarygeo.subspace.noise import cone_probability, noise_success
from boundarygeo.subspace.smoothness import (
    LocalSmoothness,
    best_second_order_count,
    guarantee_share,
    local_smoothness,
    second_order_count,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=150)
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn"])
    parser.add_argument("--eps", type=float, default=5.0)
    parser.add_argument("--noise", type=float, nargs="+", default=[5.0, 10.0])
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    networks = {name: mnist_network(name, arguments.examples) for name in arguments.networks}
    columns = (
        "network",
        "loss",
        "n",
        "β, median",
        "β, 10-90 %",
        "of Hessian norms",
        "of these, at the digit",
        "first-order count, median",
        "second-order count, mean",
        "digits with one or more",
        "at the best radius, digits with one or more",
        "best radius, median",
        "seconds",
    )
    print(header(columns))
    guarantees = []
    for name, (clf, x, y) in networks.items():
        for loss in LOSSES:
            began = time.perf_counter()
            seen = local_smoothness(clf, x, y, eps=arguments.eps, loss=loss, points=4, iterations=10, clip=False)
            print(smoothness_row(name, seen, x[0].numel(), time.perf_counter() - began), flush=True)
            guarantees.append(guarantee_row(name, clf, x, y, seen))
    columns = (
        "network",
        "loss",
        "n",
        "ε, median",
        "γ, median",
        "of the γ wanted",
        "directions that reach γ",
        "digits: all",
    )
    print("\n" + "\n".join([header(columns), *guarantees]))
    columns = (
        "network",
        "n",
        "ε",
        "box",
        "success of noise",
        "digits that it ever fools",
        "half-space of the claim",
        "claim, median",
        "rank correlation with the claim",
        "with the margin",
        "seconds",
    )
    print("\n" + header(columns))
    for name, (clf, x, y) in networks.items():
        for eps in arguments.noise:
            for clip in (True, False):
                print(noise_row(name, clf, x, y, eps, arguments.draws, clip=clip), flush=True)
    print(f"\n{machine(torch.device('cpu'))}")


def smoothness_row(name: str, seen: LocalSmoothness, size: int, seconds: float) -> str:
    """Smoothness and counts of one network and loss."""
    gamma = wanted(seen)
    first = claimed_dimension(seen.gradient_norm, seen.eps, gamma, size)
    second = second_order_count(seen.gradient_norm, seen.eps, gamma, seen.beta, size)
    radius, best = best_second_order_count(seen.gradient_norm, gamma.clamp_min(0), seen.beta, size)
    low, high = np.quantile(seen.beta.numpy(), [0.1, 0.9])
    n = len(gamma)
    return row(
        name,
        seen.loss,
        n,
        median(seen.beta.numpy()).text(".3g"),
        f"{low:.2g}-{high:.2g}",
        median(seen.hessian_norm.numpy()).text(".3g"),
        median(seen.curvature[:, 0].numpy()).text(".3g"),
        median(first.double().numpy()).plain(0),
        mean(second.numpy(), within=(0, math.inf)).plain(2),
        share(int((second > 0).sum()), n).percent(),
        share(int((best > 0).sum()), n).percent(),
        median(radius.numpy()).text(".3g"),
        f"{seconds:.0f}",
    )


def guarantee_row(name: str, clf: bg.Classifier, x: Tensor, y: Tensor, seen: LocalSmoothness) -> str:
    """Whether ten directions do what they should, if the β that was seen is large enough."""
    radius = seen.gradient_norm / (seen.beta * 10**0.5)
    gamma = seen.gradient_norm.square() / (20 * seen.beta)
    frame = gaas_frame(clf.input_gradient(x, y, loss=seen.loss).double(), 10)
    held = guarantee_share(clf, x, y, radius.view(-1, 1, 1, 1, 1) * frame, gamma=gamma * (1 - 1e-6), loss=seen.loss)
    return row(
        name,
        seen.loss,
        len(x),
        median(radius.numpy()).text(".3g"),
        median(gamma.numpy()).text(".3g"),
        median((gamma / wanted(seen)).numpy()).percent(),
        mean(held.numpy(), within=(0, 1)).percent(),
        share(int((held == 1).sum()), len(x)).percent(),
    )


def wanted(seen: LocalSmoothness) -> Tensor:
    """By how much the loss must rise, `[example]`."""
    return (math.log(2) if seen.loss == "cross_entropy" else 0.0) - seen.value


def noise_row(name: str, clf: bg.Classifier, x: Tensor, y: Tensor, eps: float, draws: int, *, clip: bool) -> str:
    """What noise does, and how far the first-order claim predicts it."""
    began = time.perf_counter()
    noise = noise_success(clf, x, y, eps=eps, draws=draws, clip=clip)
    gradient_norm = clf.input_gradient(x, y, loss="margin").flatten(1).norm(dim=1)
    margin = clf.margin(x, y)
    claim = claimed_dimension(gradient_norm, eps, margin, x[0].numel())
    expected = cone_probability(gradient_norm, eps, margin, x[0].numel())
    # Before rounding down: no ties but those of the noise.
    reach = eps * gradient_norm / margin
    return row(
        name,
        len(x),
        f"{eps:g}",
        "clip" if clip else "ignored",
        mean(noise.share.numpy(), within=(0, 1)).percent(),
        share(int((noise.fooled > 0).sum()), len(x)).percent(),
        mean(expected.numpy(), within=(0, 1)).percent(),
        median(claim.double().numpy()).plain(0),
        rank_correlation(noise.share.numpy(), reach.numpy()).plain(2),
        rank_correlation(noise.share.numpy(), -margin.numpy()).plain(2),
        f"{time.perf_counter() - began:.0f}",
    )


def header(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|"


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


if __name__ == "__main__":
    main()
