"""`boundarygeo dims`: how many orthogonal directions fool each model, claimed and verified, and how many transfer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import boundarygeo as bg
from boundarygeo.choices import BOX_NAMES, NORM_NAMES, Box, Norm, Rule
from boundarygeo.cli.options import Grid, MaxDimension, RunOptions, frame_settings, study_command
from boundarygeo.cli.outputs import check_figure, draw, resumable_stores, table
from boundarygeo.cli.words import ascending_sizes, at_least

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from boundarygeo.cli.sources import Study

Method = Literal["gaas", "frame", "sequential"]
KINDS: tuple[str, ...] = ("own", "transferred", "noise")
NOISE_DRAWS = 100
NOTE = "means are lower bounds where examples are at the cap; 95 % intervals"
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
        Method,
        typer.Option(
            help="gaas: frames along the gradient; frame: optimised on the network from there (L2); sequential: the "
            "shortest direction, then the shortest orthogonal to it, and so on (L2, without transfer and noise)."
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
    share of examples with at least k directions, for all models.

    --method sequential stores each model's own directions, all no longer than ε, and draws the lengths of the first,
    second, … direction up to the largest ε, for all models.
    """
    sizes = ascending_sizes(eps, "--eps")
    if not sizes[0]:
        raise ValueError(f"--eps must be greater than 0, not {eps!r}")
    at_least(restarts, 1, "--restarts")
    sequential = method == "sequential"
    if sequential:
        settings = _sequential_settings(norm, rule, box, max_dimension, grid, restarts)
    else:
        settings = {**frame_settings(method, norm, box, max_dimension, grid), "rule": rule, "restarts": restarts}
    settings["seed"] = options.seed
    words = [word.strip() for word in eps.split(",")]
    kinds = KINDS if "{kind}" in str(options.out) and not sequential else KINDS[:1]
    named = resumable_stores(options, size=[word.replace("/", "_") for word in words], kind=kinds)
    stores = dict(zip(product(range(len(options.model)), range(len(sizes)), kinds), named, strict=False))
    check_figure(options, options.figure)

    from boundarygeo.cli.sources import open_study

    study = open_study(options, correct_only=True)
    drawn = study.examples
    for name, clf in zip(options.titles, study.classifiers, strict=True):
        if not bool((clf.predict(drawn.x) == drawn.y).any()):
            raise ValueError(
                f"{name} classifies none of the {len(drawn.y)} examples correctly that the first model does: "
                "there is nothing to count"
            )
    if sequential:
        found = _search(study, sizes, named, options, settings)
        tables = [sequential_table(directions, words) for directions in found]
        draw_figure = partial(bg.plots.sequential_distances, [each[-1] for each in found], names=study.names)
    else:
        models = _measure(study, sizes, stores, options, settings)
        inputs = drawn.x[0].numel()
        tables = [dimension_table(measured, words, source=study.names[0], inputs=inputs) for measured in models]
        draw_figure = partial(_drawing, models, study.names)
    for name, text in zip(options.titles, tables, strict=True):
        print(f"{name}:\n{text}")
    draw(options.figure, draw_figure)


def _sequential_settings(
    norm: Norm, rule: Rule, box: Box, max_dimension: int | None, grid: str | None, restarts: int
) -> dict[str, Any]:
    """Settings of `sequential_directions`; raises where options apply to frames only."""
    for unfit, complaint in (
        (norm != "l2", "--method sequential works in --norm l2 only"),
        (grid is not None, "--grid applies to frames: --method sequential has none"),
        (rule != "all", "--method sequential counts with --rule all only"),
        (restarts != 1, "--method sequential counts with --restarts 1 only"),
        (box == "clip", "--method sequential works with --box feasible or ignore, not with clip"),
    ):
        if unfit:
            raise ValueError(complaint)
    most = at_least(max_dimension, 1, "--max-dimension")
    return {"box": box} if most is None else {"box": box, "max_directions": most}


def _search(
    study: "Study", sizes: Sequence[float], stores: Sequence[Path], options: RunOptions, settings: Mapping[str, Any]
) -> list[list["bg.SequentialDirections"]]:
    """Sequential directions of each model up to each ε, saved to as many stores, or none."""
    from boundarygeo.cli.chunked import Problem, results_of

    problems = [
        Problem(bg.sequential_directions, clf, {**settings, "eps": eps}, (store,))
        for (clf, eps), store in zip_longest(product(study.classifiers, sizes), stores)
    ]
    found = results_of(problems, study.examples, options)
    return [found[start : start + len(sizes)] for start in range(0, len(found), len(sizes))]


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
    """The figure: of one ε, or of several."""
    if len(models[0]) > 1:
        results = [one.own for measured in models for one in measured]
        return bg.plots.dimension_at_least(results, names=[name for name in names for _ in models[0]])
    transferred = [one.transferred for (one,) in models if one.transferred is not None]
    return bg.plots.dimension(models[0][0].own, transferred, names=names)


