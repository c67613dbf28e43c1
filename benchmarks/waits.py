"""How often the host waits for a device: per 1,000 pixels of a map, per step of a search, per frame.

    python benchmarks/waits.py

Counted on the device of tests/fake_device.py, which needs no GPU: every number that is read and every tensor that is
copied back. What is done once per analysis (to check the module, to return the result) is not in the steps: those are
the difference of a long and a short search of one batch.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from analyses import POOL, POOL_Y, QUIET, network
from fake_device import NAME, Elsewhere

import boundarygeo as bg

TINY = 1e-6  # nothing is found at this radius, so that no search ends early

Work = Callable[[bg.Classifier, int], Any]


def waits(work: Work, size: int) -> int:
    """How often the host waits."""
    with Elsewhere() as device:
        work(bg.Classifier(network(), device=NAME, batch_size=len(POOL)), size)
    return device.counts["wait"] + device.counts["out"]


def maps(clf: bg.Classifier, resolution: int) -> Any:
    clf = clf.with_batch_size(4096)
    return bg.boundary_maps(clf, bg.random_planes(POOL, POOL_Y), extent=1.0, resolution=resolution, **QUIET)


def sequential(clf: bg.Classifier, steps: int) -> Any:
    return bg.sequential_directions(clf, POOL, POOL_Y, max_directions=1, steps=steps, **QUIET)


def frame(clf: bg.Classifier, steps: int) -> Any:
    settings = {"eps": 0.05, "method": "frame", "max_dimension": 2, "box": "ignore", "steps": steps}
    return bg.adversarial_dimension(clf, POOL, POOL_Y, **settings, **QUIET)


def gaas(clf: bg.Classifier, frames: int) -> Any:
    settings = {"eps": 1.0, "max_dimension": frames, "grid": "full", "box": "ignore"}
    return bg.adversarial_dimension(clf, POOL, POOL_Y, **settings, **QUIET)


def noise(clf: bg.Classifier, vectors: int) -> Any:
    clf = clf.with_batch_size(1000)
    return bg.defences.certify(clf, POOL, POOL_Y, sigma=0.1, n0=1, n=vectors, **QUIET)


STEPS: dict[str, tuple[Work, int, int]] = {
    "step of PGD, early stop": (lambda clf, n: bg.pgd(clf, POOL, POOL_Y, eps=TINY, steps=n, **QUIET), 10, 30),
    "step of PGD without": (
        lambda clf, n: bg.pgd(clf, POOL, POOL_Y, eps=TINY, steps=n, early_stop=False, **QUIET), 10, 30,
    ),
    "step of APGD": (lambda clf, n: bg.apgd(clf, POOL, POOL_Y, eps=TINY, steps=n, **QUIET), 20, 60),
    "query of Square": (lambda clf, n: bg.square(clf, POOL, POOL_Y, eps=TINY, queries=n, **QUIET), 20, 60),
    "step of minimal_norm": (lambda clf, n: bg.minimal_norm(clf, POOL, POOL_Y, steps=n, **QUIET), 32, 132),
    "gradient-aligned frame of 9 images": (gaas, 4, 12),
    "1,000 noise vectors for each of 9 images": (lambda clf, n: noise(clf, 1000 * n), 1, 3),
    "step of an optimised frame": (frame, 10, 30),
    "step of a sequential search": (sequential, 20, 60),
}  # fmt: skip


def main() -> None:
    print("| unit | waits |\n|---|---|")
    for resolution in (33, 65):
        pixels = len(POOL) * resolution**2
        print(f"| 1,000 pixels of default maps, {resolution}² | {1000 * waits(maps, resolution) / pixels:.1f} |")
    for name, (work, few, many) in STEPS.items():
        print(f"| {name} | {(waits(work, many) - waits(work, few)) / (many - few):.2f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
