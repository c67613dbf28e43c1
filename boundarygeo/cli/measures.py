"""What `boundarygeo transfer` measures: each in a function that gives a table, results to keep, and figures to draw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.chunked import Problem, results_of
from boundarygeo.cli.options import StudyOptions
from boundarygeo.cli.outputs import table
from boundarygeo.cli.sources import Examples
from boundarygeo.plots.captions import BOX_NAMES, METHOD_NAMES
from boundarygeo.plots.curves import NORM_NAMES
from boundarygeo.plots.transfer import OVER_NAMES
from boundarygeo.results import Provenance, Result
from boundarygeo.results.statistics import mean, share
from boundarygeo.subspace.dimension import AdversarialDimension
from boundarygeo.subspace.summary import Counted, DimensionSummary, dimension_summary
from boundarygeo.transfer.bases import perturbation_bases
from boundarygeo.transfer.boundaries import inter_boundary_distance, labelled_pool
from boundarygeo.transfer.dimension import TransferredDimension, dimension_and_transfer
from boundarygeo.transfer.matrix import TransferMatrix, transfer_matrix
from boundarygeo.transfer.mistakes import OUTCOMES, TransferMistakes, transfer_mistakes
from boundarygeo.transfer.overlap import basis_overlap, seed_of_model
from boundarygeo.transfer.reproducibility import reproducibility
from boundarygeo.transfer.shared import shared_dimension


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models that fit together, and the examples that they are compared on.

    Attributes:
        classifiers: by name.
        examples: the examples.
        pool: all inputs of the test split, and their true classes.
        options: of the command; its seed decides everything random.
        stores: where results are kept, in the order of the measure; none if they are not.
    """

    classifiers: dict[str, Classifier]
    examples: Examples
    pool: tuple[Tensor, Tensor]
    options: StudyOptions
    stores: Sequence[Path] = ()

    @property
    def seed(self) -> int:
        """Decides everything random."""
        return self.options.seed

    def store(self, number: int = 0) -> Path | None:
        """Where a result is kept, or None."""
        return self.stores[number] if self.stores else None

    def results(self, *problems: Problem) -> list[Any]:
        """The results of analyses, kept chunk by chunk where that is wanted."""
        return results_of(problems, self.examples, self.options)


@dataclass(frozen=True, eq=False)
class Report:
    """What a measure gives.

    Attributes:
        text: tables, with n and 95 % intervals.
        results: what `--out` keeps.
        drawings: what draws the figures; of measures with a source, one for each model.
    """

    text: str
    results: list[Result]
    drawings: list[Callable[[], Axes]]


def matrix(these: Comparison, **settings: Any) -> Report:
    """How often each model's adversarial examples fool the others, and whether with the same mistake.

    Args:
        these: what is compared.
        **settings: of `transfer_matrix`.

    Returns:
        The matrix; the second figure is that of the mistakes.
    """
    told = {"seed": these.seed, **settings}
    (result,) = these.results(Problem(transfer_matrix, these.classifiers, told, (these.store(),)))
    made = transfer_mistakes(result)
    return Report(
        f"{_matrix_text(result)}\n\n{_mistakes_text(made)}\n{_cost(result.provenance)}",
        [result],
        [lambda: plots.transfer_matrix(result), lambda: plots.mistakes(made)],
    )


