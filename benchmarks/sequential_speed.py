"""Speed of the sequential search: many examples together against one at a time, with the same settings.

    python benchmarks/sequential_speed.py [--examples 256] [--alone 6] [--rounds 3] [--networks mlp small_cnn]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Each round searches some of the examples one at a time before and after
it searches all of them together; times are per search for one direction, as examples differ in how many they have. The
ratio is of the same round.
"""

import argparse
import time

from maps_speed import summary
from real import machine, mnist_network
from torch import Tensor

import boundarygeo as bg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--alone", type=int, default=6, help="examples that are searched one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directions", type=int, default=50)
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn"])
    parser.add_argument("--boxes", nargs="+", default=["ignore", "feasible"])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(
        "| network | bounds | n | directions per example | one at a time, ms per search | together, ms per search | "
        "ratio |\n" + "|---" * 7 + "|"
    )
    for network in arguments.networks:
        clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        for box in arguments.boxes:
            settings = {"box": box, "max_directions": arguments.directions}
            search(clf, x, y, **{**settings, "max_directions": 1})  # settles the batch size
            lone, together, ratios, found = [], [], [], 0.0
            for _ in range(arguments.rounds):
                half = arguments.alone // 2
                first = alone(clf, x, y, range(half), **settings)
                seconds, searches, found = search(clf, x, y, **settings)
                second = alone(clf, x, y, range(half, arguments.alone), **settings)
                together.append(1e3 * seconds / searches)
                lone.append(1e3 * (first[0] + second[0]) / (first[1] + second[1]))
                ratios.append(lone[-1] / together[-1])
            print(
                f"| {network} | {box} | {len(x)} | {found:.1f} | {summary(lone, 1)} | {summary(together, 2)} | "
                f"**{summary(ratios, 1)}** |",
                flush=True,
            )
    print(f"\n{machine(clf.device)}")


def search(clf: bg.Classifier, x: Tensor, y: Tensor, **settings) -> tuple[float, int, float]:
    """Seconds, searches, and directions per example."""
    began = time.perf_counter()
    result = bg.sequential_directions(clf, x, y, progress=False, **settings)
    return time.perf_counter() - began, int(result.attempts.sum()), float(result.count.double().mean())


def alone(clf: bg.Classifier, x: Tensor, y: Tensor, examples: range, **settings) -> tuple[float, int]:
    """Seconds and searches of some examples, one at a time."""
    times = [search(clf, x[i : i + 1], y[i : i + 1], index=[i], **settings) for i in examples]
    return sum(seconds for seconds, _, _ in times), sum(searches for _, searches, _ in times)


if __name__ == "__main__":
    main()
