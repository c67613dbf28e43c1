"""`boundarygeo accuracy`: accuracy against ε under attacks, for several models in one figure."""

import enum
from collections.abc import Sequence
from itertools import product, zip_longest
from typing import Annotated, Any

import typer

from boundarygeo import plots
from boundarygeo.attacks.accuracy import AccuracyCurve, accuracy_curve
from boundarygeo.cli.chunked import Problem, results_of, resumable_stores
from boundarygeo.cli.options import StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, table
from boundarygeo.cli.sources import open_study
from boundarygeo.cli.words import ascending_sizes, at_least, each_once
from boundarygeo.plots.curves import NORM_NAMES
from boundarygeo.results.statistics import Estimate

STEPS = {"pgd": 20, "apgd": 100, "strongest": 100}
"""Steps of the attacks that have them."""


class Attack(enum.StrEnum):
    """Attacks by name."""

    FGSM = "fgsm"
    PGD = "pgd"
    APGD = "apgd"
    SQUARE = "square"
    STRONGEST = "strongest"


class Norm(enum.StrEnum):
    """Norms by name."""

    LINF = "linf"
    L2 = "l2"


@study_command(examples=1000)
def accuracy(
    options: StudyOptions,
    attack: Annotated[list[Attack], typer.Option(help="Repeat it for several.")] = [Attack.FGSM],  # noqa: B006 (only typer reads it)
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = Norm.LINF,
    eps: Annotated[
        str, typer.Option(help="Sizes of the perturbation in the norm, ascending, in input units.")
    ] = "0,1/255,2/255,3/255,4/255,5/255,6/255,7/255,8/255",
    steps: Annotated[
        int | None, typer.Option(help="Steps; by default 20 of PGD, 100 of APGD and the strongest.")
    ] = None,
) -> None:
    """Accuracy against ε under attacks, misclassified examples included; one figure for all models.

    For several attacks, --out must hold {attack}.
    """
    attacks = [chosen.value for chosen in each_once(attack, "--attack")]
    sizes = ascending_sizes(eps, "--eps")
    if steps is not None and not set(attacks) & set(STEPS):
        raise ValueError(f"--steps must be given with --attack pgd, apgd or strongest, got {', '.join(attacks)}")
    given = None if steps is None else at_least(steps, 1, "--steps")
    settings: dict[str, dict[str, Any]] = {name: {"steps": given or default} for name, default in STEPS.items()}
    stores = resumable_stores(options, attack=attacks)
    check_figure(options)
    study = open_study(options, correct_only=False)
    common = {"norm": norm.value, "eps": sizes, "seed": options.seed}
    problems = [
        Problem(accuracy_curve, clf, {"attack": chosen, **common, **settings.get(chosen, {})}, (store,))
        for (clf, chosen), store in zip_longest(product(study.classifiers, attacks), stores)
    ]
    curves: list[AccuracyCurve] = results_of(problems, study.examples, options)
    for number, name in enumerate(options.model):
        here = curves[number * len(attacks) : (number + 1) * len(attacks)]
        print(f"{name}:\n{accuracy_table(here, eps.split(','))}")
    names = [called for called in study.names for _ in attacks]
    if options.figure is not None:
        print(f"saved {plots.save_figure(plots.accuracy_curves(curves, names=names), options.figure)}")


def accuracy_table(curves: Sequence[AccuracyCurve], words: Sequence[str]) -> str:
    """Per ε: accuracy under each attack; below, what each cost.

    Args:
        curves: of one model and the same sizes.
        words: what to call each size.

    Returns:
        A table of text, with 95 % intervals.
    """
    first = curves[0]
    rows = [[f"ε ({NORM_NAMES[first.norm]})", *(curve.attack.upper() for curve in curves)]]
    for number, word in enumerate(words):
        shares = (
            Estimate(float(curve.accuracy[number]), float(curve.low[number]), float(curve.high[number]), curve.n)
            for curve in curves
        )
        rows.append([word.strip(), *(estimate.percent() for estimate in shares)])
    costs = "; ".join(
        f"{curve.attack.upper()} {curve.provenance.forwards:,} forwards, {curve.provenance.backwards:,} backwards"
        for curve in curves
    )
    return f"{table(rows)}\nn = {first.n} examples; 95 % Wilson intervals; {costs}"