def dimension(these: Comparison, **settings: Any) -> Report:
    """How many of each model's orthogonal adversarial directions fool each of the others.

    Args:
        these: what is compared.
        **settings: of `adversarial_dimension`.

    Returns:
        Results of all pairs of source and target, the source's own where both are the same; a figure for each source.
    """
    names = list(these.classifiers)
    pairs: list[tuple[str, str]] = []
    problems = []
    for number, source in enumerate(names):
        reached = [source, *(name for name in names if name != source)]
        stores = tuple(these.store(number * len(names) + names.index(name)) for name in reached)
        several = [these.classifiers[name] for name in reached]
        problems.append(Problem(dimension_and_transfer, several, {"seed": these.seed, **settings}, stores))
        pairs += [(source, name) for name in reached]
    found = dict(zip(pairs, these.results(*problems), strict=True))
    own: dict[str, AdversarialDimension] = {name: found[name, name] for name in names}
    sent: dict[tuple[str, str], TransferredDimension] = {pair: found[pair] for pair in permutations(names, 2)}

    def drawing(source: str) -> Callable[[], Axes]:
        others = [target for target in own if target != source]
        return lambda: plots.dimension(
            own[source], [sent[source, target] for target in others], names=[source, *others]
        )

    heads = ("claimed to first order", "verified", "none", "at the cap", "frames tried", "proven the most of all sizes")
    rows: list[tuple[str, ...]] = [("model", "n", *heads)]
    for name, result in own.items():
        summary, claimed = dimension_summary(result), dimension_summary(result, counts=result.claimed)
        shares = (summary.at_zero.percent(), summary.at_cap.percent(), *_search_of(summary))
        rows.append((name, f"{summary.mean.n:,}", claimed.mean.plain(2), summary.mean.plain(2), *shares))
    sent_rows = [("source → target", "n", "fool the source", "fool the target", "none", "with the source's label")]
    for (source, target), result in sent.items():
        fooled = dimension_summary(result)
        means = (dimension_summary(result, counts=counts).mean for counts in (result.source, result.count, result.same))
        first, second, same = (estimate.plain(2) for estimate in means)
        sent_rows.append((f"{source} → {target}", f"{fooled.mean.n:,}", first, second, fooled.at_zero.percent(), same))
    first = next(iter(own.values()))
    notes = (
        f"{_setting(first.eps, first.norm)}, {METHOD_NAMES[first.method]}, {BOX_NAMES[first.box]}; means over the n "
        "examples that the model, or both, get right; 95 % intervals"
    )
    kept: list[Result] = [found[source, target] for source in names for target in names]
    cost = _cost(*(result.provenance for result in kept))
    return Report(f"{table(rows)}\n\n{table(sent_rows)}\n{notes}\n{cost}", kept, [drawing(name) for name in own])


def shared(these: Comparison, **settings: Any) -> Report:
    """How many orthogonal directions fool all models at once, and how many would by chance.

    Args:
        these: what is compared.
        **settings: of `shared_dimension`.

    Returns:
        The shared dimension.
    """
    told = {"seed": these.seed, **settings}
    (result,) = these.results(Problem(shared_dimension, these.classifiers, told, (these.store(),)))
    columns = (
        ("claimed to first order", result.claimed, result.null_claimed),
        ("verified on all networks", result.verified, result.null_verified),
    )
    rows = [("directions that fool all models", "as they are", "others rotated at random")]
    for label, counts, null in columns:
        for what, words in (("mean", _mean_of), ("none", _none_of), (f"at the cap of {result.max_dimension}", _cap_of)):
            chance = "-" if null is None else words(result, null)
            rows.append((f"{label}: {what}", words(result, counts), chance))
    tried, closed = _search_of(dimension_summary(result))
    rows.append(("frames tried: mean", tried, "-"))
    rows.append(("verified on all networks: proven the most of all sizes", closed, "-"))
    cosine = mean(result.cosine[result.correct].numpy(), within=(-1, 1)).plain(2)
    notes = (
        f"n = {int(result.correct.sum()):,} examples that all models get right; {_setting(result.eps, 'l2')}, "
        f"{METHOD_NAMES[result.method]}, {BOX_NAMES[result.box]}; 95 % intervals\n"
        f"smallest cosine between two models' margin gradients: {cosine}"
    )
    if result.null_verified is None:
        notes += "\nchance is verified with --box ignore only: rotated perturbations leave the bounds"
    drawing = [lambda: plots.shared_dimension(result)]
    return Report(f"{table(rows)}\n{notes}\n{_cost(result.provenance)}", [result], drawing)


