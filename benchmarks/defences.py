"""Defences at test time under oblivious and adaptive attacks, on MNIST, and the radii that smoothing certifies.

    python benchmarks/defences.py MODEL.pt [MODEL.pt ...] [--examples 500] [--eps 0.1] [--steps 20]
    python benchmarks/defences.py models/training/mixup-*-seed0.pt --defences pl ol --certified 0   # mixup inference

Needs BOUNDARYGEO_DATA; the models are checkpoints trained on MNIST. Accuracy on the first test digits, those that are
misclassified without an attack included, in %: oblivious, PGD on the bare module; adaptive, PGD through the samples of
the defence, which it knows; worse of the two, examples that withstand each of them; unknown, the adaptive
examples sent through a defence with other samples (seed 1).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import torch
from real import machine
from torch import Tensor

import boundarygeo as bg
from boundarygeo.results.statistics import share
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import load_data

SIGMA = 0.25
DEFENCES = ("pl", "ol", "both", "smoothing")
RADII = (0.0, 0.25, 0.5, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=32, help="noise vectors of the smoothed module")
    parser.add_argument("--defences", nargs="+", default=DEFENCES, choices=DEFENCES)
    parser.add_argument("--certified", type=int, default=100, help="examples to certify, 0 for none")
    parser.add_argument("--votes", type=int, default=10_000, help="noise vectors of a certificate")
    arguments = parser.parse_args()
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz")
    data = load_data(f"npz:{folder}/mnist.npz")
    x, y = data.test.x[: arguments.examples], data.test.y[: arguments.examples]
    settings = {"eps": arguments.eps, "norm": "linf", "steps": arguments.steps}
    settings["early_stop"] = False  # deep in the wrong region: examples at its edge seldom fool another module
    certificates = []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    columns = ("model", "defence", "clean", "oblivious", "adaptive", "worse of the two", "unknown")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for path in arguments.models:
        module, checkpoint = load_checkpoint(path)
        clf = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)
        attacked = bg.pgd(clf, x, y, **settings).x_adv
        print(f"| {path} | none | {_right(clf, x, y)} | | {_right(clf, attacked, y)} | | |", flush=True)
        for name, make in _defences(data.train.x, data.train.y, arguments.samples, arguments.defences).items():
            defended, other = make(clf, 0), make(clf, 1)
            adaptive = bg.pgd(defended, x, y, **settings).x_adv
            standing = (defended.predict(attacked) == y) & (defended.predict(adaptive) == y)
            cells = [_right(defended, points, y) for points in (x, attacked, adaptive)]
            cells += [share(int(standing.sum()), len(x)).percent(), _right(other, adaptive, y)]
            print(f"| {path} | {name} | {' | '.join(cells)} |", flush=True)
        if not (count := arguments.certified):
            continue
        radii = bg.defences.certify(clf, x[:count], y[:count], sigma=SIGMA, n=arguments.votes)
        accuracies = [estimate.percent() for estimate in radii.accuracy_at(RADII)]
        certificates.append(f"| {path} | {' | '.join(accuracies)} | {int(radii.abstained.sum())} |")
    print(f"\nn = {len(x)} digits, 95 % Wilson intervals; PGD, {settings}; {machine(torch.device(device))}")
    if not certificates:
        return
    print(f"\n| certified at | {' | '.join(str(r) for r in RADII)} | abstained |\n|---|{'---|' * len(RADII)}---|")
    print("\n".join(certificates))
    print(f"\nσ = {SIGMA}, {arguments.votes} noise vectors, n = {arguments.certified} digits, α = 0.001")


def _defences(
    pool_x: Tensor, pool_y: Tensor, samples: int, chosen: Sequence[str]
) -> dict[str, Callable[[bg.Classifier, int], bg.Classifier]]:
    shape = tuple(pool_x.shape[1:])
    made: dict[str, Callable[[bg.Classifier, int], bg.Classifier]] = {
        f"mixup inference, {mode}": lambda clf, seed, mode=mode: bg.defences.with_mixup_inference(
            clf, pool_x, pool_y, mode=mode, seed=seed
        )
        for mode in chosen
        if mode != "smoothing"
    }
    if "smoothing" in chosen:
        made[f"smoothing, σ = {SIGMA}, {samples} samples"] = lambda clf, seed: bg.defences.with_smoothing(
            clf, sigma=SIGMA, input_shape=shape, samples=samples, seed=seed
        )
    return made


def _right(clf: bg.Classifier, x: Tensor, y: Tensor) -> str:
    return share(int((clf.predict(x) == y).sum()), len(x)).percent()


if __name__ == "__main__":
    main()
