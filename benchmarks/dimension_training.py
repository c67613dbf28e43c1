"""What moves the claimed and the verified dimension of an MLP on MNIST: how it was trained, and how it is counted.

    python benchmarks/dimension_training.py [--examples 500] [--eps 5]

Needs BOUNDARYGEO_DATA. 784-200-200-10 networks trained on all of MNIST in different ways, bounds ignored; and the same
network counted with another gradient or grid. Means over test digits that each network gets right, with 95 %
intervals; transferred counts are those that fool a network trained in the same way from another seed.
"""

import argparse
import math
import os
import sys
from typing import Any

import torch
from real import machine
from torch import nn

import boundarygeo as bg
from boundarygeo.results.statistics import mean
from boundarygeo.training import train
from boundarygeo.zoo import Dataset, build_model, load_data

TRAININGS: dict[str, dict[str, Any]] = {
    "8 epochs (`make mnist-models`)": {},
    "1 epoch": {"epochs": 1},
    "3 epochs": {"epochs": 3},
    "30 epochs": {"epochs": 30},
    "8 epochs, no weight decay": {"weight_decay": 0.0},
    "8 epochs, learning rate 1e-3": {"learning_rate": 1e-3},
    "8 epochs, dropout 0.5": {"dropout": 0.5},
    "8 epochs, hidden layers of 1000": {"width": 1000},
}
COUNTS: dict[str, dict[str, Any]] = {
    "rule `count`": {"rule": "count"},
    "gradient of the cross-entropy": {"loss": "cross_entropy"},
    "k-grid 10, 25, 50, 75, …, 200": {"grid": (10, *range(25, 201, 25))},
    "best of 5 rotated frames": {"restarts": 5},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--eps", type=float, default=5.0)
    arguments = parser.parse_args()
    if "BOUNDARYGEO_DATA" not in os.environ:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz")
    data = load_data(f"npz:{os.environ['BOUNDARYGEO_DATA']}/mnist.npz")
    print("| network or count | test accuracy | claimed | verified | transferred |\n" + "|---" * 5 + "|")
    first: tuple[Any, ...] = ()
    for name, settings in TRAININGS.items():
        trained = [network(data, seed=seed, **settings) for seed in (0, 1)]
        first = first or (*trained,)
        print(row(name, data, trained, arguments.examples, arguments.eps), flush=True)
    for name, settings in COUNTS.items():
        print(row(f"the first, {name}", data, list(first), arguments.examples, arguments.eps, **settings), flush=True)
    print(f"\n{machine(torch.device('cpu'))}")


def network(
    data: Dataset, *, seed: int, epochs: int = 8, dropout: float = 0.0, width: int = 200, **settings: Any
) -> tuple[bg.Classifier, float]:
    """An MLP trained on all of MNIST, and its test accuracy."""
    module = build_model("mlp", num_classes=10, input_shape=data.input_shape, seed=seed)
    if dropout or width != 200:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = nn.Sequential(
                nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10),
            )  # fmt: skip
    result = train(
        module, data.train, epochs=epochs, mean=data.mean, std=data.std, seed=seed, test=data.test, **settings
    )
    return bg.Classifier(module, mean=data.mean, std=data.std), result.test_accuracy[-1]


def row(
    name: str, data: Dataset, trained: list[tuple[bg.Classifier, float]], examples: int, eps: float, **settings: Any
) -> str:
    """One line of the table."""
    (clf, accuracy), (other, _) = trained
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[: examples + 50]
    x, y = data.test.x[order], data.test.y[order]
    right = clf.predict(x) == y
    x, y = x[right][:examples], y[right][:examples]
    result = bg.adversarial_dimension(clf, x, y, eps=eps, box="ignore", keep_directions=True, **settings)
    moved = bg.transferred_dimension(other, x, result)
    cells = (
        name,
        f"{accuracy:.2%}",
        mean(result.claimed.double().numpy(), within=(0, math.inf)).plain(1),
        mean(result.verified.double().numpy(), within=(0, math.inf)).plain(1),
        mean(moved.count[moved.correct].double().numpy(), within=(0, math.inf)).plain(1),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