def overlap(these: Comparison, **settings: Any) -> Report:
    """How far the adversarial subspaces of two models overlap, beside two nulls.

    Args:
        these: what is compared.
        **settings: of `perturbation_bases`.

    Returns:
        The overlap.
    """
    problems = [
        Problem(perturbation_bases, clf, {"seed": seed_of_model(these.seed, number), **settings})
        for number, clf in enumerate(these.classifiers.values())
    ]
    bases = dict(zip(these.classifiers, these.results(*problems), strict=True))
    result = basis_overlap(bases, seed=these.seed)
    degrees = f"{math.degrees(result.tolerance):.0f}°"
    heading = ["models", "n", "shared energy", "random: k₁k₂/d", "p", "another example's", "p", f"angles ≤ {degrees}"]
    rows: list[Sequence[str]] = [heading]
    for pair, (i, j) in enumerate(result.pairs.tolist()):
        within = (0, min(result.dimensions[i], result.dimensions[j]))
        valid = result.valid[pair]
        rows.append(
            (
                f"{result.names[i]} - {result.names[j]}",
                f"{int(valid.sum()):,}",
                mean(result.energy[pair, valid].numpy(), within=within).plain(2),
                f"{float(result.expected[pair]):.2f}",
                f"{float(result.random_p_all[pair]):.2g}",
                f"{float(result.permuted_mean[pair].mean()):.2f}",
                f"{float(result.permuted_p_all[pair]):.2g}",
                mean(result.intersection[pair, valid].double().numpy(), within=within).plain(2),
            )
        )
    notes = (
        f"of {result.dimensions[0]} dimensions, from {result.kind}; n: examples at which both models have a whole "
        "subspace; means over them with 95 % intervals; p-values are one-sided, for all examples together"
    )
    drawing = [lambda: plots.overlap(result)]
    return Report(f"{table(rows)}\n{notes}\n{_cost(result.provenance)}", [result], drawing)


def distances(these: Comparison, **settings: Any) -> Report:
    """How far it is to each model's boundary, and from there to those of the others.

    Args:
        these: what is compared.
        **settings: of `inter_boundary_distance`.

    Returns:
        The distances; a figure for each source.
    """
    told = {"seed": these.seed, "pool": labelled_pool(these.classifiers, *these.pool), **settings}
    (result,) = these.results(Problem(inter_boundary_distance, these.classifiers, told, (these.store(),)))
    rows = [("source → target", "direction", "n", "both known", "MD", "ID", "ID < MD", "of all n")]
    for source, target in permutations(result.names, 2):
        for direction in result.directions:
            seen = result.compare(direction, source, target)
            rows.append(
                (
                    f"{source} → {target}",
                    direction,
                    f"{seen.n:,}",
                    f"{seen.distance.n:,}",
                    seen.distance.plain(2),
                    seen.inter.plain(2),
                    seen.nearer.percent(),
                    seen.conservative.percent(),
                )
            )
    notes = (
        f"MD: to the source's boundary, ID: from there to the target's, in L2 input units, looked up to "
        f"{result.max_distance:.4g}\nmeans over the examples on which both change their label within reach; "
        f"n: examples that all models get right and that have the direction; 95 % intervals"
    )

    def drawing(source: str) -> Callable[[], Axes]:
        return lambda: plots.boundary_distances(result, source=source)

    drawings = [drawing(name) for name in result.names]
    return Report(f"{table(rows)}\n{notes}\n{_cost(result.provenance)}", [result], drawings)


