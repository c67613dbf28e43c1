"""`boundarygeo dims`: how many orthogonal directions fool each model, claimed and verified, and how many transfer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import boundarygeo as bg
from boundarygeo.choices import NORM_NAMES, Box, DimensionMethod, Norm, Rule
from boundarygeo.cli.options import Grid, MaxDimension, RunOptions, frame_settings, study_command
from boundarygeo.cli.outputs import check_figure, draw, resumable_stores, table
from boundarygeo.cli.words import ascending_sizes, at_least

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from boundarygeo.cli.sources import Study

KINDS: tuple[str, ...] = ("own", "transferred", "noise")
NOISE_DRAWS = 100
REASONS = ("eps", "failures", "no_gradient")


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of one model at one ε.

    Attributes:
        own: the model's own directions.
        transferred: how many of the first model's directions fool it; None for the first model.
        noise: success of random noise.
    """

    own: "bg.AdversarialDimension"
    transferred: "bg.TransferredDimension | None"
    noise: "bg.NoiseSuccess"


@study_command(examples=100)
def dims(
    options: RunOptions,
    eps: Annotated[
        str, typer.Option(help="Norms of the perturbations, ascending, in input units, e.g. 1,2,4 or 8/255.")
    ],
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = "l2",
    method: Annotated[
        DimensionMethod,
        typer.Option(
            help="gaas: frames along the gradient; frame: optimised on the network from there (L2); sequential: the "
            "shortest direction, then the shortest orthogonal to it, and so on (L2, not with clip, count or restarts)."
        ),
    ] = "gaas",
    rule: Annotated[
        Rule, typer.Option(help="all: the largest frame that succeeds whole; count: the most successes in a frame.")
    ] = "all",
    box: Annotated[
        Box, typer.Option(help="feasible: inside the bounds and orthogonal; clip: clipped, not orthogonal; ignore.")
    ] = "feasible",
    max_dimension: MaxDimension = None,
    grid: Grid = None,
    restarts: Annotated[int, typer.Option(help="Rotated frames per example; the best one counts.")] = 1,
) -> None:
    """Count orthogonal adversarial directions, on test examples that the first model classifies correctly.

    The first model's directions are also evaluated on the other models. --out stores each model's own counts and, if it
    contains {kind}, also the transferred counts and the success of random noise. For several ε, --out must contain
    {size}.

    The figure shows, for one ε, the distribution of the first model's own and transferred counts; for several, the
    share of examples with at least k directions, for all models; for --method sequential, the lengths of the first,
    second, … direction up to the largest ε, for all models.
    """
    sizes = ascending_sizes(eps, "--eps")
    if not sizes[0]:
        raise ValueError(f"--eps must be greater than 0, not {eps!r}")
    settings = frame_settings(method, norm, box, max_dimension, grid)
    settings |= {"rule": rule, "restarts": at_least(restarts, 1, "--restarts"), "seed": options.seed}
    if method == "sequential":
        for option, fits in (("--rule all", rule == "all"), ("--restarts 1", restarts == 1)):
            if not fits:
                raise ValueError(f"--method sequential counts with {option} only")
        if box == "clip":
            raise ValueError("--method sequential works with --box feasible or ignore, not with clip")
    words = [word.strip() for word in eps.split(",")]
    kinds = KINDS if "{kind}" in str(options.out) else KINDS[:1]
    named = resumable_stores(options, size=[word.replace("/", "_") for word in words], kind=kinds)
    stores = dict(zip(product(range(len(options.model)), range(len(sizes)), kinds), named, strict=False))
    check_figure(options, options.figure)

    from boundarygeo.cli.sources import open_study

    study = open_study(options, correct_only=True)
    drawn = study.examples
    for name, clf in zip(options.model, study.classifiers, strict=True):
        if not bool((clf.predict(drawn.x) == drawn.y).any()):
            raise ValueError(
                f"{name} classifies none of the {len(drawn.y)} examples correctly that the first model does: "
                "there is nothing to count"
            )
    models = _measure(study, sizes, stores, options, settings)
    for name, measured in zip(options.model, models, strict=True):
        print(f"{name}:\n{dimension_table(measured, words, source=study.names[0], inputs=drawn.x[0].numel())}")
    draw(options.figure, lambda: _drawing(models, study.names))


def _measure(
    study: "Study",
    sizes: Sequence[float],
    stores: Mapping[tuple[int, int, str], Path],
    options: RunOptions,
    settings: Mapping[str, Any],
) -> list[list[Measured]]:
    """All measurements of each model at each ε, saved to `stores` by model, ε and kind."""
    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.transfer.dimension import dimension_and_transfer

    first, *others = study.classifiers
    noise = {name: settings[name] for name in ("norm", "seed")}
    noise |= {"draws": NOISE_DRAWS, "clip": settings["box"] != "ignore"}
    problems: list[Problem] = []
    keys: list[tuple[int, int, str]] = []

    def ask(analysis: Any, classifiers: Any, arguments: dict[str, Any], *gives: tuple[int, int, str]) -> None:
        problems.append(Problem(analysis, classifiers, arguments, tuple(stores.get(key) for key in gives)))
        keys.extend(gives)

    for size, eps in enumerate(sizes):
        arguments = {**settings, "eps": eps}
        sent = [(model, size, "transferred") for model in range(1, len(study.classifiers))]
        if others:
            ask(dimension_and_transfer, study.classifiers, arguments, (0, size, "own"), *sent)
        else:
            ask(bg.adversarial_dimension, first, arguments, (0, size, "own"))
        for model, clf in enumerate(others, 1):
            ask(bg.adversarial_dimension, clf, arguments, (model, size, "own"))
        for model, clf in enumerate(study.classifiers):
            ask(bg.noise_success, clf, {**noise, "eps": eps}, (model, size, "noise"))
    found = dict(zip(keys, results_of(problems, study.examples, options), strict=True))
    return [
        [
            Measured(found[model, size, "own"], found.get((model, size, "transferred")), found[model, size, "noise"])
            for size in range(len(sizes))
        ]
        for model in range(len(study.classifiers))
    ]


