"""`boundarygeo dims`: how many orthogonal directions fool each model, claimed and verified, and how many transfer."""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from boundarygeo import plots
from boundarygeo.cli.accuracy import Norm
from boundarygeo.cli.chunked import Problem, results_of, resumable_stores
from boundarygeo.cli.options import StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, table
from boundarygeo.cli.sources import Study, open_study
from boundarygeo.cli.words import ascending_sizes, at_least, frame_sizes
from boundarygeo.plots.captions import settings_of
from boundarygeo.plots.curves import NORM_NAMES
from boundarygeo.results.statistics import Estimate, mean, rank_correlation, share
from boundarygeo.subspace.dimension import AdversarialDimension, adversarial_dimension
from boundarygeo.subspace.noise import NoiseSuccess, cone_probability, noise_success
from boundarygeo.subspace.summary import QUANTILES, DimensionSummary, dimension_summary, included
from boundarygeo.transfer.dimension import TransferredDimension, dimension_and_transfer

KINDS: tuple[str, ...] = ("own", "transferred", "noise")
NOISE_DRAWS = 100
REASONS = ("eps", "failures", "no_gradient")


class Method(enum.StrEnum):
    """How directions are found."""

    GAAS = "gaas"
    FRAME = "frame"
    SEQUENTIAL = "sequential"


class Rule(enum.StrEnum):
    """What is counted."""

    ALL = "all"
    COUNT = "count"


