"""The networks of the training tables under every instrument, and dimension beside robust accuracy.

    python benchmarks/training_compared.py mnist        # after training_mnist.py
    python benchmarks/training_compared.py cifar10      # after training_cifar10.py

Needs BOUNDARYGEO_DATA. Attacks, distances, dimensions and pieces are measured on test images, segments between images
and hidden spectra on training images, as by the papers that they are from. Networks that differ by their method alone
are measured together, so that signs of masked gradients include attacks sent from the other twelve; what was measured
is saved beside the checkpoints, and re-running resumes. Prints a short table and the rank correlations over the
methods; writes all numbers to `--out` and the figure to `--figure`.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import training_cifar10
import training_mnist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from real import machine
from scipy.optimize import isotonic_regression
from tqdm.auto import tqdm
from training_table import checkpoint_file

import boundarygeo as bg
from boundarygeo import plots
from boundarygeo.comparison import Comparison, Measurement, Row, Settings, Spread, Subject, compare
from boundarygeo.comparison.tables import markdown
from boundarygeo.plots.style import CLASS_COLORS, NotebookFigure, styled
from boundarygeo.results.statistics import Estimate, rank_correlation
from boundarygeo.training import load_checkpoint
from boundarygeo.training.layers import hidden_layers
from boundarygeo.zoo import Split, load_data

TRAINED = 0.5
"""Clean accuracy below which a network has not learnt the task: it stays out of correlations and figure."""


@dataclass(frozen=True)
class Problem:
    """What is compared, and with which settings.

    Attributes:
        data: specification of the data.
        folder: of the checkpoints.
        networks: names of the architectures.
        methods: rows of the training table.
        eps: ε of the attacks in L∞; dimensions are counted in L2 at the length of an FGSM step of that size.
        restarts: of PGD-100.
        frame: whether dimensions by optimised frames are counted.
        pieces: whether affine pieces are.
        suffix: of the names of what is written.
    """

    data: str
    folder: str
    networks: tuple[str, ...]
    methods: tuple[str, ...]
    eps: float
    restarts: int
    frame: bool
    pieces: bool
    suffix: str


PROBLEMS = {
    "mnist": Problem(
        data="npz:{}/mnist.npz",
        folder="models/training",
        networks=("mlp", "small_cnn"),
        methods=tuple(training_mnist.METHODS),
        eps=0.1,
        restarts=5,
        frame=True,
        pieces=True,
        suffix="",
    ),
    "cifar10": Problem(
        data="folder:{}/cifar10-jpeg.tar",
        folder="models/training-cifar10",
        networks=("resnet20",),
        methods=tuple(training_cifar10.METHODS),
        eps=2 / 255,
        restarts=1,
        frame=False,
        pieces=False,
        suffix="_cifar10",
    ),
}

COLUMNS: dict[str, tuple[str, str]] = {
    "clean": ("accuracy", "clean"),
    "FGSM": ("accuracy", "FGSM"),
    "PGD-100": ("accuracy", "PGD-100"),
    "robust": ("accuracy", "robust"),
    "verified dimension": ("dimension", "verified, inside the bounds"),
    "frames": ("dimension", "optimised frames"),
    "distance, FGSM": ("distances", "along the FGSM"),
    "misses": ("segments", "misses, two classes"),
    "misses, one class": ("segments", "misses, one class"),
    "gradient": ("segments", "gradient, two classes"),
    "rest, first layer": ("spectrum", "all singular values but the largest, first"),
    "rest, last layer": ("spectrum", "all singular values but the largest, last"),
}
"""Columns of the short table: instrument, and how the quantity begins."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--seeds", type=int, help="3 by default for mnist, 1 for cifar10")
    parser.add_argument("--examples", type=int, default=200, help="test images")
    parser.add_argument("--few", type=int, default=20, help="of them for optimised frames and pieces")
    parser.add_argument("--pairs", type=int, default=1000, help="of training images, and how many images to draw from")
    parser.add_argument("--out", help="Markdown file, benchmarks/training_compared….md by default")
    parser.add_argument("--figure", help="figures/training-dimension….png by default")
    arguments = parser.parse_args()
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz and cifar10-jpeg.tar")
    torch.set_num_threads(1)
    problem = PROBLEMS[arguments.problem]
    data = load_data(problem.data.format(folder))
    seeds = range(arguments.seeds or (3 if arguments.problem == "mnist" else 1))
    settings = Settings(
        eps=problem.eps,
        restarts=problem.restarts,
        few=arguments.few,
        frame=problem.frame,
        pairs=arguments.pairs,
    )
    measured: list[Measured] = []
    for seed in tqdm(seeds, "seeds", disable=None):
        for network in problem.networks:
            kept = Path(problem.folder) / "compared" / f"{network}-seed{seed}-n{arguments.examples}.json"
            if not kept.is_file():
                test, train = _drawn(data.test, arguments.examples), _drawn(data.train, arguments.pairs)
                measure(problem, network, seed, settings, test, train, kept)
            measured.append(read(kept))
    found = together(measured, settings, arguments.examples)
    rows = [(network, row) for network in problem.networks for row in problem.methods]
    print(short_table(found, rows))
    print("\n".join(correlations(found, problem)))
    forwards, backwards, seconds = found.forwards, found.backwards, found.seconds
    print(f"\n{forwards:,} forwards, {backwards:,} backwards, {seconds:.0f} s; {machine(torch.device('cpu'))}")
    out = Path(arguments.out or f"benchmarks/training_compared{problem.suffix}.md")
    title = {"mnist": "MNIST", "cifar10": "CIFAR-10, a ResNet-20 trained briefly"}[arguments.problem]
    made = f"Made by `python benchmarks/training_compared.py {arguments.problem}`; see `README.md`."
    out.write_text(f"# Training methods under every instrument: {title}\n\n{made}\n\n{markdown(found)}")
    print(f"saved {out}")
    figure = Path(arguments.figure or f"figures/training-dimension{problem.suffix}.png")
    print(f"saved {plots.save_figure(dimension_figure(found, problem), figure)}")


