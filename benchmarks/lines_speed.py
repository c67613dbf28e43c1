"""Speed of lines and distances against the bare forward passes they need, in one run.

    python benchmarks/lines_speed.py [--examples 1000] [--rounds 3]

Needs BOUNDARYGEO_DATA and `make mnist-models`: the network is the CNN, the examples are test digits that it gets right.
The bare passes are those of the same float32 form of the network, over one batch that is there already, at the best of
five batch sizes.
"""

import argparse
import time
from collections.abc import Callable

import torch
from maps_speed import best_raw_rate, summary
from real import machine, mnist_network

import boundarygeo as bg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    clf, x, y = mnist_network("small_cnn", arguments.examples, device=arguments.device)
    # The directions are made before: what is timed needs forward passes alone.
    sign = clf.input_gradient(x, y, loss="log_odds").sign()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    along = {"FGSM": sign, "- FGSM": -sign, "random": noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)}
    reach = {"FGSM": 0.5, "- FGSM": 0.5, "random": 10.0}
    work: dict[str, Callable[[], int]] = {
        "201-point lines": lambda: (
            bg.logit_lines(clf, x, y, direction=sign, extent=0.5, progress=False).provenance.forwards
        )
    }
    for name, vectors in along.items():
        work[f"distances, {name}"] = lambda vectors=vectors, name=name: (
            bg.boundary_distance(clf, x, y, direction=vectors, max_distance=reach[name]).provenance.forwards
        )
    for task in work.values():  # settles the batch sizes
        task()
    print(f"{machine(clf.device)}\nsmall_cnn, {len(x)} digits, float32\n")
    print("| work | forwards | forwards/s | raw, forwards/s | time / time of the raw forwards |\n|---|---|---|---|---|")
    shape = x.shape[1:]
    for name, task in work.items():
        rates, raws, ratios = [], [], []
        for _ in range(arguments.rounds):
            raw, _size = best_raw_rate(clf, "float32", shape)
            began = time.perf_counter()
            forwards = task()
            rates.append(forwards / (time.perf_counter() - began))
            raws.append((raw + best_raw_rate(clf, "float32", shape)[0]) / 2)
            ratios.append(raws[-1] / rates[-1])
        print(
            f"| {name} | {forwards:,} | {summary(rates, 0)} | {summary(raws, 0)} | **{summary(ratios, 2)}** |",
            flush=True,
        )


if __name__ == "__main__":
    main()
