"""Time of a transfer matrix, as a ratio to the bare forward and backward passes that it contains.

    OMP_NUM_THREADS=1 python benchmarks/transfer_speed.py [--examples 1000] [--rounds 5] [--device cuda]

Five MNIST networks (softmax regression, two MLPs, two CNNs), PGD in L∞ with ε = 0.1. The bare passes are those of the
same float32 forms of the networks, over one batch that is there already, at the best of six batch sizes: forwards alone
for the targets and labels, forwards with the input gradient for the steps. How many there are of each is what every
network counted. The bare passes are timed before and after each matrix. With one thread on a CPU the time is the
processor's, to which other processes add little; else it is that of the wall.

The first matrices also find the batch sizes of the classifiers: their time is shown for itself.
"""

import argparse
import time
from collections.abc import Callable

import torch
from maps_speed import summary
from real import machine, mnist_network

import boundarygeo as bg
from boundarygeo.evaluation import build_form, frozen_copy, own_world, plain_form
from boundarygeo.transfer.matrix import transfer_matrix

NETWORKS = (("softmax_regression", 0), ("mlp", 0), ("mlp", 1), ("small_cnn", 0), ("small_cnn", 1))
EPS = 0.1
SETTLING = 4  # matrices before the rounds
SIZES = {"cpu": (32, 64, 128, 256, 512, 1024), "cuda": (256, 512, 1024, 2048, 4096, 8192)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    several = {}
    for architecture, seed in NETWORKS:
        clf, x, y = mnist_network(architecture, arguments.examples, seed=seed, device=arguments.device)
        several[f"{architecture} {seed}"] = clf
    device = clf.device
    # Digits that the last network gets right; of each network all passes are counted.
    work = lambda: transfer_matrix(several, x, y, eps=EPS, steps=arguments.steps, progress=False)  # noqa: E731
    settling = [seconds_of(work, device) for _ in range(SETTLING)]
    loops = [bare_passes(clf, x.shape[1:]) for clf in several.values()]
    sizes = [
        [max(SIZES[device.type], key=lambda size: rate(both(size), size, device)) for both in pair] for pair in loops
    ]
    print(f"{machine(device)}\n{len(several)} x {len(several)} models, {len(x)} digits, PGD-{arguments.steps}\n")

    def rates() -> list[list[float]]:
        """Examples per second of each network, forward alone and with the gradient, at the best batch size."""
        return [
            [rate(make(size), size, device) for make, size in zip(pair, best, strict=True)]
            for pair, best in zip(loops, sizes, strict=True)
        ]

    matrix = work()
    seconds, bare, ratios = [], [], []
    before = rates()
    for _ in range(arguments.rounds):
        marks = [(clf.counts.forwards, clf.counts.backwards) for clf in several.values()]
        seconds.append(seconds_of(work, device))
        after = rates()
        total = 0.0
        for clf, (forwards, backwards), first, second in zip(several.values(), marks, before, after, strict=True):
            forwards, backwards = clf.counts.forwards - forwards, clf.counts.backwards - backwards
            alone, both = ((a + b) / 2 for a, b in zip(first, second, strict=True))
            total += (forwards - backwards) / alone + backwards / both
        bare.append(total)
        ratios.append(seconds[-1] / total)
        before = after
    cost = matrix.provenance
    print("| forwards | backwards | time, s | bare passes, s | time / time of the bare passes |\n|---|---|---|---|---|")
    print(
        f"| {cost.forwards:,} | {cost.backwards:,} | {summary(seconds, 2)} | {summary(bare, 2)} | "
        f"**{summary(ratios, 2)}** |\n"
    )
    print(f"while the batch sizes were found: {', '.join(f'{value:.2f}' for value in settling)} s\n")
    print(f"success on the {int(matrix.shared.sum())} digits that all get right, %, sources as rows\n")
    print("| | " + " | ".join(several) + " |\n" + "|---" * (len(several) + 1) + "|")
    for name, row in zip(several, matrix.rate().tolist(), strict=True):
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in row) + " |")


Loop = Callable[[int], Callable[[], object]]
"""From a batch size to bare passes over one batch of it."""


def bare_passes(clf: bg.Classifier, shape: torch.Size) -> tuple[Loop, Loop]:
    """Bare forward passes, and bare forward passes with the input gradient."""
    with own_world():
        probe = torch.rand(4, *shape, device=clf.device)
        form = build_form(plain_form(frozen_copy(clf.module, clf.device), probe), "float32", probe)
    assert form is not None

    def batch(size: int) -> torch.Tensor:
        return torch.rand(size, *shape, device=clf.device).contiguous(memory_format=form.memory_format)

    def forward(size: int) -> Callable[[], object]:
        x = batch(size)

        def once() -> None:
            with torch.no_grad():
                form(x)

        return once

    def gradient(size: int) -> Callable[[], object]:
        x = batch(size).requires_grad_()
        return lambda: torch.autograd.grad(form(x).sum(), x)

    return forward, gradient


def clock(device: torch.device) -> float:
    """Seconds of the processor with one thread on a CPU, else of the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Time of one piece of work."""
    began = clock(device)
    work()
    return clock(device) - began


def rate(work: Callable[[], object], examples: int, device: torch.device, seconds: float = 0.4) -> float:
    """Examples per second of work on so many, after a first one that is not timed."""
    work()
    began, done = clock(device), 0
    while (spent := clock(device) - began) < seconds:
        work()
        done += examples
    return done / spent


if __name__ == "__main__":
    main()
