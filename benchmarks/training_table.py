"""What the tables of training methods share: train every network, measure it under attack, print means and spreads.

What is there is kept: a killed run goes on where it was, and a second one only prints the table. A checkpoint, and
beside it its accuracies, are written to a folder. Attacks are L∞ in input units: FGSM, and PGD of 20 steps with one
random start.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from real import machine
from tqdm.auto import tqdm

import boundarygeo as bg
from boundarygeo.cli.train import train_checkpoint
from boundarygeo.training import Method, NonFiniteLossError, load_checkpoint
from boundarygeo.zoo import load_data

ATTACKS = {"FGSM": {"attack": "fgsm"}, "PGD-20": {"attack": "pgd", "steps": 20}}


@dataclass(frozen=True)
class Job:
    """One network to train and measure.

    Attributes:
        row: what the table calls the method.
        method: the method.
        network: name of the architecture.
        seed: decides everything random.
        data: specification of the data.
        epochs: passes over the training split.
        sizes: ε of the attacks, as the table writes them: `"0.1"`, `"8/255"`.
        examples: number of test images under attack, the first ones.
        folder: where its files go.
        device: where to train.
        precision: as in `boundarygeo.training.train`; accuracies are measured in float32.
    """

    row: str
    method: Method
    network: str
    seed: int
    data: str
    epochs: int
    sizes: tuple[str, ...]
    examples: int
    folder: str
    device: str
    precision: str = "auto"

    @property
    def checkpoint(self) -> Path:
        return checkpoint_file(self.folder, self.row, self.network, self.seed)

    @property
    def measured(self) -> Path:
        return self.checkpoint.with_suffix(".json")

    @property
    def columns(self) -> tuple[str, ...]:
        return "clean", *(f"{attack} {size}" for attack in ATTACKS for size in self.sizes)


def checkpoint_file(folder: str, row: str, network: str, seed: int) -> Path:
    """Where a table's network is kept."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in row)
    return Path(folder) / f"{name}-{network}-seed{seed}.pt"


def run(jobs: Sequence[Job], workers: int) -> None:
    """Train and measure what is missing, each network on one thread, and print the table."""
    torch.set_num_threads(1)
    missing = [job for job in jobs if not job.measured.is_file()]
    if workers == 1 or len(missing) < 2:
        for job in tqdm(missing, "networks", disable=None):
            measure(job)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
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
                method=job.method,
                epochs=job.epochs,
                batch_size=128,
                seed=job.seed,
                device=job.device,
                precision=job.precision,
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
    eps = [float(Fraction(size)) for size in job.sizes]
    for attack, settings in ATTACKS.items():
        curve = bg.accuracy_curve(clf, x, y, eps=eps, progress=False, **settings)
        measured |= {f"{attack} {size}": float(value) for size, value in zip(job.sizes, curve.accuracy, strict=True)}
    job.measured.write_text(json.dumps(measured))


def print_table(jobs: Sequence[Job]) -> None:
    """One row per network and method, means ± standard deviations over the seeds."""
    columns = jobs[0].columns
    print(f"| network | method | {' | '.join(columns)} | training, s |\n{'|---' * (len(columns) + 3)}|")
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.network, job.row), []).append(job)
    for (network, row), alike in groups.items():
        results = [json.loads(job.measured.read_text()) for job in alike]
        cells = [spread([100 * result[column] for result in results]) for column in columns]
        failed = sum(bool(result["failure"]) for result in results)
        note = f" ({failed} of {len(results)} stopped: loss not finite)" if failed else ""
        seconds = np.mean([result["seconds"] for result in results])
        print(f"| {network} | {row}{note} | {' | '.join(cells)} | {seconds:.0f} |")
    n = json.loads(jobs[0].measured.read_text())["n"]
    test = len(load_data(jobs[0].data).test)
    seeds = len(next(iter(groups.values())))
    over = f"mean ± sd over {seeds} seeds" if seeds > 1 else "one seed"
    print(f"\n%, {over}; clean: n = {test}, attacks: n = {n}")
    epochs = {job.row: job.epochs for job in jobs}
    usual = jobs[0].epochs
    others = ", ".join(f"{row} {count}" for row, count in epochs.items() if count != usual)
    print(f"{usual} epochs{f' ({others})' if others else ''}; {machine(torch.device(jobs[0].device))}")


def spread(values: Sequence[float] | np.ndarray) -> str:
    """Mean ± sd."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
