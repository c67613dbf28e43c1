"""The first sequential distance beside `minimal_norm`, and whether it depends on how many directions are wanted.

    python benchmarks/sequential_first.py [--examples 50] [--directions 10] [--networks NAME ...]

Needs BOUNDARYGEO_DATA, see `third_party`. Test images that each of eleven networks gets right; L2, inside the bounds.
Ratios are of the first distance of a chain of so many directions: to `minimal_norm` at its defaults, and to the least
of that, `minimal_norm` at 1,000 steps and DDN (foolbox) at 1,000: medians and 95th percentiles. "same" is the largest
relative difference of the first distance to that of a chain of one direction, "shorter later" the share of directions
at least 1 % shorter than the one before, and passes are those of a search (the first has those of `minimal_norm`, too).
"""

import argparse

import torch
from foolbox.attacks.ddn import DDNAttack
from foolbox.models.pytorch import PyTorchModel
from third_party import NAMES, third_party
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import minimal_norm


class Normalised(nn.Module):
    """What foolbox attacks: the classifier's module behind its normalisation."""

    def __init__(self, clf: bg.Classifier) -> None:
        super().__init__()
        self.clf, self.module = clf, clf.module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(self.clf.normalise(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--directions", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000, help="of the peers")
    parser.add_argument("--networks", nargs="+", default=list(NAMES))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(
        "| network | n | median distance | / `minimal_norm` | / best known | same | shorter later | "
        "forwards, backwards per search |\n" + "|---" * 8 + "|"
    )
    for name in arguments.networks:
        clf, x, y = third_party(name, arguments.examples, device=arguments.device)
        chain = bg.sequential_directions(clf, x, y, max_directions=arguments.directions)
        first = chain.distance[:, 0]
        alone = bg.sequential_directions(clf, x, y, max_directions=1).distance[:, 0]
        quick = minimal_norm(clf, x, y).distance
        long = minimal_norm(clf, x, y, steps=arguments.steps).distance
        best = torch.stack([quick, long, ddn(clf, x, y, arguments.steps)]).amin(0)
        later = chain.distance[:, 1:].isfinite()
        shorter = (chain.distance[:, 1:] < 0.99 * chain.distance[:, :-1]) & later
        searches, cost = int(chain.attempts.sum()), chain.provenance
        print(
            f"| {name} | {len(x)} | {first.median():.3f} | {spread(first / quick)} | {spread(first / best)} | "
            f"{((first - alone).abs() / alone).max():.0e} | {100 * shorter.sum() / later.sum().clamp_min(1):.0f} % | "
            f"{cost.forwards / searches:.0f}, {cost.backwards / searches:.0f} |",
            flush=True,
        )


def ddn(clf: bg.Classifier, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Distances that foolbox's DDN finds, float64 `[example]`; inf where it finds none."""
    model = PyTorchModel(Normalised(clf).eval(), bounds=clf.bounds, device=clf.device)
    x, y = x.to(clf.device), y.to(clf.device)
    _, found, _ = DDNAttack(steps=steps)(model, x, y, epsilons=None)
    found = found.detach()
    distance = (found - x).double().flatten(1).norm(dim=1).cpu()
    return torch.where(clf.predict(found) != y.cpu(), distance, torch.inf)


def spread(ratio: Tensor) -> str:
    """Median and 95th percentile."""
    median, high = ratio.quantile(torch.tensor([0.5, 0.95], dtype=ratio.dtype)).tolist()
    return f"{median:.3f}, {high:.3f}"


if __name__ == "__main__":
    main()
