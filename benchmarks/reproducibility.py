"""Reproducibility of two MNIST networks as in dbViz, and its speed against a plain loop over planes.

    python benchmarks/reproducibility.py [--planes 500] [--loop 10]

500 planes through random triplets of test digits, 51 × 51 points, 10 % margin, not clipped. The plain loop is what a
user writes in a notebook: float32, batches of 256 through `torch.no_grad()`, one plane after another, for both models.
It is run on the first few planes, spread between the rounds of ours, and its time per plane is multiplied by the number
of planes. The time of ours is the whole of `reproducibility`: with the labels of the examples, agreement and fragments.
"""

import argparse
import time

import torch
from maps_speed import summary
from real import machine, mnist_network
from torch import Tensor

import boundarygeo as bg
from boundarygeo.transfer.reproducibility import Reproducibility, reproducibility


def plain_maps(clf: bg.Classifier, planes: bg.Planes, axis: Tensor) -> Tensor:
    """Labels `[plane, row, col]`: one plane after another, batches of 256, float32, not clipped."""
    module, device = clf.module.to(clf.device).eval(), clf.device
    b, a = (grid.flatten().to(device) for grid in torch.meshgrid(axis, axis, indexing="ij"))
    column = (-1, *(1,) * (planes.origin.ndim - 1))
    maps = []
    with torch.no_grad():
        for origin, u, v in zip(planes.origin, planes.u, planes.v, strict=True):
            origin, u, v = origin.to(device), u.to(device), v.to(device)
            labels = []
            for i in range(0, len(a), 256):
                points = origin + a[i : i + 256].view(column) * u + b[i : i + 256].view(column) * v
                labels.append(module(clf.normalise(points)).argmax(1).cpu())
            maps.append(torch.cat(labels).view(len(axis), len(axis)))
    return torch.stack(maps)


def report(name: str, result: Reproducibility, seconds: float) -> None:
    iou = result.iou[0]
    a, b = result.names
    print(
        f"| {name} | {result.score.percent()} | {100 * float(result.agreement[:, result.valid].mean()):.1f} % | "
        f"{100 * float(iou.nanmean()):.1f} % ({100 * float(iou[~iou.isnan()].min()):.0f} to "
        f"{100 * float(iou[~iou.isnan()].max()):.0f}) | {result.fragmentation(a).plain(2)} | "
        f"{result.fragmentation(b).plain(2)} | {100 * float(result.evaluated.mean()):.1f} % | {seconds:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--planes", type=int, default=500)
    parser.add_argument("--loop", type=int, default=10, help="planes of the plain loop in each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    several, images = {}, {}
    for name in ("mlp", "small_cnn"):
        several[name], *images[name] = mnist_network(name, 5000, device=arguments.device)
    x, y = images["mlp"]
    print(f"{machine(several['mlp'].device)}\n{len(x)} MNIST test digits that the MLP gets right\n")
    settings = {"planes": arguments.planes, "progress": False}
    first = reproducibility(several, x, y, **{**settings, "planes": 25})  # settles the batch sizes
    corners = first.triplets[: arguments.loop].T
    planes = bg.planes_through(*(x[column] for column in corners))
    axis = torch.linspace(-1, 1, first.resolution)

    print("| models, maps | score (dbViz's window) | whole maps | IoU per class, mean (range) | regions, mlp |", end="")
    print(" regions, small_cnn | evaluated | seconds |\n|---|---|---|---|---|---|---|---|")
    pairs = {"mlp and small_cnn": several}
    for name in several:  # two trainings of one architecture
        other, _, _ = mnist_network(name, 1, seed=1, device=arguments.device)
        pairs[f"{name}, seeds 0 and 1"] = {"seed 0": several[name], "seed 1": other}
    for name, pair in pairs.items():
        began = time.perf_counter()
        result = reproducibility(pair, x, y, **settings)
        report(name, result, time.perf_counter() - began)

    print("\n| coarse grid | plain loop, s per plane | ours, s per plane | ratio | score, difference from the loop's |")
    print("|---|---|---|---|---|")
    loop_maps = [plain_maps(clf, planes, axis) for clf in several.values()]
    for coarse in (None, 8):
        slow, fast, difference = [], [], 0.0
        for _ in range(arguments.rounds):
            began = time.perf_counter()
            for clf in several.values():
                plain_maps(clf, planes, axis)
            slow.append((time.perf_counter() - began) / len(planes))
            began = time.perf_counter()
            result = reproducibility(several, x, y, coarse=coarse, **settings)
            fast.append((time.perf_counter() - began) / arguments.planes)
            loop = (loop_maps[0] == loop_maps[1]).double().mean((1, 2))
            difference = float((result.agreement[0, : len(planes)] - loop).abs().max())
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        print(
            f"| {coarse or 'default'} | {summary(slow, 4)} | {summary(fast, 4)} | **{summary(ratios)}** | "
            f"{difference:.1e} (largest of {len(planes)} planes) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
