"""Minimal-norm distances against the best of foolbox's attacks at the same number of steps.

    python benchmarks/attacks_minimal_norm.py [--device cuda] [--examples 200] [--steps 20 50 100]

Prints, for the network of the demo, for ResNet-20 (where BOUNDARYGEO_DATA is set) and for a random network, the median
over the examples of our distance divided by the smallest that any of foolbox's attacks found, and the forward passes
per example. DeepFool, DDN and FMN run for L2; DeepFool and FMN, with steps of 1 and of 10, for L∞. Needs foolbox.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import foolbox
import torch
from real import machine, resnet20_on_cifar10, small_cnn_on_mnist5k
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import minimal_norm
from boundarygeo.attacks.norms import length

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from oracles import SmallNet, images

PEERS = {
    "l2": {
        "DeepFool": foolbox.attacks.L2DeepFoolAttack,
        "DDN": foolbox.attacks.DDNAttack,
        "FMN": foolbox.attacks.L2FMNAttack,
    },
    "linf": {
        "DeepFool": foolbox.attacks.LinfDeepFoolAttack,
        "FMN": foolbox.attacks.LInfFMNAttack,
        "FMN (10)": lambda steps: foolbox.attacks.LInfFMNAttack(steps=steps, max_stepsize=10.0),
    },
}


class Counted(nn.Module):
    """A classifier's module with its normalisation, counting the examples that go forward."""

    def __init__(self, clf: bg.Classifier) -> None:
        super().__init__()
        self.inner, self.normalise, self.forwards = clf.module, clf.normalise, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of inputs within the bounds."""
        self.forwards += len(x)
        return self.inner(self.normalise(x))


def random_net(count: int, device: str) -> tuple[bg.Classifier, Tensor, Tensor]:
    clf = bg.Classifier(SmallNet(), device=device)
    x = images(count)
    return clf, x, clf.predict(x)


def peer_distances(clf: bg.Classifier, x: Tensor, y: Tensor, norm: str, steps: int) -> tuple[Tensor, str]:
    """Smallest distance that any peer found, and what each peer's median and cost were."""
    module = Counted(clf).eval().to(clf.device).requires_grad_(False)
    model = foolbox.PyTorchModel(module, bounds=clf.bounds, device=clf.device)
    inputs, classes = x.to(clf.device), y.to(clf.device)
    distances, told = [], []
    for name, peer in PEERS[norm].items():
        module.forwards = 0
        points, _, found = peer(steps=steps)(model, inputs, classes, epsilons=None)
        cost = module.forwards / len(x)
        distance = torch.where(found, length((points - inputs).double(), norm), torch.inf).cpu()
        distances.append(distance)
        told.append(f"{name} {distance.median():.4f} ({cost:.0f})")
    return torch.stack(distances).amin(0), ", ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 50, 100])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="foolbox")
    networks = {"small_cnn": small_cnn_on_mnist5k, "random": random_net}
    if os.environ.get("BOUNDARYGEO_DATA"):
        networks["resnet20"] = resnet20_on_cifar10
    print("| network | norm | steps | peers: median distance (forwards) | ours | ratio to the best [10 %, 90 %] | s |")
    print("|---|---|---|---|---|---|---|")
    for name, make in networks.items():
        clf, x, y = make(arguments.examples, arguments.device)
        for norm in PEERS:
            for steps in arguments.steps:
                best, told = peer_distances(clf, x, y, norm, steps)
                began = time.perf_counter()
                ours = minimal_norm(clf, x, y, norm=norm, steps=steps)
                seconds = time.perf_counter() - began
                ratio = ours.distance / best
                low, middle, high = ratio.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
                cost = ours.provenance.forwards / len(x)
                print(
                    f"| {name} | {norm} | {steps} | {told} | {ours.distance.median():.4f} ({cost:.0f}), "
                    f"{int(ours.found.sum())} of {len(x)} found | **{middle:.3f}** [{low:.3f}, {high:.3f}] | "
                    f"{seconds:.1f} |",
                    flush=True,
                )
    print(f"\n{machine(clf.device)}")


if __name__ == "__main__":
    main()
