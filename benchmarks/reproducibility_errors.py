"""Wrong pixels of `reproducibility` on eleven third-party networks, and what finer coarse grids cost.

    OMP_NUM_THREADS=1 python benchmarks/reproducibility_errors.py [--planes 100] [--loop 10] [--networks NAME ...]

Planes through random triplets of test images that the first network of each kind of data gets right, 50 × 50 points,
10 % margin, not clipped. The maps of each network with the default coarse grid (every third pixel), with the former one
(every seventh), with every second pixel, and dense with the default precision, against dense maps in float32: pixels
with another label, maps that have any, the most on one map, and regions in the window of the images. Times are the
processor's, of all planes; of the plain loop (see reproducibility.py) those of `--loop` planes. Pairs are of networks
of one kind of data: equal labels in the window, and how far they are off those of dense float32 maps, in points.

Needs BOUNDARYGEO_DATA, see third_party.py.
"""

import argparse
import itertools
import time

import torch
from real import machine
from reproducibility import plain_maps
from third_party import NAMES, third_party
from torch import Tensor

import boundarygeo as bg
from boundarygeo.maps.regions import image_window
from boundarygeo.transfer.reproducibility import random_triplets

SETTINGS = {
    "default": {},
    "coarse=7": {"coarse": 7},
    "coarse=2": {"coarse": 2},
    "dense": {"method": "dense"},
}
RESOLUTION = 50
EXAMPLES = {"mnist": 1000, "cifar": 500}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--planes", type=int, default=100)
    parser.add_argument("--loop", type=int, default=10)
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    print(
        "| network | maps | wrong, of 100,000 | maps with any | most on one, of 2,500 | regions (dense float32) | "
        "evaluated | dense float32 / time | plain loop / time |\n" + "|---" * 9 + "|"
    )
    planes: dict[str, bg.Planes] = {}
    found: dict[tuple[str, str], Tensor] = {}
    for name in arguments.networks:
        data = name.split("-")[0]
        clf, x, _ = third_party(name, EXAMPLES[data], arguments.device)
        if data not in planes:  # the same planes for all networks of one kind of data
            triplets = random_triplets(len(x), arguments.planes, seed=0)
            planes[data] = bg.planes_through(*(x[column] for column in triplets.T))
        one_network(clf, name, planes[data], found, arguments.loop)
    print(f"\n| networks | maps | equal labels, dense float32 | off by | most on one plane |\n{'|---' * 5}|")
    for a, b in itertools.combinations(arguments.networks, 2):
        if a.split("-")[0] == b.split("-")[0]:
            one_pair(a, b, found)
    print(f"\n{machine(clf.device)}")


def one_network(
    clf: bg.Classifier, name: str, planes: bg.Planes, found: dict[tuple[str, str], Tensor], loop: int
) -> None:
    """Make and compare the maps of one network, and keep their labels in the window, -1 elsewhere."""

    def timed(**settings: object) -> tuple[bg.BoundaryMaps, float]:
        began = time.process_time()
        maps = bg.boundary_maps(clf, planes, resolution=RESOLUTION, clip=False, progress=False, **settings)
        return maps, time.process_time() - began

    timed(coarse=7)  # settles the batch sizes
    exact, exact_seconds = timed(method="dense", precision="float32")
    began = time.process_time()
    plain_maps(clf, planes.select(torch.arange(loop)), torch.linspace(-1, 1, RESOLUTION), RESOLUTION**2)
    loop_seconds = (time.process_time() - began) * len(planes) / loop
    window = image_window(exact)
    found[name, "exact"] = exact.labels.masked_fill(~window, -1)
    regions = bg.fragmentation(exact).double().mean()
    for setting, settings in SETTINGS.items():
        maps, seconds = timed(**settings)
        found[name, setting] = maps.labels.masked_fill(~window, -1)
        wrong = (maps.labels != exact.labels).sum((1, 2))
        own = bg.fragmentation(maps).double().mean()
        print(
            f"| {name} | {setting} | {1e5 * float(wrong.sum()) / maps.labels.numel():.1f} | "
            f"{int((wrong > 0).sum())} of {len(wrong)} | {int(wrong.max())} | "
            f"{own:.2f} ({regions:.2f}) | {100 * float(maps.evaluated.mean()):.0f} % | "
            f"{exact_seconds / seconds:.1f} | {loop_seconds / seconds:.1f} |",
            flush=True,
        )


def one_pair(a: str, b: str, found: dict[tuple[str, str], Tensor]) -> None:
    """How far the agreement of two networks is off."""

    def alike(setting: str) -> Tensor:
        first, second = found[a, setting], found[b, setting]
        inside = first >= 0
        return ((first == second) & inside).sum((1, 2)).double() / inside.sum((1, 2))

    expected = alike("exact")
    for setting in SETTINGS:
        off = 100 * (alike(setting) - expected)
        print(
            f"| {a} and {b} | {setting} | {100 * float(expected.mean()):.2f} % | {float(off.mean()):+.4f} | "
            f"{float(off.abs().max()):.2f} |"
        )


if __name__ == "__main__":
    main()
