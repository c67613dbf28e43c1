"""Training methods on CIFAR-10, a ResNet-20 trained briefly: accuracy without and under attack, one table.

    python benchmarks/training_cifar10.py [--seeds 1] [--examples 1000] [--device cpu]

Needs BOUNDARYGEO_DATA, which holds JPEG copies of CIFAR-10. *Short*: a few passes over the 50,000 images under bfloat16
autocast, without augmentation, where 200 with it are usual; networks to compare, not good ones. FGSM and PGD train at
ε = 8/255 in L∞, and for fewer passes, as each costs two and four times as much. BatchOut draws η from U[0, 0.1] in
every convolution. What is there is kept: a killed run goes on where it was, and a second one only prints the table.
"""

import argparse
import os
import sys

from training_table import Job, run

from boundarygeo.training import BatchOut, Fgsm, ManifoldMixup, Method, Mixup, Pgd, Standard

EPS = 8 / 255
METHODS: dict[str, tuple[Method, int]] = {
    "standard": (Standard(), 4),
    "mixup": (Mixup(alpha=1.0), 4),
    "manifold mixup": (ManifoldMixup(alpha=2.0), 4),
    "BatchOut, η to 0.1": (BatchOut(eta=(0.1,), draw="uniform"), 4),
    "PGD-3": (Pgd(eps=EPS, steps=3), 2),
    "FGSM": (Fgsm(eps=EPS), 2),
}
"""Each method and how many passes over the images it trains for."""
SIZES = ("2/255", "8/255")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=1000, help="test images under attack")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--workers", type=int, default=1, help="networks trained at once, each on one thread")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="models/training-cifar10", help="folder")
    arguments = parser.parse_args()
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds cifar10-jpeg.tar")
    jobs = [
        Job(
            row=row,
            method=METHODS[row][0],
            network="resnet20",
            seed=seed,
            data=f"folder:{folder}/cifar10-jpeg.tar",
            epochs=METHODS[row][1],
            sizes=SIZES,
            examples=arguments.examples,
            folder=arguments.out,
            device=arguments.device,
            precision="bfloat16",
        )
        for seed in range(arguments.seeds)
        for row in arguments.methods
    ]
    run(jobs, arguments.workers)


if __name__ == "__main__":
    main()