def agreement(these: Comparison, *, planes: int, resolution: int) -> Report:
    """How far models label random planes alike, and how fragmented their regions are.

    Args:
        these: what is compared.
        planes: number of planes.
        resolution: pixels per side.

    Returns:
        The agreement.
    """
    drawn = these.examples
    result = reproducibility(these.classifiers, drawn.x, drawn.y, planes=planes, resolution=resolution, seed=these.seed)
    rows = [("models", "equal labels", "intersection over union, mean of classes")]
    for pair, (i, j) in enumerate(result.pairs.tolist()):
        alike = result.estimate(i, j).percent()
        rows.append(
            (f"{result.names[i]} - {result.names[j]}", alike, f"{100 * float(result.iou[pair].nanmean()):.1f} %")
        )
    pieces = [
        ("model", "regions per plane, in the images' window"),
        *((name, result.fragmentation(name).plain(2)) for name in result.names),
    ]
    missing = int((~result.valid).sum())
    notes = (
        f"n = {int(result.valid.sum()):,} planes through three random examples, {resolution}² points each"
        f"{f' (left out: {missing} on a line)' if missing else ''}; 95 % intervals over the planes"
    )
    drawing = [lambda: plots.reproducibility(result)]
    return Report(f"{table(rows)}\n\n{table(pieces)}\n{notes}\n{_cost(result.provenance)}", [result], drawing)


def _matrix_text(result: TransferMatrix) -> str:
    """Success with both denominators: sources as rows, targets as columns."""
    parts = []
    for over in ("shared", "fooled"):
        rows = [("made for, sent to", "n", *result.names)]
        for i, (name, n) in enumerate(zip(result.names, result.counts(over)[1].tolist(), strict=True)):
            cells = (result.estimate(i, j, over).percent() if n else "-" for j in range(len(result.names)))
            rows.append((name, f"{n:,}", *cells))
        parts.append(f"success, in % {OVER_NAMES[over]}:\n{table(rows)}")
    size = "" if result.eps is None else f", {_setting(result.eps, result.norm)}"
    attack = result.attack.replace("_", " ") if result.attack == "minimal_norm" else result.attack.upper()
    return "\n\n".join(parts) + f"\n{attack}{size}; 95 % Wilson intervals"


def _mistakes_text(made: TransferMistakes) -> str:
    """What targets make of the examples that fool their source, with what chance gives."""
    rows: list[Sequence[str]] = [("source → target", "n", *OUTCOMES, "same, of mistakes", "by chance")]
    for source, target in permutations(made.names, 2):
        shares = made.shares(source, target)
        same, chance = made.same_share(source, target), made.chance_share(source, target)
        outcomes = [each.percent() if each.n else "-" for each in (*shares.values(), same, chance)]
        rows.append((f"{source} → {target}", f"{shares['same'].n:,}", *outcomes))
    note = "by chance: if the wrong label depended on the true class alone, with where 95 % of such shares lie"
    return f"what targets make of the examples that fool their source:\n{table(rows)}\n{note}"


def _mean_of(result: Counted, counts: Tensor) -> str:
    return dimension_summary(result, counts=counts).mean.plain(2)


def _none_of(result: Counted, counts: Tensor) -> str:
    return dimension_summary(result, counts=counts).at_zero.percent()


def _cap_of(result: Counted, counts: Tensor) -> str:
    return dimension_summary(result, counts=counts).at_cap.percent()


def _search_of(summary: DimensionSummary) -> tuple[str, str]:
    """How many frames were tried, and for how many examples no size can be better."""
    assert summary.tried is not None
    return summary.tried.plain(1), "-" if summary.closed is None else summary.closed.percent()


def _setting(eps: float, norm: str) -> str:
    return f"ε = {eps:.4g} in {NORM_NAMES[norm]}"


def _cost(*parts: Provenance) -> str:
    forwards, backwards = sum(part.forwards for part in parts), sum(part.backwards for part in parts)
    return f"{forwards:,} forwards, {backwards:,} backwards, {sum(part.seconds for part in parts):.1f} s"


def accuracy_lines(names: Sequence[str], correct: Tensor) -> str:
    """How many of the examples each model gets right, and how many all do.

    Args:
        names: of the models.
        correct: whether each gets each example right, bool `[classifier, example]`.

    Returns:
        A line for each model, and one for all.
    """
    every = torch.cat([correct, correct.all(0)[None]])
    rows = [("right on", f"of {correct.shape[1]:,} examples")]
    for name, right in zip([*names, "all"], every, strict=True):
        rows.append((name, share(int(right.sum()), len(right)).percent()))
    return table(rows)
