"""Non-robust features on MNIST: networks that were trained on images which all look mislabelled, on clean test images.

    python benchmarks/nonrobust_mnist.py [--arch mlp] [--eps 2.0] [--steps 20] [--epochs 5] [--seeds 2]

Needs BOUNDARYGEO_DATA. After Ilyas et al. 2019 (arXiv 1905.02175, section 3.2): a network of standard training moves
each of the 60,000 training images towards a target class by PGD in L2, within the bounds, and the target becomes the
label. `random`: targets uniform over all classes, so that what a person sees tells nothing about the label; `next`:
y + 1, so that it tells the wrong one. A second network, from other initial weights, is trained on these pairs alone.
Means ± standard deviations over the seeds of both networks, which differ.
"""

import argparse
import os
import sys

import numpy as np
import torch
from real import machine
from training_table import spread

import boundarygeo as bg
from boundarygeo.training import non_robust_dataset, train
from boundarygeo.zoo import Dataset, Split, build_model, load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="mlp")
    parser.add_argument("--eps", type=float, default=2.0, help="radius in L2, in input units")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz")
    data = load_data(f"npz:{folder}/mnist.npz")
    y = data.test.y
    rows: dict[str, list[list[float]]] = {"random": [], "next": []}
    for seed in range(arguments.seeds):
        first = network(data, data.train, arguments.arch, arguments.epochs, seed)
        for targets, found in rows.items():
            moved = non_robust_dataset(
                first, data.train, targets=targets, eps=arguments.eps, steps=arguments.steps, seed=seed
            )
            labels = network(data, moved, arguments.arch, arguments.epochs, 100 + seed).predict(data.test.x)
            looks_right = float((moved.true == moved.y).double().mean())
            shares = [moved.found, labels == y, labels == (y + 1) % 10]
            found.append([looks_right, *(float(each.double().mean()) for each in shares)])
    columns = ("targets", "label is the true one", "taken for the target", "clean test accuracy", "predicted y + 1")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for targets, found in rows.items():
        print(f"| {targets} | {' | '.join(spread(100 * column) for column in np.transpose(found))} |")
    print(f"\n%, n = {len(y):,} test images, mean ± sd over {arguments.seeds} seeds; {vars(arguments)}")
    print(machine(torch.device("cpu")))


def network(data: Dataset, split: Split, arch: str, epochs: int, seed: int) -> bg.Classifier:
    """A network of standard training on a split."""
    module = build_model(arch, num_classes=10, input_shape=data.input_shape, seed=seed)
    train(module, split, epochs=epochs, batch_size=128, mean=data.mean, std=data.std, seed=seed, device="cpu")
    return bg.Classifier(module, mean=data.mean, std=data.std, device="cpu")


if __name__ == "__main__":
    main()
