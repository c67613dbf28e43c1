"""The networks of `transfer_refits.py` that other commands do not train, as checkpoints in models/.

    python benchmarks/refits_train.py mnist      # two MLPs, each on one half of the training digits (1 min)
    python benchmarks/refits_train.py cifar10    # two small CNNs and a ResNet-20 (30 min on one CPU core)

Needs BOUNDARYGEO_DATA. The halves are disjoint, and drawn by a fixed seed. The networks of CIFAR-10 are trained on JPEG
copies, briefly, without augmentation: they are other networks to compare with, not good ones. What exists is kept.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import torch

from boundarygeo.cli.train import train_checkpoint
from boundarygeo.zoo import Dataset, Split, load_data

# Of the MLPs twice those of `make mnist-models`: as many steps on half the digits.
EPOCHS = {"mlp": 16, "small_cnn": 10, "resnet20": 6}
CIFAR_NETWORKS = (("small_cnn", 0), ("small_cnn", 1), ("resnet20", 0))


def half(data: Dataset, which: int) -> Dataset:
    """The data set with one of two disjoint halves of its training split."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    rows = order[which::2].sort().values
    train = Split(data.train.x[rows], data.train.y[rows])
    return dataclasses.replace(data, name=f"{data.name} (half {which})", read_train=lambda: train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("mnist", "cifar10"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz and cifar10-jpeg.tar")
    if arguments.data == "mnist":
        data = load_data(f"npz:{folder}/mnist.npz")
        wanted = [(f"mlp-mnist-half{which}", "mlp", which, half(data, which)) for which in (0, 1)]
    else:
        data = load_data(f"folder:{folder}/cifar10-jpeg.tar")
        wanted = [(f"{arch}-cifar10-seed{seed}", arch, seed, data) for arch, seed in CIFAR_NETWORKS]
    for name, arch, seed, part in wanted:
        path = Path(f"models/{name}.pt")
        if path.exists():
            print(f"{path} is there")
            continue
        done = train_checkpoint(path, part, arch=arch, epochs=EPOCHS[arch], seed=seed, device=arguments.device)
        assert done.training is not None
        print(f"{path}: test accuracy {100 * done.training.test_accuracy[-1]:.2f} %, {done.training.seconds:.0f} s")


if __name__ == "__main__":
    main()
