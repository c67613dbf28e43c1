"""`boundarygeo transfer dimension`: how many of each model's orthogonal directions fool each of the others."""

from functools import partial
from itertools import permutations
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import BOX_NAMES, METHOD_NAMES, Box, FrameMethod, Norm
from boundarygeo.cli.options import Grid, MaxDimension, frame_settings, study_command
from boundarygeo.cli.outputs import check_figures, cost, draw, resumable_stores, table
from boundarygeo.cli.transfer.options import Eps, TransferOptions, setting
from boundarygeo.cli.words import positive_number


@study_command(examples=200)
def dimension(
    options: TransferOptions,
    eps: Eps,
    norm: Annotated[Norm, typer.Option(help="Norm of the perturbations.")] = "l2",
    method: Annotated[FrameMethod, typer.Option(help="How directions are found, as in dims.")] = "gaas",
    box: Annotated[Box, typer.Option(help="What happens at the bounds, as in dims.")] = "feasible",
    max_dimension: MaxDimension = None,
    grid: Grid = None,
) -> None:
    """How many of each model's orthogonal adversarial directions fool each of the others.

    --out must contain {source} and {target}, which count models: it stores the counts of each pair, and each model's
    own. The figure is for the first model as the source, or for each if its name contains {model}.
    """
    settings = frame_settings(method, norm, box, max_dimension, grid)
    settings |= {"eps": positive_number(eps, "--eps"), "seed": options.seed}
    names = options.names
    numbers = [str(number + 1) for number in range(len(names))]
    stores = resumable_stores(options, each_model=False, source=numbers, target=numbers)
    figures = check_figures(options)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.transfer.models import open_models
    from boundarygeo.transfer.dimension import dimension_and_transfer

    classifiers, study = open_models(options)
    pairs: list[tuple[str, str]] = []
    problems = []
    for number, source in enumerate(names):
        reached = [source, *(name for name in names if name != source)]
        kept = tuple(stores[number * len(names) + names.index(name)] if stores else None for name in reached)
        problems.append(Problem(dimension_and_transfer, [classifiers[name] for name in reached], settings, kept))
        pairs += [(source, name) for name in reached]
    found = dict(zip(pairs, results_of(problems, study.examples, options), strict=True))
    own: dict[str, bg.AdversarialDimension] = {name: found[name, name] for name in names}
    sent: dict[tuple[str, str], bg.TransferredDimension] = {pair: found[pair] for pair in permutations(names, 2)}
    print(dimension_text(own, sent))
    for source, figure in zip(names, figures, strict=False):
        others = [name for name in names if name != source]
        arrived = [sent[source, target] for target in others]
        draw(figure, partial(bg.plots.dimension, own[source], arrived, names=[source, *others]))


def dimension_text(
    own: "dict[str, bg.AdversarialDimension]", sent: "dict[tuple[str, str], bg.TransferredDimension]"
) -> str:
    """Each model's own directions, and their success on the others."""
    heads = ("claimed to first order", "verified", "none", "at the cap", "frames tried", "proven maximal")
    rows: list[tuple[str, ...]] = [("model", "n", *heads)]
    for name, result in own.items():
        summary, claimed = bg.dimension_summary(result), bg.dimension_summary(result, counts=result.claimed)
        shares = (summary.at_zero.percent(), summary.at_cap.percent(), *search_cells(summary))
        rows.append((name, f"{summary.mean.n:,}", claimed.mean.plain(2), summary.mean.plain(2), *shares))
    sent_rows = [("source → target", "n", "fool the source", "fool the target", "none", "with the source's label")]
    for (source, target), result in sent.items():
        fooled = bg.dimension_summary(result)
        counts = (result.source, result.count, result.same)
        first, second, same = (bg.dimension_summary(result, counts=each).mean.plain(2) for each in counts)
        sent_rows.append((f"{source} → {target}", f"{fooled.mean.n:,}", first, second, fooled.at_zero.percent(), same))
    first = next(iter(own.values()))
    notes = (
        f"{setting(first.eps, first.norm)}, {METHOD_NAMES[first.method]}, {BOX_NAMES[first.box]}; means over the n "
        "examples that the model, or both, get right; 95 % intervals"
    )
    spent = cost(*(result.provenance for result in (*own.values(), *sent.values())))
    return f"{table(rows)}\n\n{table(sent_rows)}\n{notes}\n{spent}"


def search_cells(summary: "bg.DimensionSummary") -> tuple[str, str]:
    """Number of frames tried, and share of examples for which no size can be better."""
    assert summary.tried is not None
    return summary.tried.plain(1), "-" if summary.closed is None else summary.closed.percent()