class Box(enum.StrEnum):
    """What happens at the bounds of the inputs."""

    FEASIBLE = "feasible"
    CLIP = "clip"
    IGNORE = "ignore"


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured on one model at one ε.

    Attributes:
        own: its own directions.
        transferred: which of the first model's directions fool it; None for the first model.
        noise: how often random noise does.
    """

    own: AdversarialDimension
    transferred: TransferredDimension | None
    noise: NoiseSuccess


@study_command(examples=100)
def dims(
    options: StudyOptions,
    eps: Annotated[
        str, typer.Option(help="Norms of the perturbations, ascending, in input units, e.g. 1,2,4 or 8/255.")
    ],
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = Norm.L2,
    method: Annotated[
        Method,
        typer.Option(
            help="gaas: frames along the gradient; frame: optimised on the network from there (L2); sequential: the "
            "shortest direction, then the shortest orthogonal to it, and so on (L2, not with clip, count or restarts)."
        ),
    ] = Method.GAAS,
    rule: Annotated[
        Rule, typer.Option(help="all: the largest frame that succeeds whole; count: the most successes in a frame.")
    ] = Rule.ALL,
    box: Annotated[
        Box, typer.Option(help="feasible: inside the bounds and orthogonal; clip: clipped, not orthogonal; ignore.")
    ] = Box.FEASIBLE,
    max_dimension: Annotated[
        int | None, typer.Option(help="Largest count to look for; by default up to 200 (sequential: 50).")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Sizes of frames: full: all that could be better, exact; or those to try first, e.g. 1,5,25. "
            "By default those near the best, and the others where they cost little. Not for sequential."
        ),
    ] = None,
    restarts: Annotated[int, typer.Option(help="Rotated frames per example, of which the best counts.")] = 1,
) -> None:
    """Count orthogonal adversarial directions, on test examples that the first model gets right.

    The first model's directions are also sent through the others. --out keeps each model's own counts; those of the
    first model's directions that transfer, and the success of random noise, too, where {kind} is in it. For several ε,
    --out must hold {size}.

    The figure shows, for one ε, the distribution of the first model's counts and of those that transfer; for several,
    the share of examples with at least k directions, for all models; for the method sequential, how long the first,
    second, … direction is, up to the largest ε, for all models.
    """
    sizes = ascending_sizes(eps, "--eps")
    if not sizes[0]:
        raise ValueError(f"--eps must be greater than 0, got {eps!r}")
    if method is not Method.GAAS and norm is not Norm.L2:
        raise ValueError(f"--norm must be l2 for --method {method.value}, got {norm.value}")
    if method is Method.SEQUENTIAL:
        if rule is not Rule.ALL:
            raise ValueError(f"--rule must be all for --method sequential, got {rule.value}")
        if box is Box.CLIP:
            raise ValueError("--box must be feasible or ignore for --method sequential, got clip")
        if grid is not None:
            raise ValueError(f"--grid must not be given for --method sequential, got {grid!r}")
        if restarts != 1:
            raise ValueError(f"--restarts must be 1 for --method sequential, got {restarts}")
    if max_dimension is not None:
        at_least(max_dimension, 1, "--max-dimension")
    at_least(restarts, 1, "--restarts")
    tries = None if grid is None else frame_sizes(grid, max_dimension)
    words = [word.strip() for word in eps.split(",")]
    kinds = KINDS if "{kind}" in str(options.out) else KINDS[:1]
    named = resumable_stores(options, size=[word.replace("/", "_") for word in words], kind=kinds)
    stores = dict(zip(product(range(len(options.model)), range(len(sizes)), kinds), named, strict=False))
    check_figure(options)
    study = open_study(options, correct_only=True)
    drawn = study.examples
    for name, clf in zip(options.model, study.classifiers, strict=True):
        if not bool((clf.predict(drawn.x) == drawn.y).any()):
            raise ValueError(
                f"--model must get one of the first model's {len(drawn.x)} examples right, got none for {name!r}"
            )
    settings = {"method": method.value, "rule": rule.value, "max_dimension": max_dimension, "restarts": restarts}
    settings |= {} if tries is None else {"grid": tries}
    common = {"norm": norm.value, "box": box.value, "seed": options.seed}
    models = _measure(study, sizes, stores, options, settings | common)
    for name, measured in zip(options.model, models, strict=True):
        print(f"{name}:\n{dimension_table(measured, words, source=study.names[0], inputs=drawn.x[0].numel())}")
    if options.figure is not None:
        print(f"saved {plots.save_figure(_drawing(models, study.names), options.figure)}")


def _measure(
    study: Study,
    sizes: Sequence[float],
    stores: Mapping[tuple[int, int, str], Path],
    options: StudyOptions,
    settings: Mapping[str, Any],
) -> list[list[Measured]]:
    """Everything about each model, at each ε; what `stores` names by model, ε and kind is kept there."""
    first, *others = study.classifiers
    noise = {name: settings[name] for name in ("norm", "seed")}
    noise |= {"draws": NOISE_DRAWS, "clip": settings["box"] != Box.IGNORE}
    problems: list[Problem] = []
    keys: list[tuple[int, int, str]] = []

    def ask(analysis: Any, classifiers: Any, told: dict[str, Any], *gives: tuple[int, int, str]) -> None:
        problems.append(Problem(analysis, classifiers, told, tuple(stores.get(key) for key in gives)))
        keys.extend(gives)

    for size, eps in enumerate(sizes):
        told = {**settings, "eps": eps}
        sent = [(model, size, "transferred") for model in range(1, len(study.classifiers))]
        if others:
            ask(dimension_and_transfer, study.classifiers, told, (0, size, "own"), *sent)
        else:
            ask(adversarial_dimension, first, told, (0, size, "own"))
        for model, clf in enumerate(others, 1):
            ask(adversarial_dimension, clf, told, (model, size, "own"))
        for model, clf in enumerate(study.classifiers):
            ask(noise_success, clf, {**noise, "eps": eps}, (model, size, "noise"))
    found = dict(zip(keys, results_of(problems, study.examples, options), strict=True))
    return [
        [
            Measured(found[model, size, "own"], found.get((model, size, "transferred")), found[model, size, "noise"])
            for size in range(len(sizes))
        ]
        for model in range(len(study.classifiers))
    ]


def _drawing(models: Sequence[Sequence[Measured]], names: Sequence[str]) -> Axes | Figure:
    """The figure: of one ε, or of several; or of the lengths of sequential directions."""
    if models[0][0].own.method == Method.SEQUENTIAL:
        return plots.sequential_distances([measured[-1].own for measured in models], names=names)
    if len(models[0]) > 1:
        results = [one.own for measured in models for one in measured]
        return plots.dimension_at_least(results, names=[name for name in names for _ in models[0]])
    transferred = [one.transferred for (one,) in models if one.transferred is not None]
    return plots.dimension(models[0][0].own, transferred, names=names)


def dimension_table(measured: Sequence[Measured], words: Sequence[str], *, source: str, inputs: int) -> str:
    """What was measured on one model, a column per ε.

    Args:
        measured: one per ε.
        words: what to call each ε.
        source: name of the model whose transferred directions were counted.
        inputs: number of dimensions of the inputs.

    Returns:
        A table of text, with 95 % intervals.
    """
    columns = [_column(one, source, inputs) for one in measured]
    first = measured[0].own
    rows = [["", *(f"ε = {word} ({NORM_NAMES[first.norm]})" for word in words)]]
    rows += [[label, *(column[label] for column in columns)] for label in columns[0]]
    summary = dimension_summary(first)
    note = (
        f"n = {summary.mean.n} correctly classified examples (left out: {summary.excluded} misclassified); "
        f"{summary.without_gradient} without a gradient count as 0\n"
        f"{', '.join(settings_of(first)[1:])}; means are lower bounds where examples are at the cap; "
        f"95 % intervals; -: all values are equal"
    )
    return f"{table(rows)}\n{note}"


def _mean(values: Tensor, most: float = math.inf) -> Estimate:
    return mean(values.double().numpy(), within=(0, most))


def _quantiles(summary: DimensionSummary) -> str:
    chosen = dict(zip(QUANTILES, summary.quantiles, strict=True))
    return ", ".join(f"{chosen[quantile]:.0f}" for quantile in (0.1, 0.5, 0.9))


def _lengths(values: Tensor) -> str:
    """Quantiles of lengths, of which some may be infinite."""
    chosen = np.quantile(values.numpy(), (0.1, 0.5, 0.9), method="inverted_cdf")
    return ", ".join(f"{value:.3g}" if math.isfinite(value) else "-" for value in chosen)


def _reasons(own: AdversarialDimension) -> str:
    """For how many of the examples there was no further direction, by reason."""
    assert own.stopped is not None
    stopped = own.stopped[own.correct]
    shares = [float((stopped == own.stops.index(name)).double().mean()) for name in REASONS]
    return ", ".join(f"{100 * value:.0f}" for value in shares) + " %"


def _column(measured: Measured, source: str, inputs: int) -> dict[str, str]:
    """What was measured at one ε, in the order of the rows. First-order and verified counts never share one."""
    own, noise, correct = measured.own, measured.noise, measured.own.correct
    claimed, verified = dimension_summary(own, counts=own.claimed), dimension_summary(own)
    rows = {
        "claimed to first order: mean": claimed.mean.plain(2),
        "claimed to first order: 10, 50, 90 %": _quantiles(claimed),
        "verified: mean": verified.mean.plain(2),
        "verified: 10, 50, 90 %": _quantiles(verified),
        "verified: none": verified.at_zero.percent(),
        f"verified: at the cap of {own.max_dimension}": verified.at_cap.percent(),
    }
    assert verified.tried is not None
    rows["searches made: mean" if own.method == Method.SEQUENTIAL else "frames tried: mean"] = verified.tried.plain(1)
    if verified.closed is not None:
        rows["verified: proven the most of all sizes"] = verified.closed.percent()
    if own.first_order is not None:
        theory = dimension_summary(own, counts=own.first_order)
        rows["verified, gradient-aligned frames alone: mean"] = theory.mean.plain(2)
    if own.distance is not None:
        rows["length of the shortest: 10, 50, 90 %"] = _lengths(own.distance[correct, 0])
        rows["no more: only longer ones, none at all, no gradient"] = _reasons(own)
    rows["largest |cosine| between two of them"] = f"{float(own.orthogonality.max()):.1g}"
    if own.box == Box.CLIP:
        rows["their effective rank: mean"] = _mean(own.effective_rank[correct]).plain(2)
    if measured.transferred is not None:
        counts = measured.transferred.count[measured.transferred.correct]
        fooled = f"directions of {source} that fool it"
        rows[f"{fooled}: mean"] = _mean(counts).plain(2)
        rows[f"{fooled}: none"] = share(int((counts == 0).sum()), len(counts)).percent()
    rows["random noise of norm ε changes the label"] = _mean(noise.share[correct], 1).percent()
    if own.norm == Norm.L2:
        predicted = cone_probability(own.gradient_norm, own.eps, own.gamma, inputs)
        rows["predicted to first order, bounds ignored"] = _mean(predicted[correct], 1).percent()
    for name, counts in (("claimed", own.claimed), ("verified", own.verified)):
        rank = rank_correlation(included(own, counts), included(own, noise.share))
        rows[f"rank correlation of noise and {name}"] = rank.plain(2) if math.isfinite(rank.value) else "-"
    rows["forward passes"] = f"{own.provenance.forwards:,}"
    rows["backward passes"] = f"{own.provenance.backwards:,}"
    return rows
