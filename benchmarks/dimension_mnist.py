"""The table of Tramèr et al. 2017 for networks trained on all of MNIST: claimed, verified and transferred dimension.

    python benchmarks/dimension_mnist.py [--examples 1000] [--eps 5]

Needs BOUNDARYGEO_DATA and `make mnist-models`. For the MLP (784-200-200-10) and the CNN, on test digits that they get
right, ‖r‖₂ ≤ ε, cap 200: the first-order claim, and what was verified on the network by both rules and for each
treatment of the bounds; how many of the verified directions also fool a second network of the same kind (another seed)
and one of the other kind, on digits that both get right. Proven: no size of frame up to the cap can be better. Means
with 95 % intervals, and 10/50/90 % quantiles.
"""

import argparse
import math

from real import machine, mnist_network

import boundarygeo as bg
from boundarygeo.results.statistics import mean
from boundarygeo.subspace.summary import DimensionSummary

NETWORKS = ("mlp", "small_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--eps", type=float, default=5.0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(
        "| network | bounds | rule | claimed | verified | 10/50/90 % | at zero | at cap | effective rank | "
        "proven | frames tried | forwards per example | fool the same kind | fool the other kind |\n"
        + "|---" * 14
        + "|"
    )
    for network in NETWORKS:
        clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        other = NETWORKS[1 - NETWORKS.index(network)]
        targets = [mnist_network(network, 1, seed=1)[0], mnist_network(other, 1)[0]]
        for box in ("ignore", "clip", "feasible"):
            for rule in ("all", "count"):
                result = bg.adversarial_dimension(
                    clf, x, y, eps=arguments.eps, box=box, rule=rule, keep_directions=True
                )
                verified = bg.dimension_summary(result)
                assert verified.closed is not None
                assert verified.tried is not None
                cells = [
                    network,
                    box,
                    rule,
                    bg.dimension_summary(result, counts=result.claimed).mean.plain(1),
                    verified.mean.plain(1),
                    quantiles(verified),
                    verified.at_zero.percent(),
                    verified.at_cap.percent(),
                    f"{float(result.effective_rank[result.correct].mean()):.1f}",
                    verified.closed.percent(),
                    f"{verified.tried.value:.0f}",
                    f"{result.provenance.forwards / len(x):,.0f}",
                ]
                for target in targets:
                    moved = bg.transferred_dimension(target, x, result)
                    counts = moved.count[moved.correct].double().numpy()
                    cells.append(f"{mean(counts, within=(0, math.inf)).plain(1)} (n = {len(counts)})")
                print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nn = {verified.mean.n} per network\n{machine(clf.device)}")


def quantiles(summary: DimensionSummary) -> str:
    """The 10, 50 and 90 % quantiles."""
    low, _, middle, _, high = summary.quantiles
    return f"{low:.0f}/{middle:.0f}/{high:.0f}"


if __name__ == "__main__":
    main()
