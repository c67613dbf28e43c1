"""Speed of a transfer matrix against the bare forward and backward passes it contains, in one run.

    python benchmarks/transfer_speed.py [--examples 1000] [--steps 10] [--rounds 3]

Needs BOUNDARYGEO_DATA and `make mnist-models`: five networks (softmax regression, two MLPs, two CNNs), PGD in L∞ with
ε = 0.1. The bare passes are those of the same float32 forms of the networks, over one batch that is there already, at
the best of five batch sizes: forwards alone for the targets and labels, forwards with the input gradient for the steps.
How many there are of each is what every network counted.
"""

import argparse
import time

import torch
from maps_speed import _rate, best_raw_rate, summary
from real import machine, mnist_network

import boundarygeo as bg
from boundarygeo.evaluation import analysis, build_form, frozen_copy
from boundarygeo.transfer.matrix import TransferMatrix, transfer_matrix

NETWORKS = (("softmax_regression", 0), ("mlp", 0), ("mlp", 1), ("small_cnn", 0), ("small_cnn", 1))
EPS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    several = {}
    for architecture, seed in NETWORKS:
        clf, x, y = mnist_network(architecture, arguments.examples, seed=seed, device=arguments.device)
        several[f"{architecture} {seed}"] = clf
    # Digits that the last network gets right; of each network all passes are counted.
    work = lambda: transfer_matrix(several, x, y, eps=EPS, steps=arguments.steps, progress=False)  # noqa: E731
    work()  # settles the batch sizes
    seconds, bare, ratios = [], [], []
    matrix: TransferMatrix | None = None
    for _ in range(arguments.rounds):
        before = [raw_rates(clf, x.shape[1:]) for clf in several.values()]
        marks = [(clf.counts.forwards, clf.counts.backwards) for clf in several.values()]
        began = time.perf_counter()
        matrix = work()
        seconds.append(time.perf_counter() - began)
        passes = [
            (clf.counts.forwards - forwards, clf.counts.backwards - backwards)
            for clf, (forwards, backwards) in zip(several.values(), marks, strict=True)
        ]
        after = [raw_rates(clf, x.shape[1:]) for clf in several.values()]
        total = 0.0
        for (forwards, backwards), first, second in zip(passes, before, after, strict=True):
            alone, both = ((a + b) / 2 for a, b in zip(first, second, strict=True))
            total += (forwards - backwards) / alone + backwards / both
        bare.append(total)
        ratios.append(seconds[-1] / total)
    assert matrix is not None
    cost = matrix.provenance
    print(f"{machine(clf.device)}\n{len(several)} x {len(several)} models, {len(x)} digits, PGD-{arguments.steps}\n")
    print("| forwards | backwards | time, s | raw passes, s | time / time of the raw passes |\n|---|---|---|---|---|")
    print(
        f"| {cost.forwards:,} | {cost.backwards:,} | {summary(seconds, 2)} | {summary(bare, 2)} | "
        f"**{summary(ratios, 2)}** |\n"
    )
    print(f"success on the {int(matrix.shared.sum())} digits that all get right, %, sources as rows\n")
    print("| | " + " | ".join(several) + " |\n" + "|---" * (len(several) + 1) + "|")
    for name, row in zip(several, matrix.rate().tolist(), strict=True):
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in row) + " |")


def raw_rates(clf: bg.Classifier, shape: torch.Size) -> tuple[float, float]:
    """Examples per second, forward alone and forward with the input gradient, at the best batch size of each."""
    sizes = (32, 64, 128, 256, 512) if clf.device.type == "cpu" else (512, 1024, 2048, 4096, 8192)
    return best_raw_rate(clf, "float32", shape)[0], max(raw_gradient_rate(clf, shape, size) for size in sizes)


def raw_gradient_rate(clf: bg.Classifier, shape: torch.Size, batch: int) -> float:
    """Examples per second of bare forward and backward passes over one batch that is there already."""
    x = torch.rand(batch, *shape, device=clf.device)
    with analysis(clf.module, clf.device):
        with torch.no_grad():
            form = build_form(frozen_copy(clf.module, clf.device), "float32", x[:4])
        assert form is not None
        x = x.contiguous(memory_format=form.memory_format).requires_grad_()

        def both() -> None:
            torch.autograd.grad(form(x).sum(), x)

        for _ in range(3):
            both()
        return _rate(both, batch, clf.device, 1.0)


if __name__ == "__main__":
    main()
