"""All training methods on MNIST: accuracy without and under attack, two networks, several seeds, one table.

    python benchmarks/training_mnist.py            # all of MNIST, 3 seeds, 5 epochs; needs BOUNDARYGEO_DATA
    python benchmarks/training_mnist.py --tiny     # 4,000 digits, 2 seeds, 1 epoch: does it run?

What is there is kept: a killed run goes on where it was, and a second one only prints the table. Checkpoints, and
beside each of them its accuracies, are written to `--out`. Attacks are L∞ in input units: FGSM, and PGD of 20 steps
with one random start. Cells are means ± standard deviations over the seeds. FGSM, PGD and TRADES train at ε = 0.1, the
layer-wise rows at the ε that did best of a few on the 4,000 digits. The full table is made for an hour on two cores.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from real import machine
from tqdm.auto import tqdm

import boundarygeo as bg
from boundarygeo.cli.train import train_checkpoint
from boundarygeo.training import (
    BatchOut,
    Fgsm,
    Layerwise,
    ManifoldMixup,
    Method,
    Mixup,
    NonFiniteLossError,
    Pgd,
    Standard,
    Trades,
    load_checkpoint,
)
from boundarygeo.zoo import load_data

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
SIZES = (0.1, 0.3)
COLUMNS = ("clean", *(f"{attack} {size}" for attack in ("FGSM", "PGD-20") for size in SIZES))


@dataclass(frozen=True)
class Job:
    """One network to train and measure.

    Attributes:
        row: key of `METHODS`.
        network: name of the architecture.
        seed: decides everything random.
        data: specification of the data.
        epochs: passes over the training split.
        examples: number of test images under attack, the first ones.
        folder: where its files go.
        device: where to train.
    """

    row: str
    network: str
    seed: int
    data: str
    epochs: int
    examples: int
    folder: str
    device: str

    @property
    def checkpoint(self) -> Path:
        name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in self.row)
        return Path(self.folder) / f"{name}-{self.network}-seed{self.seed}.pt"

    @property
    def measured(self) -> Path:
        return self.checkpoint.with_suffix(".json")


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
    torch.set_num_threads(1)
    tiny = arguments.tiny
    jobs = [
        Job(
            row=row,
            network=network,
            seed=seed,
            data="mnist5k" if tiny else f"npz:{os.environ['BOUNDARYGEO_DATA']}/mnist.npz",
            epochs=arguments.epochs or (1 if tiny else 5),
            examples=arguments.examples or (200 if tiny else 10_000),
            folder=arguments.out or ("models/training-tiny" if tiny else "models/training"),
            device=arguments.device,
        )
        for seed in range(arguments.seeds or (2 if tiny else 3))
        for network in arguments.networks
        for row in arguments.methods
    ]
    missing = [job for job in jobs if not job.measured.is_file()]
    if arguments.workers == 1 or len(missing) < 2:
        for job in tqdm(missing, "networks", disable=None):
            measure(job)
    else:
        with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
            for _ in tqdm(pool.map(measure, missing), "networks", len(missing), disable=None):
                pass
    print_table(jobs)


def measure(job: Job) -> None:
    """Train the network, unless it is there, and write its accuracies."""
    torch.set_num_threads(1)
    data = load_data(job.data)
    failure = ""
    if not job.checkpoint.is_file():
        try:
            train_checkpoint(
                job.checkpoint,
                data,
                arch=job.network,
                method=METHODS[job.row],
                epochs=job.epochs,
                batch_size=128,
                seed=job.seed,
                device=job.device,
                resume=True,
            )
        except NonFiniteLossError as error:
            failure = str(error)
            if not job.checkpoint.is_file():
                raise
    module, checkpoint = load_checkpoint(job.checkpoint)
    training = checkpoint.training
    assert training is not None
    clf = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=job.device)
    x, y = data.test.x[: job.examples], data.test.y[: job.examples]
    measured = {"clean": training.test_accuracy[-1], "seconds": training.seconds, "failure": failure, "n": len(x)}
    for attack, settings in (("FGSM", {}), ("PGD-20", {"steps": 20})):
        curve = bg.accuracy_curve(
            clf, x, y, attack=attack.lower().removesuffix("-20"), eps=SIZES, progress=False, **settings
        )
        measured |= {f"{attack} {size}": float(value) for size, value in zip(SIZES, curve.accuracy, strict=True)}
    job.measured.write_text(json.dumps(measured))


def print_table(jobs: list[Job]) -> None:
    """One row per network and method, means ± standard deviations over the seeds."""
    print(f"| network | method | {' | '.join(COLUMNS)} | training, s |\n{'|---' * (len(COLUMNS) + 3)}|")
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.network, job.row), []).append(job)
    for (network, row), seeds in groups.items():
        results = [json.loads(job.measured.read_text()) for job in seeds]
        cells = [spread([100 * result[column] for result in results]) for column in COLUMNS]
        failed = sum(bool(result["failure"]) for result in results)
        note = f" ({failed} of {len(results)} stopped: loss not finite)" if failed else ""
        seconds = np.mean([result["seconds"] for result in results])
        print(f"| {network} | {row}{note} | {' | '.join(cells)} | {seconds:.0f} |")
    n = json.loads(jobs[0].measured.read_text())["n"]
    test = len(load_data(jobs[0].data).test)
    print(f"\n%, mean ± sd over {len(next(iter(groups.values())))} seeds; clean: n = {test}, attacks: n = {n}")
    print(f"{jobs[0].epochs} epochs; {machine(torch.device(jobs[0].device))}")


def spread(values: list[float]) -> str:
    """Mean ± sd."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
