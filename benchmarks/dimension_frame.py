"""Optimised frames against those of the theory: verified orthogonal directions, and what they cost.

    python benchmarks/dimension_frame.py [--examples 100] [--resnet-examples 20] [--cap 200]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Means over correctly classified test images with 95 %
intervals; cost per example in forward and backward passes. The last column is the mean of the best verified count after
each size of frame.
"""

import argparse
import math

import torch
from real import machine, mnist_network, resnet20_on_cifar10

import boundarygeo as bg
from boundarygeo.results.statistics import mean

CASES = (
    *((network, eps) for network in ("mlp", "small_cnn") for eps in (2.0, 5.0)),
    ("resnet20", 0.5),
    ("resnet20", 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--resnet-examples", type=int, default=20)
    parser.add_argument("--cap", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn", "resnet20"])
    parser.add_argument("--boxes", nargs="+", default=["ignore", "feasible", "clip"])
    parser.add_argument("--eps", type=float, nargs="+", help="only these")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(
        "| network | ε | bounds | n | gaas | frame | ratio of the means | at cap | largest cosine | effective rank | "
        "forwards, backwards per example: gaas | frame | size: best count so far |\n" + "|---" * 13 + "|"
    )
    for network, eps in CASES:
        if network not in arguments.networks or (arguments.eps and eps not in arguments.eps):
            continue
        if network == "resnet20":
            clf, x, y = resnet20_on_cifar10(arguments.resnet_examples, arguments.device)
        else:
            clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        for box in arguments.boxes:
            settings = {"eps": eps, "box": box, "rule": "count", "max_dimension": arguments.cap}
            plain = bg.adversarial_dimension(clf, x, y, **settings)
            found = bg.adversarial_dimension(clf, x, y, method="frame", steps=arguments.steps, **settings)
            low, high = (
                mean(result.verified[result.correct].double().numpy(), within=(0, math.inf))
                for result in (plain, found)
            )
            costs = [
                f"{r.provenance.forwards / len(x):,.0f}, {r.provenance.backwards / len(x):,.0f}" for r in (plain, found)
            ]
            best = torch.maximum(found.successes.cummax(1).values, found.first_order[:, None]).double().mean(0)
            curve = ", ".join(
                f"{int(size)}: {count:.1f}"
                for size, count in zip(found.tried.amax(0).tolist(), best.tolist(), strict=True)
                if size
            )
            print(
                f"| {network} | {eps:g} | {box} | {low.n} | {low.plain(1)} | {high.plain(1)} | "
                f"**{high.value / low.value:.2f}** | {float(found.at_cap.double().mean()):.0%} | "
                f"{float(found.orthogonality.max()):.1e} | {float(found.effective_rank.mean()):.1f} | "
                f"{costs[0]} | {costs[1]} | {curve} |",
                flush=True,
            )
    print(f"\n{machine(clf.device)}")


if __name__ == "__main__":
    main()
