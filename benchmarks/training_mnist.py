"""All training methods on MNIST: accuracy without and under attack, two networks, several seeds, one table.

    python benchmarks/training_mnist.py            # all of MNIST, 3 seeds, 5 epochs; needs BOUNDARYGEO_DATA
    python benchmarks/training_mnist.py --tiny     # 4,000 digits, 2 seeds, 1 epoch: does it run?

What is there is kept: a killed run goes on where it was, and a second one only prints the table. Checkpoints, and
beside each of them its accuracies, are written to `--out`. Attacks are L∞ in input units: FGSM, and PGD of 20 steps
with one random start. Cells are means ± standard deviations over the seeds. FGSM, PGD and TRADES train at ε = 0.1, the
layer-wise rows at the ε that did best of a few on the 4,000 digits. The full table is made for an hour on two cores.
"""

import argparse
import os
import sys

from training_table import Job, run

from boundarygeo.training import BatchOut, Fgsm, Layerwise, ManifoldMixup, Method, Mixup, Pgd, Standard, Trades

EPS = 0.1
METHODS: dict[str, Method] = {
    "standard": Standard(),
    "mixup": Mixup(alpha=1.0),
    "manifold mixup": ManifoldMixup(alpha=2.0),
    "BatchOut, η 0.1": BatchOut(eta=(0.1,)),
    "BatchOut, η -0.2": BatchOut(eta=(-0.2,)),
    "BatchOut, η 0.3 or -0.2": BatchOut(eta=(0.3, -0.2), draw="choice"),
    "BatchOut, η 0.3, same class": BatchOut(eta=(0.3,), partners="same_class"),
    "layer-wise": Layerwise(eps=0.01),
    "layer-wise, carried over": Layerwise(eps=0.03, replays=0),
    "layer-wise, whole paths": Layerwise(eps=3e-4, product="path"),
    "FGSM": Fgsm(eps=EPS),
    "PGD-7": Pgd(eps=EPS, steps=7),
    "TRADES": Trades(eps=EPS, steps=7),
}
SIZES = ("0.1", "0.3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="mnist5k, one epoch, two seeds, 200 images under attack")
    parser.add_argument("--seeds", type=int, help="3 by default")
    parser.add_argument("--epochs", type=int, help="5 by default")
    parser.add_argument("--examples", type=int, help="test images under attack, all 10,000 by default")
    parser.add_argument("--networks", nargs="+", default=["mlp", "small_cnn"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--workers", type=int, default=2, help="networks trained at once, each on one thread")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", help="folder; models/training by default, models/training-tiny with --tiny")
    arguments = parser.parse_args()
    if not arguments.tiny and "BOUNDARYGEO_DATA" not in os.environ:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz, or pass --tiny")
    tiny = arguments.tiny
    jobs = [
        Job(
            row=row,
            method=METHODS[row],
            network=network,
            seed=seed,
            data="mnist5k" if tiny else f"npz:{os.environ['BOUNDARYGEO_DATA']}/mnist.npz",
            epochs=arguments.epochs or (1 if tiny else 5),
            sizes=SIZES,
            examples=arguments.examples or (200 if tiny else 10_000),
            folder=arguments.out or ("models/training-tiny" if tiny else "models/training"),
            device=arguments.device,
        )
        for seed in range(arguments.seeds or (2 if tiny else 3))
        for network in arguments.networks
        for row in arguments.methods
    ]
    run(jobs, arguments.workers)


if __name__ == "__main__":
    main()