def _drawing(models: Sequence[Sequence[Measured]], names: Sequence[str]) -> "Axes | Figure":
    """The figure: of one ε, or of several; or of the lengths of sequential directions."""
    if models[0][0].own.method == "sequential":
        return bg.plots.sequential_distances([measured[-1].own for measured in models], names=names)
    if len(models[0]) > 1:
        results = [one.own for measured in models for one in measured]
        return bg.plots.dimension_at_least(results, names=[name for name in names for _ in models[0]])
    transferred = [one.transferred for (one,) in models if one.transferred is not None]
    return bg.plots.dimension(models[0][0].own, transferred, names=names)


def dimension_table(measured: Sequence[Measured], words: Sequence[str], *, source: str, inputs: int) -> str:
    """The measurements of one model, a column per ε."""
    from boundarygeo.plots.captions import settings_of

    columns = [_column(one, source, inputs) for one in measured]
    first = measured[0].own
    rows = [["", *(f"ε = {word} ({NORM_NAMES[first.norm]})" for word in words)]]
    rows += [[label, *(column[label] for column in columns)] for label in columns[0]]
    summary = bg.dimension_summary(first)
    note = (
        f"n = {summary.mean.n} correctly classified examples (left out: {summary.excluded} misclassified); "
        f"{summary.without_gradient} without a gradient count as 0\n"
        f"{', '.join(settings_of(first)[1:])}; means are lower bounds where examples are at the cap; "
        f"95 % intervals; -: all values are equal"
    )
    return f"{table(rows)}\n{note}"


def _column(measured: Measured, source: str, inputs: int) -> dict[str, str]:
    """Measurements at one ε, by row. First-order and verified counts never share a row."""
    from boundarygeo.subspace.summary import mean_effective_rank, noise_summary, shortest_lengths, stop_shares

    own, transferred = measured.own, measured.transferred
    claimed, verified = bg.dimension_summary(own, counts=own.claimed), bg.dimension_summary(own)
    rows = {
        "claimed to first order: mean": claimed.mean.plain(2),
        "claimed to first order: 10, 50, 90 %": _outer(claimed.quantiles, ".0f"),
        "verified: mean": verified.mean.plain(2),
        "verified: 10, 50, 90 %": _outer(verified.quantiles, ".0f"),
        "verified: none": verified.at_zero.percent(),
        f"verified: at the cap of {own.max_dimension}": verified.at_cap.percent(),
    }
    assert verified.tried is not None
    rows["searches made: mean" if own.method == "sequential" else "frames tried: mean"] = verified.tried.plain(1)
    if verified.closed is not None:
        rows["verified: proven the most of all sizes"] = verified.closed.percent()
    if own.first_order is not None:
        theory = bg.dimension_summary(own, counts=own.first_order)
        rows["verified, gradient-aligned frames alone: mean"] = theory.mean.plain(2)
    lengths = shortest_lengths(own)
    if lengths is not None:
        stops = stop_shares(own)
        rows["length of the shortest: 10, 50, 90 %"] = _outer(lengths, ".3g")
        reasons = ", ".join(f"{100 * stops[reason]:.0f}" for reason in REASONS)
        rows["no more: only longer ones, none at all, no gradient"] = f"{reasons} %"
    rows["largest |cosine| between two of them"] = f"{float(own.orthogonality.max()):.1g}"
    if own.box == "clip":
        rows["their effective rank: mean"] = mean_effective_rank(own).plain(2)
    if transferred is not None:
        fooled = bg.dimension_summary(transferred)
        rows[f"directions of {source} that fool it: mean"] = fooled.mean.plain(2)
        rows[f"directions of {source} that fool it: none"] = fooled.at_zero.percent()
    noise = noise_summary(own, measured.noise, input_size=inputs)
    rows["random noise of norm ε changes the label"] = noise.success.percent()
    if noise.predicted is not None:
        rows["predicted to first order, bounds ignored"] = noise.predicted.percent()
    for name, rank in (("claimed", noise.rank_claimed), ("verified", noise.rank_verified)):
        rows[f"rank correlation of noise and {name}"] = rank.plain(2) if math.isfinite(rank.value) else "-"
    rows["forward passes"] = f"{own.provenance.forwards:,}"
    rows["backward passes"] = f"{own.provenance.backwards:,}"
    return rows


def _outer(quantiles: Sequence[float], form: str) -> str:
    """The 10, 50 and 90 % of the library's five quantiles."""
    return ", ".join(f"{value:{form}}" if math.isfinite(value) else "-" for value in quantiles[::2])
