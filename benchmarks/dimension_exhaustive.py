"""Counts of adversarial directions against closed forms, and against frames of all sizes.

    python benchmarks/dimension_exhaustive.py [--examples 200] [--digits 30] [--networks mlp mnist-conv_small-nat]

Needs BOUNDARYGEO_DATA and, for mlp and small_cnn, `make mnist-models`. Half-spaces: weights are normal, the distances
give 0.5 to 1.5·d directions, log-uniformly, but not within 0.02 of a whole number, where the float32 of the module
decides (442 of 443.003 pass). The closed form ⌊ε²/distance²⌋ is computed in float64. Networks: a plain loop over
examples and sizes looks at every frame of 1 to 200 directions as a whole (inside the bounds: frames of the package),
and gives the best of all sizes by either rule. Seconds are those of the process.
"""

import argparse
import time
from itertools import product
from typing import Any

import torch
from real import machine, mnist_network
from third_party import NAMES, third_party
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.results.statistics import mean
from boundarygeo.subspace.frames.gaas import aligned, random_orthonormal

EPS, CAP = 5.0, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--digits", type=int, default=30)
    parser.add_argument(
        "--networks", nargs="+", default=["mlp", "small_cnn", "mnist-conv_small-nat", "mnist-cnn_a-adv"]
    )
    parser.add_argument("--boxes", nargs="+", default=["ignore", "clip", "feasible"])
    parser.add_argument("--eps", type=float, default=EPS)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(
        "| d | rule | closed form met | proven maximal | frames tried, mean | forwards per example |\n"
        + f"{'|---' * 6}|"
    )
    for dimension, rule in product((20, 300, 1000), ("all", "count")):
        half_spaces(dimension, rule, arguments.examples, arguments.device)
    print(
        '\n| network | bounds | rule | best of all sizes, mean | `grid="full"` gives it | by default | lower, most | '
        "proven | frames tried, mean | forwards per example: by default | full | seconds, full / by default |\n"
        f"{'|---' * 12}|"
    )
    for network in arguments.networks:
        get = third_party if network in NAMES else mnist_network
        clf, x, y = get(network, arguments.digits, device=arguments.device)
        for box in arguments.boxes:
            digits(network, clf, x, y, box, arguments.eps)
    print(f"\n{machine(torch.device(arguments.device))}")


def half_spaces(dimension: int, rule: str, count: int, device: str) -> None:
    """One row of the first table."""
    chance = torch.Generator().manual_seed(dimension)
    weight = torch.randn(dimension, generator=chance)
    share = 0.5 * (3 * dimension) ** torch.rand(count, generator=chance, dtype=torch.float64)
    share = share.floor() + (share % 1).clamp(0.02, 0.98)
    module = nn.Linear(dimension, 2)
    with torch.no_grad():
        module.weight.copy_(torch.stack([-weight, weight]) / 2)
        module.bias.zero_()
    w = weight.double()
    x = torch.randn(count, dimension, generator=chance).double()
    x = (x - (x @ w / w.square().sum() + EPS / share.sqrt() / w.norm())[:, None] * w).float()
    distance = -(x.double() @ w) / w.norm()
    clf = bg.Classifier(module, bounds=(-1e3, 1e3), device=device)
    result = bg.adversarial_dimension(
        clf, x, torch.zeros(count).long(), eps=EPS, box="ignore", rule=rule, max_dimension=dimension, progress=False
    )
    expected = (EPS / distance).square().floor().clamp_max(dimension).long()
    print(
        f"| {dimension:,} | {rule} | {int((result.verified == expected).sum())} of {count} | "
        f"{int(result.closed.sum())} of {count} | {tried(result)} | {passes(result)} |",
        flush=True,
    )


def digits(network: str, clf: bg.Classifier, x: Tensor, y: Tensor, box: str, eps: float) -> None:
    """The rows of a network and a box in the second table."""
    settings: dict[str, Any] = {"eps": eps, "box": box, "max_dimension": CAP, "progress": False}
    sizes = torch.arange(1, CAP + 1)
    if box == "feasible":
        hits = bg.adversarial_dimension(clf, x, y, rule="count", grid=range(1, CAP + 1), **settings).successes
    else:
        hits = successes_by_loop(clf, x, y, eps, clip=box == "clip")
    for rule in ("all", "count"):
        best = torch.where((hits == sizes) | (rule == "count"), hits, 0).amax(1)
        began = time.process_time()
        usual = bg.adversarial_dimension(clf, x, y, rule=rule, **settings)
        between = time.process_time()
        full = bg.adversarial_dimension(clf, x, y, rule=rule, grid="full", **settings)
        ratio = (time.process_time() - between) / (between - began)
        lower = best - usual.verified
        print(
            f"| {network} | {box} | {rule} | {float(best.double().mean()):.2f} | "
            f"{int((full.verified == best).sum())} of {len(x)} | {int((lower == 0).sum())} of {len(x)} | "
            f"{int(lower.amax())} | {int(usual.closed.sum())} | {tried(usual)} | {passes(usual)} | {passes(full)} | "
            f"{ratio:.1f} |",
            flush=True,
        )


def successes_by_loop(clf: bg.Classifier, x: Tensor, y: Tensor, eps: float, *, clip: bool) -> Tensor:
    """How many directions of the frame of each size fool a classifier, int64 `[example, size]`: one by one."""
    base = random_orthonormal(CAP, x[0].numel(), seed=0)
    hits = torch.zeros(len(x), CAP, dtype=torch.int64)
    for i in range(len(x)):
        uphill = clf.input_gradient(x[i][None], y[i][None], loss="margin").double().flatten()
        for k in range(1, CAP + 1):
            frame = eps * aligned(base[None, :k], (uphill / uphill.norm())[None])[0]
            points = x[i] + frame.float().view(k, *x.shape[1:])
            points = points.clamp(*clf.bounds) if clip else points
            with torch.no_grad():
                labels = clf.module(clf.normalise(points.to(clf.device))).argmax(1)
            hits[i, k - 1] = int((labels.cpu() != y[i]).sum())
    return hits


def tried(result: bg.AdversarialDimension) -> str:
    """How many frames were tried."""
    return f"{mean(result.attempts.double().numpy()).value:.0f}"


def passes(result: bg.AdversarialDimension) -> str:
    """At what cost."""
    return f"{result.provenance.forwards / len(result.verified):,.0f}"


if __name__ == "__main__":
    main()