@dataclass(frozen=True)
class Measured:
    """What was measured on the networks of one architecture and seed."""

    rows: list[Row]
    notes: dict[str, str]
    counts: dict[str, float]


def measure(
    problem: Problem, network: str, seed: int, settings: Settings, test: Split, train: Split, kept: Path
) -> None:
    """All instruments on the networks that differ by their method alone; writes a JSON file.

    A folder beside it has what is finished: re-running resumes.
    """
    subjects = [_subject(problem, row, network, seed) for row in problem.methods]
    on_test = ["accuracy", "masking", "distances", "dimension", *(["pieces"] if problem.pieces else [])]
    folder = kept.with_suffix("")
    parts = [
        compare(subjects, test.x, test.y, settings=settings, instruments=on_test, out=folder / "test"),
        compare(
            subjects, train.x, train.y, settings=settings, instruments=["segments", "spectrum"], out=folder / "train"
        ),
    ]
    notes = {name: note for part in parts for name, note in part.notes.items()}
    notes["segments"] = notes["segments"].replace("test examples", "training examples")
    notes["spectrum"] += f"; {len(train):,} training examples"
    everything = {
        "rows": [dataclasses.asdict(row) for part in parts for row in part.rows],
        "notes": notes,
        "counts": {name: sum(getattr(part, name) for part in parts) for name in ("forwards", "backwards", "seconds")},
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(everything))


def read(kept: Path) -> Measured:
    """What `measure` wrote."""
    found = json.loads(kept.read_text())
    rows = []
    for row in found["rows"]:
        measured = row.pop("measured")
        rows.append(Row(**row, measured=Measurement(**measured | {"estimate": Estimate(**measured["estimate"])})))
    return Measured(rows, found["notes"], found["counts"])


def together(parts: Sequence[Measured], settings: Settings, n: int) -> Comparison:
    """One comparison of all networks."""
    rows = tuple(row for part in parts for row in part.rows)
    groups = {row.name: row.group for row in rows}
    return Comparison(
        rows=rows,
        names=tuple(groups),
        groups=tuple(groups.values()),
        settings=settings,
        notes=parts[0].notes,
        results={},
        n=n,
        forwards=int(sum(part.counts["forwards"] for part in parts)),
        backwards=int(sum(part.counts["backwards"] for part in parts)),
        seconds=sum(part.counts["seconds"] for part in parts),
    )


