"""`boundarygeo lines`: all classes' logits along a direction through test examples."""

from itertools import zip_longest
from typing import Annotated

import typer

from boundarygeo import plots
from boundarygeo.cli.chunked import Problem, results_of, resumable_stores
from boundarygeo.cli.options import Clip, Direction, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figures
from boundarygeo.cli.sources import open_study
from boundarygeo.cli.words import at_least, positive_number
from boundarygeo.lines.lines import LogitLines, logit_lines
from boundarygeo.results.statistics import share

MOST_DRAWN = 12


@study_command(examples=6)
def lines(
    options: StudyOptions,
    direction: Annotated[Direction, typer.Option(help="Direction of the lines.")] = Direction.FGSM,
    extent: Annotated[str, typer.Option(help="Half-length of the line, in steps of the direction.")] = "16/255",
    points: Annotated[int, typer.Option(help="Points per line.")] = 201,
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
) -> None:
    """Logits against ε along a direction.

    The figure shows the first 12 examples, of the first model, or of each where {model} is in its name.
    """
    half = positive_number(extent, "--extent")
    at_least(points, 2, "--points")
    stores, figures = resumable_stores(options), check_figures(options)
    study = open_study(options, correct_only=not include_misclassified)
    settings = {"direction": direction.value, "extent": half, "points": points, "clip": clip, "seed": options.seed}
    problems = [Problem(logit_lines, clf, settings, (store,)) for clf, store in zip_longest(study.classifiers, stores)]
    results: list[LogitLines] = results_of(problems, study.examples, options)
    for name, result in zip(options.model, results, strict=True):
        right = result.labels() == result.true_labels[:, None]
        ends = [share(int(right[:, end].sum()), len(right)).percent() for end in (0, -1)]
        print(f"{name}: right at -{half:.4g} {ends[0]}, at +{half:.4g} {ends[1]} (n = {len(right)}, 95 % intervals)")
    cells = range(min(len(study.examples.y), MOST_DRAWN))
    for result, figure in zip(results, figures, strict=False):
        drawing = plots.lines(result, cells=cells, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, figure)}")
