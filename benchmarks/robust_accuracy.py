"""Robust accuracy by `boundarygeo.attacks.strongest` beside AutoAttack's standard version.

    pip install pyautoattack
    python benchmarks/robust_accuracy.py [--names mnist-cnn_a-adv ...] [--examples 200] [--cache robust.jsonl]

Prints, for ten third-party networks and the usual radii, the share of the examples that each of the two leaves right,
with its 95 % Wilson interval; how many examples only one of them breaks; forward and backward passes; and CPU time. All
examples are classified correctly to begin with. Every perturbation of either counts only if it is inside the ball and
the bounds and the module, run plainly, gives another class. With --cache, what stands in that file is not run again.
Needs BOUNDARYGEO_DATA, see third_party.py.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack
from real import machine
from third_party import EPS, NAMES, third_party
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.attacks.norms import length
from boundarygeo.results.statistics import share

TRAINED_FOR = 2 / 255
"""L∞ radius that the robust CIFAR-10 networks were trained for."""
SLACK = 1e-6
"""How far a perturbation may leave the ball by float32 rounding."""


class Counted(nn.Module):
    """A classifier's module with its normalisation, counting the examples that go forward and back."""

    def __init__(self, clf: bg.Classifier) -> None:
        super().__init__()
        self.inner, self.normalise = clf.module.eval(), clf.normalise
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of inputs within the bounds."""
        self.forwards += len(x)
        logits = self.inner(self.normalise(x))
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def autoattack(clf: bg.Classifier, x: Tensor, y: Tensor, eps: float, norm: str) -> dict[str, Any]:
    """AutoAttack's standard version: what it breaks, and its cost."""
    model = Counted(clf)
    attack = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="standard", seed=0)
    began = time.process_time()
    x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return {
        "seconds": time.process_time() - began,
        "forwards": model.forwards,
        "backwards": model.backwards,
        "broken": broken(clf, x, y, x_adv, eps, norm),
    }


def strongest(clf: bg.Classifier, x: Tensor, y: Tensor, eps: float, norm: str) -> dict[str, Any]:
    """Ours: what it breaks, and its cost."""
    began = time.process_time()
    found = bg.strongest(clf, x, y, eps=eps, norm=norm, progress=False)
    return {
        "seconds": time.process_time() - began,
        "forwards": found.provenance.forwards,
        "backwards": found.provenance.backwards,
        "broken": broken(clf, x, y, found.x_adv, eps, norm),
    }


def broken(clf: bg.Classifier, x: Tensor, y: Tensor, x_adv: Tensor, eps: float, norm: str) -> list[int]:
    """Examples whose perturbation is allowed and changes the class."""
    with torch.no_grad():
        labels = clf.module.eval()(clf.normalise(x_adv)).argmax(1)
    inside = length(x_adv.double() - x.double(), norm) <= eps + SLACK
    low, high = clf.bounds
    allowed = inside & ((x_adv >= low) & (x_adv <= high)).flatten(1).all(1)
    return (allowed & (labels != y)).nonzero()[:, 0].tolist()


ATTACKS = {"AutoAttack": autoattack, "strongest": strongest}


def measure(attack: str, name: str, norm: str, eps: float, count: int, cache: Path | None) -> dict[str, Any]:
    """The row of an attack, a network and a ball: from the cache, or run."""
    key = {"attack": attack, "name": name, "norm": norm, "eps": eps, "examples": count}
    if cache is not None and cache.is_file():
        for line in cache.read_text().splitlines():
            row = json.loads(line)
            if key.items() <= row.items():
                return row
    clf, x, y = third_party(name, count, "cpu")
    row = key | {"n": len(x)} | ATTACKS[attack](clf, x, y, eps, norm)
    if cache is not None:
        with cache.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return row


def balls(name: str) -> list[tuple[str, float]]:
    """Norms and radii of a network."""
    data = name.split("-")[0]
    return [*EPS[data].items(), *([("linf", TRAINED_FOR)] if data == "cifar" else [])]


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=NAMES[:-1], choices=NAMES)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--norms", nargs="+", default=["linf", "l2"])
    parser.add_argument("--cache", type=Path)
    chosen = parser.parse_args()
    print(f"{machine(torch.device('cpu'))}; 95 % Wilson intervals; passes and CPU seconds: AutoAttack / strongest\n")
    print(
        "| network | norm | ε | n | AutoAttack % | strongest % | only AutoAttack breaks | only strongest | "
        "forwards (thousands) | backwards (thousands) | CPU seconds |"
    )
    print("|" + " --- |" * 11)
    for name in chosen.names:
        for norm, eps in balls(name):
            if norm not in chosen.norms:
                continue
            ball = name, norm, eps, chosen.examples, chosen.cache
            rows = {attack: measure(attack, *ball) for attack in chosen.attacks}
            if len(rows) == len(ATTACKS):
                print(line(name, norm, eps, *(rows[attack] for attack in ATTACKS)), flush=True)


def line(name: str, norm: str, eps: float, theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """One row of the table."""
    left = [share(row["n"] - len(row["broken"]), row["n"]).percent() for row in (theirs, ours)]
    only = [len(set(a["broken"]) - set(b["broken"])) for a, b in ((theirs, ours), (ours, theirs))]
    passes = [" / ".join(f"{row[way] / 1000:,.0f}" for row in (theirs, ours)) for way in ("forwards", "backwards")]
    radius = f"{255 * eps:.0f}/255" if name.startswith("cifar") and norm == "linf" else f"{eps:g}"
    seconds = f"{theirs['seconds']:,.0f} / {ours['seconds']:,.0f}"
    cells = (name, {"linf": "L∞", "l2": "L2"}[norm], radius, theirs["n"], *left, *only, *passes, seconds)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