def short_table(found: Comparison, rows: Sequence[tuple[str, str]]) -> str:
    """One row per network and method: means ± standard deviations over the seeds."""
    columns = {name: spreads(found, *place) for name, place in COLUMNS.items()}
    columns = {name: column for name, column in columns.items() if column}
    none = spreads(found, "dimension", "none, verified, inside the bounds")
    flagged = {row.group: set[str]() for row in found.rows}
    for row in found.rows:
        if row.measured.flagged:
            flagged[row.group].add(row.name)
    heading = ["network", "method", *columns, "of those with any", "masking"]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    for network, method in rows:
        group = f"{network} {method}"
        cells = [_cell(column[group]) for column in columns.values()]
        any_ = columns["verified dimension"][group].mean / (1 - none[group].mean)
        cells += [f"{any_:.1f}", f"{len(flagged[group])} of {columns['clean'][group].seeds}"]
        lines.append(f"| {network} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def correlations(found: Comparison, problem: Problem) -> list[str]:
    """Rank correlations with robust accuracy over the methods of each network, of their means over the seeds."""
    lines = []
    for network in problem.networks:
        methods = trained(found, problem, network)
        means = {
            name: np.array([spread[f"{network} {method}"].mean for method in methods])
            for name, place in COLUMNS.items()
            if (spread := spreads(found, *place))
        }
        told = [
            f"{name} {rank_correlation(means[name], means['robust']).plain(2)}"
            for name in ("verified dimension", "frames", "FGSM", "PGD-100", "distance, FGSM", "gradient")
            if name in means
        ]
        lines.append(f"- {network}, {len(methods)} methods, robust accuracy with: {'; '.join(told)}")
    return lines


def dimension_figure(found: Comparison, problem: Problem) -> Figure:
    """Robust accuracy against dimensions: a column per network, a point per method, bars of one sd."""
    counted = {
        "verified dimension": "orthogonal adversarial directions, gradient-aligned frames (mean)",
        "frames": "orthogonal adversarial directions, optimised frames (mean)",
    }
    counted = {name: words for name, words in counted.items() if spreads(found, *COLUMNS[name])}
    shape = len(counted), len(problem.networks)
    with styled():
        figure = NotebookFigure(figsize=(5.4 * shape[1], 3.9 * shape[0]), layout="constrained")
        panels = figure.subplots(*shape, squeeze=False)
        for (name, words), line in zip(counted.items(), panels, strict=True):
            for axes, network in zip(line, problem.networks, strict=True):
                places = {}
                for method in trained(found, problem, network):
                    x, y = (spreads(found, *COLUMNS[part])[f"{network} {method}"] for part in (name, "robust"))
                    bars = {"xerr": x.sd, "yerr": 100 * y.sd} if x.seeds > 1 else {}
                    axes.errorbar(x.mean, 100 * y.mean, **bars, fmt="o", ms=4, lw=1, color=CLASS_COLORS[1])
                    places[method] = (x.mean, 100 * y.mean)
                axes.set(title=network, xlabel=words)
                axes.set(ylabel=f"robust accuracy (%), L∞, ε = {problem.eps:.2g}", ylim=(-4, 104))
                axes.spines[["top", "right"]].set_visible(False)
                _label(axes, places)
    return figure


def _label(axes: Axes, places: dict[str, tuple[float, float]], gap: float = 6.5) -> None:
    """Names at the right edge, in the order of their points and so far apart that they can be read."""
    left, right = axes.get_xlim()
    ordered = sorted(places, key=lambda name: places[name][1])
    steps = gap * np.arange(len(ordered))
    # The heights nearest to those of the points that are a gap apart: without the gaps, an isotonic regression.
    close = isotonic_regression(np.array([places[name][1] for name in ordered]) - steps).x
    heights = np.clip(close, -2, 102 - steps[-1]) + steps
    for name, height in zip(ordered, heights, strict=True):
        axes.annotate(
            name, places[name], (right + 0.1 * (right - left), height), fontsize=8, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.6", "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip
    axes.set_xlim(left, right)


def spreads(found: Comparison, instrument: str, quantity: str) -> dict[str, Spread]:
    """Means and standard deviations of the quantity that begins so, by group; none if it was not measured."""
    if instrument not in found.instruments:
        return {}
    return {spread.group: spread for spread in found.spreads(instrument) if spread.quantity.startswith(quantity)}


def trained(found: Comparison, problem: Problem, network: str) -> list[str]:
    """The methods whose networks have learnt the task."""
    clean = spreads(found, *COLUMNS["clean"])
    return [method for method in problem.methods if clean[f"{network} {method}"].mean > TRAINED]


def _subject(problem: Problem, row: str, network: str, seed: int) -> Subject:
    file = checkpoint_file(problem.folder, row, network, seed)
    if not file.is_file():
        sys.exit(f"{file} is missing: run the training table first")
    module, checkpoint = load_checkpoint(file)
    return Subject(
        name=file.stem,
        group=f"{network} {row}",
        classifier=bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device="cpu"),
        seed=seed,
        family=network,
        standard=row == "standard",
        layers=hidden_layers(module),
    )


def _drawn(split: Split, count: int) -> Split:
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    return Split(split.x[rows], split.y[rows])


def _cell(spread: Spread) -> str:
    scale = 100 if spread.unit == "share" else 1
    digits = 3 if spread.mean < 1 and scale == 1 else 1
    around = "" if np.isnan(spread.sd) else f" ± {scale * spread.sd:.{digits}f}"
    return f"{scale * spread.mean:.{digits}f}{around}"


if __name__ == "__main__":
    main()
