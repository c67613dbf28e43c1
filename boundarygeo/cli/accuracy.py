"""`boundarygeo accuracy`: accuracy against ε under attacks, for several models in one figure."""

from collections.abc import Sequence
from itertools import product, zip_longest
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import ATTACKS, NORM_NAMES, Norm
from boundarygeo.cli.options import RunOptions, several, study_command
from boundarygeo.cli.outputs import check_figure, draw, resumable_stores, table
from boundarygeo.cli.words import ascending_sizes, at_least, each_once

STEPS = {"pgd": 20, "apgd": 100, "strongest": 100}
"""Default steps of the attacks that have them."""


@study_command(examples=1000)
def accuracy(
    options: RunOptions,
    attack: Annotated[list[str], several(ATTACKS, "Attack.")] = ["fgsm"],  # noqa: B006 (only typer reads it)
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = "linf",
    eps: Annotated[
        str, typer.Option(help="Perturbation sizes in the norm, ascending, in input units.")
    ] = "0,1/255,2/255,3/255,4/255,5/255,6/255,7/255,8/255",
    steps: Annotated[
        int | None, typer.Option(help="Steps; by default 20 of PGD, 100 of APGD and the strongest.")
    ] = None,
) -> None:
    """Accuracy against ε under attacks, misclassified examples included; one figure for all models.

    For several attacks, --out must hold {attack}.
    """
    attacks = each_once(attack, ATTACKS, "--attack")
    sizes = ascending_sizes(eps, "--eps")
    if at_least(steps, 1, "--steps") is not None and not set(attacks) & set(STEPS):
        raise ValueError("--steps applies to --attack pgd, apgd and strongest only")
    stores = resumable_stores(options, attack=attacks)
    check_figure(options, options.figure)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.sources import open_study

    study = open_study(options, correct_only=False)
    common = {"norm": norm, "eps": sizes, "seed": options.seed}
    settings = {name: {"steps": steps or usual} for name, usual in STEPS.items()}
    problems = [
        Problem(bg.accuracy_curve, clf, {"attack": chosen, **common, **settings.get(chosen, {})}, (store,))
        for (clf, chosen), store in zip_longest(product(study.classifiers, attacks), stores)
    ]
    curves: list[bg.AccuracyCurve] = results_of(problems, study.examples, options)
    for number, name in enumerate(options.titles):
        here = curves[number * len(attacks) : (number + 1) * len(attacks)]
        print(f"{name}:\n{accuracy_table(here, eps.split(','))}")
    names = [called for called in study.names for _ in attacks]
    draw(options.figure, lambda: bg.plots.accuracy_curves(curves, names=names))


def accuracy_table(curves: "Sequence[bg.AccuracyCurve]", words: Sequence[str]) -> str:
    """Accuracy under each attack per ε, and the cost of each attack."""
    first = curves[0]
    rows = [[f"ε ({NORM_NAMES[first.norm]})", *(curve.attack.upper() for curve in curves)]]
    for word, *estimates in zip(words, *(curve.estimates for curve in curves), strict=True):
        rows.append([word.strip(), *(estimate.percent() for estimate in estimates)])
    costs = "; ".join(
        f"{curve.attack.upper()} {curve.provenance.forwards:,} forwards, {curve.provenance.backwards:,} backwards"
        for curve in curves
    )
    return f"{table(rows)}\nn = {first.n} examples; 95 % Wilson intervals; {costs}"
