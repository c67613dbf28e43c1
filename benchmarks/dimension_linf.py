"""Orthogonal directions in L∞ on CIFAR-10: share of images with at least k, as in Tramèr et al. 2018.

    python benchmarks/dimension_linf.py [--examples 500]

The third-party ResNet-20; needs BOUNDARYGEO_DATA. Sizes k are orders of regular Hadamard matrices up to 100; all k
directions of a frame have to fool the network. 95 % Wilson intervals.
"""

import argparse

from real import machine, resnet20_on_cifar10

import boundarygeo as bg
from boundarygeo.results.statistics import share

SIZES = (1, 4, 16, 36, 64, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    print("| ε | bounds | claimed, median | mean | " + " | ".join(f"k ≥ {size}" for size in SIZES) + " |")
    print("|---" * (4 + len(SIZES)) + "|")
    for eps in (4, 8, 16):
        for box in ("ignore", "clip", "feasible"):
            result = bg.adversarial_dimension(clf, x, y, eps=eps / 255, norm="linf", box=box, max_dimension=SIZES[-1])
            counts = result.verified[result.correct]
            cells = [share(int((counts >= size).sum()), len(counts)).percent() for size in SIZES]
            claimed = float(result.claimed[result.correct].double().median())
            mean = bg.dimension_summary(result).mean.plain(1)
            print(f"| {eps}/255 | {box} | {claimed:.0f} | {mean} | {' | '.join(cells)} |", flush=True)
    print(f"\nn = {len(counts)}, {result.provenance.forwards / len(x):,.0f} forwards per image and row")
    print(machine(clf.device))


if __name__ == "__main__":
    main()
