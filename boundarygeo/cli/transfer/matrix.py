"""`boundarygeo transfer matrix`: whose adversarial examples fool whom, and with which mistake."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import typer

import boundarygeo as bg
from boundarygeo.choices import Norm, TransferAttack
from boundarygeo.cli.options import study_command
from boundarygeo.cli.outputs import check_figure, cost, draw, resumable_stores, table
from boundarygeo.cli.transfer.options import Eps, TransferOptions, setting
from boundarygeo.cli.words import at_least, positive_number


@study_command(examples=200)
def matrix(
    options: TransferOptions,
    eps: Eps | None = None,
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = "linf",
    attack: Annotated[TransferAttack, typer.Option(help="minimal_norm needs no --eps.")] = "pgd",
    steps: Annotated[int | None, typer.Option(help="Steps of pgd (by default 20) or minimal_norm (600).")] = None,
    mistakes_figure: Annotated[
        Path | None, typer.Option(help="Second figure: unfooled, same and different mistakes.")
    ] = None,
) -> None:
    """How often each model's adversarial examples fool the others, and whether with the same mistake."""
    settings: dict[str, Any] = {"attack": attack, "norm": norm, "seed": options.seed}
    if eps is not None:
        settings["eps"] = positive_number(eps, "--eps")
    elif attack != "minimal_norm":
        raise ValueError(f"--attack {attack} needs --eps")
    if at_least(steps, 1, "--steps") is not None:
        if attack == "fgsm":
            raise ValueError("--steps applies to --attack pgd and minimal_norm only")
        settings["steps"] = steps
    stores = resumable_stores(options, each_model=False)
    check_figure(options, options.figure)
    check_figure(options, mistakes_figure, "--mistakes-figure", beside=[options.figure] if options.figure else [])

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.transfer.models import open_models

    classifiers, study = open_models(options)
    problem = Problem(bg.transfer_matrix, classifiers, settings, tuple(stores) or (None,))
    (result,) = results_of([problem], study.examples, options)
    print(matrix_text(result))
    draw(options.figure, lambda: bg.plots.transfer_matrix(result))
    draw(mistakes_figure, lambda: bg.plots.mistakes(bg.transfer_mistakes(result)))


def matrix_text(result: "bg.TransferMatrix") -> str:
    """Success with both denominators, sources as rows and targets as columns; and the targets' mistakes."""
    from boundarygeo.plots.transfer import OVER_NAMES
    from boundarygeo.transfer.mistakes import OUTCOMES

    parts = []
    for over in ("shared", "fooled"):
        rows = [("made for, sent to", "n", *result.names)]
        for i, (name, n) in enumerate(zip(result.names, result.counts(over)[1].tolist(), strict=True)):
            cells = (result.estimate(i, j, over).percent() if n else "-" for j in range(len(result.names)))
            rows.append((name, f"{n:,}", *cells))
        parts.append(f"success, in % {OVER_NAMES[over]}:\n{table(rows)}")
    size = "" if result.eps is None else f", {setting(result.eps, result.norm)}"
    attack = result.attack.replace("_", " ") if result.attack == "minimal_norm" else result.attack.upper()
    made = bg.transfer_mistakes(result)
    mistakes: list[Sequence[str]] = [("source → target", "n", *OUTCOMES, "same, of mistakes", "by chance")]
    for source, target in permutations(made.names, 2):
        shares = made.shares(source, target)
        same, chance = made.same_share(source, target), made.chance_share(source, target)
        outcomes = [each.percent() if each.n else "-" for each in (*shares.values(), same, chance)]
        mistakes.append((f"{source} → {target}", f"{shares['same'].n:,}", *outcomes))
    return (
        "\n\n".join(parts) + f"\n{attack}{size}; 95 % Wilson intervals\n\n"
        f"what targets make of the examples that fool their source:\n{table(mistakes)}\n"
        "by chance: if the wrong label depended on the true class alone, with where 95 % of such shares lie\n"
        f"{cost(result.provenance)}"
    )
