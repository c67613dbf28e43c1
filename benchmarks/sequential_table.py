"""Sequential adversarial directions on MNIST: how far, how many, why no more, and beside the counts of frames.

    python benchmarks/sequential_table.py [--examples 100] [--directions 50] [--figure FILE]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Test digits that the network gets right. Distances are medians with 95 %
intervals over the digits (order statistics); a digit without so many directions counts as infinitely far.
"""

import argparse
import math
from itertools import product

import torch
from real import machine, mnist_network

import boundarygeo as bg
from boundarygeo.results.statistics import mean, median, share

RANKS = (1, 2, 3, 5, 10, 20, 30, 40, 50)
EPS = (2.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--directions", type=int, default=50)
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn"])
    parser.add_argument("--boxes", nargs="+", default=["ignore", "feasible"])
    parser.add_argument("--figure", help="where to draw the distances")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    cases, found = list(product(arguments.networks, arguments.boxes)), []
    ranks = [rank for rank in RANKS if rank <= arguments.directions]
    print(
        f"| network | bounds | n | {' | '.join(f'distance {rank}' for rank in ranks)} | directions | why no more | "
        "largest cosine | forwards, backwards per example |\n" + "|---" * (len(ranks) + 7) + "|"
    )
    for network, box in cases:
        clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        result = bg.sequential_directions(clf, x, y, box=box, max_directions=arguments.directions)
        found.append(result)
        distances = [median(result.distance[:, rank - 1].numpy()).plain(2) for rank in ranks]
        reasons = torch.bincount(result.stopped, minlength=len(result.stops)).tolist()
        cost = result.provenance
        print(
            f"| {network} | {box} | {len(x)} | {' | '.join(distances)} | "
            f"{mean(result.count.double().numpy(), within=(0, math.inf)).plain(1)} | "
            f"{', '.join(f'{name} {count}' for name, count in zip(result.stops, reasons, strict=True) if count)} | "
            f"{float(result.orthogonality.max()):.1e} | "
            f"{cost.forwards / len(x):,.0f}, {cost.backwards / len(x):,.0f} |",
            flush=True,
        )
    print(
        "\n| network | ε | bounds | n | claimed | gaas | frame | sequential | sequential: at the cap |\n"
        + "|---" * 9
        + "|"
    )
    for (network, box), eps in product(cases, EPS):
        clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        settings = {"eps": eps, "box": box}
        one = bg.sequential_directions(clf, x, y, max_directions=arguments.directions, **settings)
        settings |= {"rule": "count", "max_dimension": arguments.directions}
        frames = [bg.adversarial_dimension(clf, x, y, method=method, **settings) for method in ("gaas", "frame")]
        claim = frames[0].claimed.clamp_max(arguments.directions)
        counts = [
            mean(values.double().numpy(), within=(0, math.inf))
            for values in (claim, *(found.verified for found in frames), one.count)
        ]
        print(
            f"| {network} | {eps:g} | {box} | {len(x)} | {' | '.join(count.plain(1) for count in counts)} | "
            f"{share(int((one.count >= one.max_dimension).sum()), len(x)).percent()} |",
            flush=True,
        )
    print(f"\n{machine(clf.device)}")
    if arguments.figure:
        figure = bg.plots.sequential_distances(found, names=[network for network, _ in cases])
        print(f"saved {bg.plots.save_figure(figure, arguments.figure)}")


if __name__ == "__main__":
    main()
