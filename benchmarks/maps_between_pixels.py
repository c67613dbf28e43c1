"""What a dense map misses: regions between its pixels, seen by a dense map that is three times as fine.

    OMP_NUM_THREADS=1 python benchmarks/maps_between_pixels.py [--planes 10]

On four third-party networks, for random planes of 129² pixels (extent 16/255, for MNIST 0.3) and planes through three
images of 50²: 8-connected regions of the fine map, how many of them hold no pixel of the map, the most on one plane,
and their share of the area. Needs BOUNDARYGEO_DATA, see third_party.py.
"""

import argparse

import numpy as np
import torch
from real import machine
from scipy import ndimage
from third_party import third_party
from torch import Tensor

import boundarygeo as bg

NETWORKS = {
    "mnist-conv_small-nat": 0.3,
    "mnist-cnn_a-adv": 0.3,
    "cifar-marabou_medium-nat": 16 / 255,
    "cifar-resnet2b-adv": 16 / 255,
}
FINER = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=10)
    arguments = parser.parse_args()
    print("| network | planes | regions | between the pixels | most on one plane | their area |\n" + "|---" * 6 + "|")
    for name, extent in NETWORKS.items():
        clf, x, y = third_party(name, 3 * arguments.planes)
        some = slice(arguments.planes)
        cases = (
            ("random, 129²", bg.random_planes(x[some], y[some]), {"extent": extent, "resolution": 129}),
            ("through three images, 50²", bg.planes_through(*x.chunk(3)), {"resolution": 50, "clip": False}),
        )
        for kind, planes, settings in cases:
            fine = FINER * (settings["resolution"] - 1) + 1
            settings |= {"resolution": fine, "method": "dense", "progress": False}
            maps = bg.boundary_maps(clf, planes, **settings)
            regions, hidden, area = (np.array(column) for column in zip(*map(between, maps.labels), strict=True))
            print(
                f"| {name} | {kind} | {regions.sum()} | {hidden.sum()} | {hidden.max()} | "
                f"{100 * area.sum() / maps.labels.numel():.4f} % |",
                flush=True,
            )
    print(f"\n{machine(torch.device('cpu'))}")


def between(labels: Tensor) -> tuple[int, int, int]:
    """Regions of a fine map, those that hold no pixel of the map, and how many fine pixels these have."""
    regions = hidden = area = 0
    for label in labels.unique().tolist():
        numbered, count = ndimage.label(labels.numpy() == label, np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        seen = np.isin(np.arange(1, count + 1), numbered[::FINER, ::FINER])
        regions, hidden, area = regions + count, hidden + int((~seen).sum()), area + int(sizes[~seen].sum())
    return regions, hidden, area


if __name__ == "__main__":
    main()
