"""Speed of boundary maps, as ratios in one run: against a plain loop, dbViz's way, and raw forward passes.

    python benchmarks/maps_speed.py [--device cuda] [--rounds 3]

The plain loop is what a user writes in a notebook: float32, batches of 256 through `torch.no_grad()`, one plane
after another. dbViz's way is a Dataset of single pixels through a DataLoader of 256. Each round times all of them,
so that a change of the machine's speed meets them alike; the table shows the median over the rounds, and the
smallest and largest in brackets.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from real import EXTENT, machine, planes_of, resnet20_on_cifar10
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import boundarygeo as bg
from boundarygeo.evaluation import build_form, frozen_copy, own_world, plain_form

CIFAR = (3, 32, 32)


def plain_loop(clf: bg.Classifier, planes: bg.Planes, axis: Tensor, batch: int = 256) -> Tensor:
    """One plane after another, float32, in batches of a grid."""
    module, device = clf.module.to(clf.device).eval(), clf.device
    maps = []
    with torch.no_grad():
        for origin, u, v in zip(planes.origin, planes.u, planes.v, strict=True):
            origin, u, v = origin.to(device), u.to(device), v.to(device)
            b, a = (grid.flatten().to(device) for grid in torch.meshgrid(axis, axis, indexing="ij"))
            labels = []
            for i in range(0, len(a), batch):
                points = origin + a[i : i + batch, None, None, None] * u + b[i : i + batch, None, None, None] * v
                labels.append(module(clf.normalise(points.clamp(0, 1))).argmax(1).cpu())
            maps.append(torch.cat(labels).view(len(axis), len(axis)))
    return torch.stack(maps)


class Pixels(Dataset):
    """Single pixels of a plane, as in dbViz."""

    def __init__(self, origin: Tensor, u: Tensor, v: Tensor, axis: Tensor) -> None:
        self.origin, self.u, self.v = origin, u, v
        self.b, self.a = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, i: int) -> Tensor:
        return (self.origin + self.a[i] * self.u + self.b[i] * self.v).clamp(0, 1)


def dbviz_way(clf: bg.Classifier, planes: bg.Planes, axis: Tensor) -> None:
    """A Dataset of single pixels through a DataLoader of 256."""
    module = clf.module.to(clf.device).eval()
    with torch.no_grad():
        for origin, u, v in zip(planes.origin, planes.u, planes.v, strict=True):
            for points in DataLoader(Pixels(origin, u, v, axis), batch_size=256):
                module(clf.normalise(points.to(clf.device))).argmax(1).cpu()


def raw_rate(clf: bg.Classifier, precision: str, batch: int, seconds: float, shape: Sequence[int] = CIFAR) -> float:
    """Examples per second of bare forward passes over one batch that is there already."""
    x = torch.rand(batch, *shape, device=clf.device)
    with own_world():
        form = build_form(plain_form(frozen_copy(clf.module, clf.device), x[:4]), precision, x[:4])
        assert form is not None
        x = x.to(form.dtype).contiguous(memory_format=form.memory_format)
        for _ in range(3):
            form(x)
        return _rate(lambda: form(x), batch, clf.device, seconds)


def best_raw_rate(clf: bg.Classifier, precision: str, shape: Sequence[int] = CIFAR) -> tuple[float, int]:
    """The best batch size's rate."""
    sizes = (32, 64, 128, 256, 512) if clf.device.type == "cpu" else (512, 1024, 2048, 4096, 8192, 16384)
    return max((raw_rate(clf, precision, size, 1.0, shape), size) for size in sizes)


def _rate(work: Callable[[], object], examples: int, device: torch.device, seconds: float) -> float:
    _wait(device)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        _wait(device)
        done += examples
    return done / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def summary(values: list[float], digits: int = 1) -> str:
    middle = statistics.median(values)
    return f"{middle:,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--planes", type=int, default=None, help="planes per kind for the default (25; GPU: 200)")
    arguments = parser.parse_args()
    cpu = arguments.device == "cpu" or not torch.cuda.is_available()
    count = arguments.planes or (25 if cpu else 200)
    clf, x, y = resnet20_on_cifar10(count, arguments.device)
    device = clf.device
    print(f"{machine(device)}\nResNet-20, CIFAR-10, extent 16/255, planes fgsm_random and fgsm_adversarial\n")
    planes = {kind: planes_of(kind, clf, x, y) for kind in ("fgsm_random", "fgsm_adversarial")}
    extent = EXTENT["resnet20"]
    for p in planes.values():  # settles the batch sizes
        bg.boundary_maps(clf, p, extent=extent, progress=False)
    first = torch.tensor([0]) if cpu else torch.arange(4)

    print("| maps | plain loop, px/s | default, px/s | default / plain | evaluated |\n|---|---|---|---|---|")
    for resolution in (129, 257):
        slow, fast, ratios, evaluated = [], [], [], []
        axis = torch.linspace(-extent, extent, resolution)
        for _ in range(arguments.rounds):
            for p in planes.values():
                pixels = resolution**2
                t = timed(lambda p=p, axis=axis: plain_loop(clf, p.select(first), axis), device)
                slow.append(pixels * len(first) / t)
                some = p if resolution == 129 else p.select(torch.arange(max(1, count // 2)))
                began = time.perf_counter()
                maps = bg.boundary_maps(clf, some, extent=extent, resolution=resolution, progress=False)
                fast.append(pixels * len(some) / (time.perf_counter() - began))
                ratios.append(fast[-1] / slow[-1])
                evaluated.append(100 * float(maps.evaluated.mean()))
        print(
            f"| {resolution}² | {summary(slow, 0)} | {summary(fast, 0)} | **{summary(ratios)}** | "
            f"{statistics.mean(evaluated):.1f} % |",
            flush=True,
        )

    print("\n| dense against raw forwards | raw, px/s | dense, px/s | dense / raw |\n|---|---|---|---|")
    for precision in ("float32", "bfloat16"):
        _, size = best_raw_rate(clf, precision)
        raw, dense, ratios = [], [], []
        p = planes["fgsm_random"].select(first)
        for _ in range(2 * arguments.rounds):
            before = raw_rate(clf, precision, size, 3.0)
            t = timed(
                lambda p=p, precision=precision: bg.boundary_maps(
                    clf, p, extent=extent, method="dense", precision=precision, progress=False
                ),
                device,
            )
            dense.append(len(p) * 129**2 / t)
            raw.append((before + raw_rate(clf, precision, size, 3.0)) / 2)
            ratios.append(dense[-1] / raw[-1])
        print(
            f"| {precision} (raw batch {size}) | {summary(raw, 0)} | {summary(dense, 0)} | **{summary(ratios, 3)}** |"
        )

    axis = torch.linspace(-extent, extent, 129)
    p = planes["fgsm_random"].select(first[:1])
    seconds = timed(lambda: dbviz_way(clf, p, axis), device)
    print(f"\ndbViz's way (Dataset of pixels, DataLoader of 256): {129**2 / seconds:,.0f} px/s")
    if device.type == "cuda":
        print(f"peak GPU memory: {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
