"""Reproducibility of MNIST networks as in dbViz: scores, speed against a plain loop over planes, and wrong pixels.

    OMP_NUM_THREADS=1 python benchmarks/reproducibility.py [--planes 500] [--rounds 5] [--batch 2500]

500 planes through random triplets of test digits, 50 × 50 points, 10 % margin, not clipped. The plain loop is what a
user writes today: float32, plane by plane and network by network, the points of the plane made at once and sent through
`torch.no_grad()` in batches of `--batch` points, by default all of them at once. It labels all planes: in each round a
share of them, so that a change of the machine's speed meets both sides alike. The time of ours is that of the whole of
`reproducibility`, for all planes (dense: for as many as the loop), with the labels of the examples, agreement and
fragments. With one thread on a CPU the time is that of the processor, which other processes add little to; else that of
the wall.

Labels are compared pixel by pixel with those of the loop; on networks of third parties, CIFAR-10 among them, in
reproducibility_errors.py.
"""

import argparse

import torch
from maps_speed import summary
from real import machine, mnist_network
from torch import Tensor
from transfer_speed import clock

import boundarygeo as bg
from boundarygeo.transfer.reproducibility import Reproducibility, reproducibility

NETWORKS = (("mlp", 0), ("mlp", 1), ("small_cnn", 0), ("small_cnn", 1))
PAIRS = (("mlp 0", "small_cnn 0"), ("mlp 0", "mlp 1"), ("small_cnn 0", "small_cnn 1"))
SETTINGS = {"default": {}, "coarse=7": {"coarse": 7}, "dense": {"method": "dense"}}


def plain_maps(clf: bg.Classifier, planes: bg.Planes, axis: Tensor, batch: int) -> Tensor:
    """Labels `[plane, row, col]`: one plane after another, float32, not clipped."""
    module, device = clf.module.to(clf.device).eval(), clf.device
    b, a = (grid.flatten().to(device) for grid in torch.meshgrid(axis, axis, indexing="ij"))
    column = (-1, *(1,) * (planes.origin.ndim - 1))
    maps = []
    with torch.no_grad():
        for origin, u, v in zip(planes.origin, planes.u, planes.v, strict=True):
            origin, u, v = origin.to(device), u.to(device), v.to(device)
            labels = []
            for i in range(0, len(a), batch):
                points = origin + a[i : i + batch].view(column) * u + b[i : i + batch].view(column) * v
                labels.append(module(clf.normalise(points)).argmax(1).cpu())
            maps.append(torch.cat(labels).view(len(axis), len(axis)))
    return torch.stack(maps)


def report(name: str, result: Reproducibility, seconds: float) -> None:
    iou = result.iou[0]
    regions = [result.fragmentation(model).plain(2) for model in result.names]
    print(
        f"| {name} | {result.score.percent()} | {100 * float(result.agreement[:, result.valid].mean()):.1f} % | "
        f"{100 * float(iou.nanmean()):.1f} % ({100 * float(iou[~iou.isnan()].min()):.0f} to "
        f"{100 * float(iou[~iou.isnan()].max()):.0f}) | {regions[0]} | {regions[1]} | {seconds:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--planes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2500, help="points per batch of the plain loop")
    arguments = parser.parse_args()
    loaded = {
        f"{name} {seed}": mnist_network(name, 5000, seed=seed, device=arguments.device) for name, seed in NETWORKS
    }
    networks = {name: clf for name, (clf, _, _) in loaded.items()}
    _, x, y = loaded["mlp 0"]
    device = networks["mlp 0"].device
    share = arguments.planes // arguments.rounds
    print(f"{machine(device)}\n{len(x)} MNIST test digits that the first MLP gets right\n")

    def ours(pair: tuple[str, str], count: int, **settings: object) -> tuple[Reproducibility, float]:
        began = clock(device)
        result = reproducibility(
            {name: networks[name] for name in pair}, x, y, planes=count, progress=False, **settings
        )
        return result, clock(device) - began

    for pair in PAIRS:  # settles the batch sizes
        first, _ = ours(pair, arguments.planes)
        ours(pair, share, method="dense")
    planes = bg.planes_through(*(x[column] for column in first.triplets.T))
    axis = torch.linspace(-1, 1, first.resolution)

    print(
        "| networks | score (dbViz's window) | whole maps | IoU per class, mean (range) | regions of each (window) | | "
        "seconds |\n" + "|---" * 7 + "|"
    )
    for pair in PAIRS:
        report(" and ".join(pair), *ours(pair, arguments.planes))

    loop: dict[str, list[Tensor]] = {name: [] for name in networks}
    slow: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
    fast: dict[tuple[tuple[str, str], str], list[float]] = {(pair, name): [] for pair in PAIRS for name in SETTINGS}
    for some in torch.arange(share * arguments.rounds).split(share):
        seconds = {}
        for name, clf in networks.items():
            began = clock(device)
            loop[name].append(plain_maps(clf, planes.select(some), axis, arguments.batch))
            seconds[name] = (clock(device) - began) / share
        for pair in PAIRS:
            slow[pair].append(sum(seconds[name] for name in pair))
            for name, settings in SETTINGS.items():
                count = share if name == "dense" else arguments.planes
                fast[pair, name].append(ours(pair, count, **settings)[1] / count)

    print("\n| networks | maps | plain loop, ms per plane | ours, ms per plane | plain / ours |\n|---|---|---|---|---|")
    for (pair, name), values in fast.items():
        ratios = [a / b for a, b in zip(slow[pair], values, strict=True)]
        loops, own = ([1000 * value for value in column] for column in (slow[pair], values))
        print(f"| {' and '.join(pair)} | {name} | {summary(loops)} | {summary(own, 2)} | **{summary(ratios)}** |")

    print("\n| network | maps | evaluated | wrong pixels | planes with any | most on one |\n|---|---|---|---|---|---|")
    whole = {name: torch.cat(parts) for name, parts in loop.items()}
    some = planes.select(torch.arange(share * arguments.rounds))
    labels: dict[tuple[str, str], Tensor] = {}
    for name, clf in networks.items():
        for setting, settings in SETTINGS.items():
            maps = bg.boundary_maps(clf, some, resolution=len(axis), clip=False, progress=False, **settings)
            labels[name, setting] = maps.labels
            wrong = (maps.labels != whole[name]).sum((1, 2))
            print(
                f"| {name} | {setting} | {100 * float(maps.evaluated.mean()):.1f} % | {int(wrong.sum())} of "
                f"{maps.labels.numel():,} | {int((wrong > 0).sum())} of {len(wrong)} | {int(wrong.max())} |",
                flush=True,
            )

    print("\n| networks | maps | agreement of the loop's maps | of ours, minus that | largest on one plane |")
    print("|---|---|---|---|---|")
    for a, b in PAIRS:
        expected = (whole[a] == whole[b]).double().mean((1, 2))
        for setting in SETTINGS:
            off = (labels[a, setting] == labels[b, setting]).double().mean((1, 2)) - expected
            alike, more, most = (100 * float(value) for value in (expected.mean(), off.mean(), off.abs().max()))
            print(f"| {a} and {b} | {setting} | {alike:.3f} % | {more:+.4f} % | {most:.2f} % |")


if __name__ == "__main__":
    main()
