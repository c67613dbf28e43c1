"""Minimal-norm distances against the best that is known, on eleven networks of third parties.

    python benchmarks/minimal_norm.py [--networks mnist-cnn_a-adv ...] [--norms l2 linf] [--examples 100]

For each network and norm: the peers' median distances with their forward passes per example, ours at 30, 100, 600 (the
default) and 1,000 steps, each divided by the best that any of the peers, the scan, or ours at 1,000 steps found for the
same example: median and 95th percentile of these ratios. Peers: DDN (L2) and FMN of foolbox, 1,000 steps; Carlini &
Wagner's of foolbox, 6 x 500 steps (L2); FAB towards each of nine classes, 100 steps, of AutoAttack. The scan bisects
the radius between half of ours (600 steps) and all of it, seven times, with APGD on the cross-entropy, 50 steps, and on
the targeted DLR towards three classes, 50 steps each, of AutoAttack. Needs BOUNDARYGEO_DATA, foolbox and pyautoattack.
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Callable

import foolbox
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from real import machine
from third_party import NAMES, third_party
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks import minimal_norm
from boundarygeo.attacks.norms import length

STEPS = (30, 100, 600, 1000)
DEFAULT = 600
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Counted(nn.Module):
    """A classifier's module with its normalisation, counting the examples that go forward."""

    def __init__(self, clf: bg.Classifier) -> None:
        super().__init__()
        self.inner, self.normalise, self.forwards = clf.module, clf.normalise, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of inputs within the bounds."""
        self.forwards += len(x)
        return self.inner(self.normalise(x))


def of_foolbox(attack: foolbox.attacks.Attack) -> Attack:
    def run(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device=x.device)
        return attack(model, x, y, epsilons=None)[0]

    return run


def fab(norm: str) -> Attack:
    """FAB of AutoAttack's standard version: towards each of the nine most likely classes."""

    def run(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = FABAttack_PT(
            module, n_iter=100, eps=1.0, norm=_name(norm), targeted=True, device=x.device, verbose=False, seed=0
        )
        nearest, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        for rank in range(2, 11):
            attack.target_class = rank
            points = attack.attack_single_run(x, y, use_rand_start=False, is_targeted=True)
            size = distances(module, x, y, points, norm)
            nearest[size < distance], distance = points[size < distance], torch.minimum(size, distance)
        return nearest

    return run


def scan(module: nn.Module, x: Tensor, y: Tensor, norm: str, longest: Tensor) -> Tensor:
    """The smallest radius of a bisection at which APGD succeeds, or the longest."""
    low, high = longest / 2, longest.clone()
    best = longest.clone()
    for _ in range(7):
        radius = (low + high) / 2
        eps = radius.to(x).view(-1, *(1,) * (x.ndim - 1))
        shared = {"n_iter": 50, "norm": _name(norm), "eps": eps, "seed": 0, "device": x.device, "verbose": False}
        plain = APGDAttack(module, loss="ce", **shared)
        plain.init_hyperparam(x)
        found = distances(module, x, y, plain.attack_single_run(x, y)[3], norm)
        for rank in range(2, 5):
            targeted = APGDAttack_targeted(module, n_target_classes=9, **shared)
            targeted.init_hyperparam(x)
            targeted.y_target = module(x).sort(1).indices[:, -rank]
            targeted.loss = "dlr-targeted"
            found = torch.minimum(found, distances(module, x, y, targeted.attack_single_run(x, y)[3], norm))
        hit = found.isfinite()
        best = torch.minimum(best, found)
        low, high = torch.where(hit, low, radius), torch.where(hit, radius, high)
    return best


def distances(module: nn.Module, x: Tensor, y: Tensor, points: Tensor, norm: str) -> Tensor:
    """Norms of what leads within the bounds to another class; inf elsewhere."""
    with torch.no_grad():
        hit = (module(points).argmax(1) != y) & ((points >= -1e-6) & (points <= 1 + 1e-6)).flatten(1).all(1)
    return torch.where(hit, length((points - x).double(), norm), torch.inf)


def _name(norm: str) -> str:
    return {"l2": "L2", "linf": "Linf"}[norm]


def peers(norm: str) -> dict[str, Attack]:
    if norm == "l2":
        return {
            "DDN": of_foolbox(foolbox.attacks.DDNAttack(steps=1000)),
            "FMN": of_foolbox(foolbox.attacks.L2FMNAttack(steps=1000)),
            "CW": of_foolbox(foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=500)),
            "FAB-T": fab(norm),
        }
    return {
        "FMN": of_foolbox(foolbox.attacks.LInfFMNAttack(steps=1000, max_stepsize=10.0)),
        "FAB-T": fab(norm),
    }


def compare(name: str, norm: str, examples: int, device: str) -> None:
    """Print one row of the table."""
    clf, x, y = third_party(name, examples, device)
    module = Counted(clf).eval().to(clf.device).requires_grad_(False)
    inputs, classes = x.to(clf.device), y.to(clf.device)
    ours, seconds = {}, {}
    for steps in STEPS:
        began = time.perf_counter()
        ours[steps] = minimal_norm(clf, x, y, norm=norm, steps=steps, progress=False).distance
        seconds[steps] = time.perf_counter() - began
    found, told = [ours[STEPS[-1]]], []
    attacks = peers(norm) | {
        "scan": lambda module, x, y: scan(module, x, y, norm, ours[DEFAULT].to(x.device)),
    }
    for peer, attack in attacks.items():
        module.forwards, began = 0, time.perf_counter()
        result = attack(module, inputs, classes)
        size = result if peer == "scan" else distances(module, inputs, classes, result, norm)
        found.append(size.cpu())
        told.append(f"{peer} {size.median():.4f} ({module.forwards / len(x):.0f}, {time.perf_counter() - began:.0f} s)")
    best = torch.stack(found).amin(0)
    longer = sum(int((ours[more] > ours[less]).sum()) for less, more in itertools.pairwise(STEPS))
    peers_best = torch.stack(found[1:-1]).amin(0)
    cells = [f"{name} | {norm}", ", ".join(told), f"{ours[DEFAULT].median():.4f} ({seconds[DEFAULT]:.0f} s)"]
    cells += [ratios(ours[steps] / best) for steps in STEPS]
    cells += [ratios(peers_best / best), str(longer)]
    print("| " + " | ".join(cells) + " |", flush=True)


def ratios(values: Tensor) -> str:
    middle, high = (values.quantile(torch.tensor([0.5, 0.95], dtype=torch.float64))).tolist()
    return f"{middle:.3f}, {high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--networks", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--norms", nargs="+", default=["linf", "l2"])
    parser.add_argument("--examples", type=int, default=100)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    columns = [f"{steps} steps / best" for steps in STEPS]
    print(
        f"| network | norm | peers: median (forwards, time) | ours, {DEFAULT} steps | "
        + " | ".join(columns)
        + " | best of the peers / best | longer with more steps |"
    )
    print("|---" * (6 + len(STEPS)) + "|")
    for name in arguments.networks:
        for norm in arguments.norms:
            compare(name, norm, arguments.examples, arguments.device)
    print(f"\n{machine(torch.device('cuda' if arguments.device == 'cuda' else 'cpu'))}")


if __name__ == "__main__":
    main()
