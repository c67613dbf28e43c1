"""`boundarygeo lines`: all classes' logits along a direction through test examples."""

from functools import partial
from itertools import zip_longest
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import Direction
from boundarygeo.cli.options import Clip, IncludeMisclassified, RunOptions, study_command
from boundarygeo.cli.outputs import check_figures, draw, resumable_stores
from boundarygeo.cli.words import at_least, positive_number

MOST_DRAWN = 12


@study_command(examples=6)
def lines(
    options: RunOptions,
    direction: Annotated[Direction, typer.Option(help="Direction of the lines.")] = "fgsm",
    extent: Annotated[str, typer.Option(help="Half-length of the line, in steps of the direction.")] = "16/255",
    points: Annotated[int, typer.Option(help="Points per line.")] = 201,
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
) -> None:
    """Logits against ε along a direction.

    The figure shows the first 12 examples of the first model, or of each model if its name contains {model}.
    """
    half = positive_number(extent, "--extent")
    at_least(points, 2, "--points")
    stores, figures = resumable_stores(options), check_figures(options)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.sources import open_study

    study = open_study(options, correct_only=not include_misclassified)
    settings = {"direction": direction, "extent": half, "points": points, "clip": clip, "seed": options.seed}
    problems = [
        Problem(bg.logit_lines, clf, settings, (store,)) for clf, store in zip_longest(study.classifiers, stores)
    ]
    results: list[bg.LogitLines] = results_of(problems, study.examples, options)
    for name, result in zip(options.titles, results, strict=True):
        first, last = result.accuracy(0), result.accuracy(-1)
        ends = f"right at -{half:.4g} {first.percent()}, at +{half:.4g} {last.percent()}"
        print(f"{name}: {ends} (n = {first.n}, 95 % intervals)")
    cells = range(min(len(study.examples.y), MOST_DRAWN))
    for result, figure in zip(results, figures, strict=False):
        draw(figure, partial(bg.plots.lines, result, cells=cells, class_names=study.class_names))
