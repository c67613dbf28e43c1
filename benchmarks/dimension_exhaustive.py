"""Counts of adversarial directions against closed forms, and against all sizes of frames near them.

    python benchmarks/dimension_exhaustive.py [--examples 200] [--digits 30] [--networks mlp small_cnn]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Half-spaces: weights are normal, the distances give 0.5 to 1.5·d
directions, log-uniformly, but not within 0.02 of a whole number, where the float32 of the module decides (442 of
443.003 pass). The closed form ⌊ε²/distance²⌋ is computed in float64. Networks: an exhaustive count looks at every
frame of 1 to 200 directions as a whole, which gives the best of any range of sizes by either rule.
"""

import argparse
from itertools import product

import torch
from real import machine, mnist_network
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.search import NEAR

EPS, CAP = 5.0, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--digits", type=int, default=30)
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn"])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(
        "| d | rule | closed form met | marked as closed, or d | sizes tried, median | forwards per example |\n"
        + f"{'|---' * 6}|"
    )
    for dimension, rule in product((20, 300, 1000), ("all", "count")):
        half_spaces(dimension, rule, arguments.examples, arguments.device)
    print(
        "\n| network | bounds | rule | verified, mean | best near it | best of all sizes | closed | "
        f"sizes tried, median | forwards per example |\n{'|---' * 9}|"
    )
    for network in arguments.networks:
        clf, x, y = mnist_network(network, arguments.digits, device=arguments.device)
        for box in ("ignore", "clip", "feasible"):
            digits(network, clf, x, y, box)
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
        f"{int((result.closed | (expected == dimension)).sum())} of {count} | {costs(result)} |",
        flush=True,
    )


def digits(network: str, clf: bg.Classifier, x: Tensor, y: Tensor, box: str) -> None:
    """The rows of a network and a box in the second table."""
    settings = {"eps": EPS, "box": box, "max_dimension": CAP, "progress": False}
    hits = bg.adversarial_dimension(clf, x, y, rule="count", grid=range(1, CAP + 1), **settings).successes
    size = torch.arange(1, CAP + 1).expand_as(hits)
    for rule in ("all", "count"):
        result = bg.adversarial_dimension(clf, x, y, rule=rule, **settings)
        whole = hits == size if rule == "all" else torch.ones_like(hits, dtype=torch.bool)
        scores = torch.where(whole, hits, 0)
        seen = torch.where(result.successes == result.tried, result.tried, 0) if rule == "all" else result.successes
        best = result.tried.gather(1, seen.argmax(1, keepdim=True)) * result.found[:, None]
        near = torch.where((size - best).abs() <= NEAR, scores, 0).amax(1)
        print(
            f"| {network} | {box} | {rule} | {float(result.verified.double().mean()):.1f} | "
            f"{int((result.verified == near).sum())} of {len(x)} | "
            f"{int((result.verified == scores.amax(1)).sum())} of {len(x)} | {int(result.closed.sum())} of {len(x)} | "
            f"{costs(result)} |",
            flush=True,
        )


def costs(result: bg.AdversarialDimension) -> str:
    """Two cells: how many sizes were tried, and at what cost."""
    sizes = (result.tried > 0).sum(1).double().median()
    return f"{int(sizes)} | {result.provenance.forwards / len(result.verified):,.0f}"


if __name__ == "__main__":
    main()
