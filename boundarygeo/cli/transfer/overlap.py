"""`boundarygeo transfer overlap`: principal angles between the adversarial subspaces of models."""

import math
from collections.abc import Sequence
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.options import study_command
from boundarygeo.cli.outputs import check_figure, cost, draw, resumable_stores, table
from boundarygeo.cli.transfer.options import Eps, TransferOptions
from boundarygeo.cli.words import at_least, positive_number

RESTARTS = 32


@study_command(examples=200)
def overlap(
    options: TransferOptions,
    eps: Eps,
    dimension: Annotated[int, typer.Option(help="Dimension of the subspaces.")] = 10,
    restarts: Annotated[
        int | None,
        typer.Option(help=f"Perturbations that span each subspace; by default {RESTARTS}, or as many as dimensions."),
    ] = None,
) -> None:
    """Overlap of the adversarial subspaces (L2) of each pair of models, with two nulls."""
    at_least(dimension, 1, "--dimension")
    spanning = max(RESTARTS, dimension) if restarts is None else restarts
    if spanning < dimension:
        raise ValueError(f"--restarts {restarts} cannot span --dimension {dimension}: it must be at least {dimension}")
    settings = {"eps": positive_number(eps, "--eps"), "dimension": dimension, "restarts": spanning}
    stores = resumable_stores(options, each_model=False)
    check_figure(options, options.figure)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.transfer.models import open_models
    from boundarygeo.transfer.overlap import seed_of_model

    classifiers, study = open_models(options)
    problems = [
        Problem(bg.perturbation_bases, clf, {"seed": seed_of_model(options.seed, number), **settings})
        for number, clf in enumerate(classifiers.values())
    ]
    bases = dict(zip(classifiers, results_of(problems, study.examples, options), strict=True))
    result = bg.basis_overlap(bases, seed=options.seed)
    print(overlap_text(result))
    for store in stores:
        print(f"saved {result.save(store, overwrite=options.overwrite)}")
    draw(options.figure, lambda: bg.plots.overlap(result))


def overlap_text(result: "bg.SubspaceOverlap") -> str:
    """The overlap of each pair."""
    degrees = f"{math.degrees(result.tolerance):.0f}°"
    heading = ["models", "n", "shared energy", "random: k₁k₂/d", "p", "another example's", "p", f"angles ≤ {degrees}"]
    rows: list[Sequence[str]] = [heading]
    for i, j in result.pairs.tolist():
        pair = result.compare(i, j)
        rows.append(
            (
                f"{result.names[i]} - {result.names[j]}",
                f"{pair.energy.n:,}",
                pair.energy.plain(2),
                f"{pair.random:.2f}",
                f"{pair.random_p:.2g}",
                f"{pair.permuted:.2f}",
                f"{pair.permuted_p:.2g}",
                pair.intersection.plain(2),
            )
        )
    notes = (
        f"of {result.dimensions[0]} dimensions, from {result.kind}; n: examples at which both models have a whole "
        "subspace; means over them with 95 % intervals; p-values are one-sided, for all examples together"
    )
    return f"{table(rows)}\n{notes}\n{cost(result.provenance)}"