def dimension_table(measured: Sequence[Measured], words: Sequence[str], *, source: str, inputs: int) -> str:
    """The measurements of one model, a column per ε."""
    from boundarygeo.plots.captions import settings_of

    first = measured[0].own
    columns = [_column(one, source, inputs) for one in measured]
    summary = bg.dimension_summary(first)
    return (
        f"{_table(columns, words, first.norm, summary)}; {summary.without_gradient} without a gradient count as 0\n"
        f"{', '.join(settings_of(first)[1:])}; {NOTE}; -: all values are equal"
    )


def sequential_table(found: Sequence["bg.SequentialDirections"], words: Sequence[str]) -> str:
    """The sequential directions of one model, a column per ε."""
    columns = [_sequential_column(one) for one in found]
    return (
        f"{_table(columns, words, 'l2', bg.dimension_summary(found[0]))}\n"
        f"shortest directions, one after another, {BOX_NAMES[found[0].box]}; {NOTE}; -: no direction"
    )


def _table(
    columns: Sequence[Mapping[str, str]], words: Sequence[str], norm: Norm, summary: "bg.DimensionSummary"
) -> str:
    """A table with a column per ε, and below it the number of examples."""
    rows = [["", *(f"ε = {word} ({NORM_NAMES[norm]})" for word in words)]]
    rows += [[label, *(column[label] for column in columns)] for label in columns[0]]
    count = f"n = {summary.mean.n} correctly classified examples (left out: {summary.excluded} misclassified)"
    return f"{table(rows)}\n{count}"


def _column(measured: Measured, source: str, inputs: int) -> dict[str, str]:
    """Measurements at one ε, by row. First-order and verified counts never share a row."""
    from boundarygeo.subspace.summary import mean_effective_rank, noise_summary

    own, transferred = measured.own, measured.transferred
    claimed, verified = bg.dimension_summary(own, counts=own.claimed), bg.dimension_summary(own)
    assert verified.tried is not None
    rows = {
        "claimed to first order: mean": claimed.mean.plain(2),
        "claimed to first order: 10, 50, 90 %": _outer(claimed.quantiles, ".0f"),
        **_counts(verified, own.max_dimension),
        "frames tried: mean": verified.tried.plain(1),
    }
    if verified.closed is not None:
        rows["verified: proven maximal"] = verified.closed.percent()
    if own.first_order is not None:
        theory = bg.dimension_summary(own, counts=own.first_order)
        rows["verified, gradient-aligned frames alone: mean"] = theory.mean.plain(2)
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
    return rows | _passes(own)


def _sequential_column(found: "bg.SequentialDirections") -> dict[str, str]:
    """Sequential directions up to one ε, by row."""
    from boundarygeo.subspace.summary import mean_attempts, shortest_lengths, stop_shares

    stops = stop_shares(found)
    reasons = ", ".join(f"{100 * stops[reason]:.0f}" for reason in REASONS)
    return {
        **_counts(bg.dimension_summary(found), found.max_dimension),
        "searches made: mean": mean_attempts(found).plain(1),
        "length of the shortest: 10, 50, 90 %": _outer(shortest_lengths(found), ".3g"),
        "no more: only longer ones, none at all, no gradient": f"{reasons} %",
        "largest |cosine| between two of them": f"{float(found.orthogonality.max()):.1g}",
        **_passes(found),
    }


def _counts(verified: "bg.DimensionSummary", cap: int) -> dict[str, str]:
    return {
        "verified: mean": verified.mean.plain(2),
        "verified: 10, 50, 90 %": _outer(verified.quantiles, ".0f"),
        "verified: none": verified.at_zero.percent(),
        f"verified: at the cap of {cap}": verified.at_cap.percent(),
    }


def _passes(found: "bg.Result") -> dict[str, str]:
    cost = found.provenance
    return {"forward passes": f"{cost.forwards:,}", "backward passes": f"{cost.backwards:,}"}


def _outer(quantiles: Sequence[float], form: str) -> str:
    """The 10, 50 and 90 % of the library's five quantiles."""
    return ", ".join(f"{value:{form}}" if math.isfinite(value) else "-" for value in quantiles[::2])
