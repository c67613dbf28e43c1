"""`boundarygeo distances`: how far the decision boundary is along directions, both ways."""

from dataclasses import replace
from typing import Annotated, Any

import typer
from torch import Tensor

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.chunked import Problem, results_of, resumable_stores
from boundarygeo.cli.options import Clip, Direction, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, table
from boundarygeo.cli.sources import AT_ONCE, directions_of, open_study
from boundarygeo.cli.words import at_least, each_once, positive_number
from boundarygeo.directions import named_directions
from boundarygeo.lines.distances import BoundaryDistances, boundary_distance
from boundarygeo.results.statistics import median, share

WAYS = {"along": 1, "against": -1}


@study_command(examples=1000)
def distances(
    options: StudyOptions,
    direction: Annotated[list[Direction], typer.Option(help="Repeat it for several.")] = [Direction.FGSM],  # noqa: B006 (only typer reads it)
    max_distance: Annotated[
        list[str], typer.Option(help="How far to look, in steps of the direction: one for all, or one for each.")
    ] = ["0.5"],  # noqa: B006 (only typer reads it)
    scan: Annotated[int, typer.Option(help="Equally spaced points to look at before bisecting.")] = 64,
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
) -> None:
    """Distance to the first other label along directions and against them.

    The figure shows how many labels change within a distance. For several directions, --out must hold {direction}; it
    keeps the distances along them, and those against them, too, where {way} is in it.
    """
    directions = [chosen.value for chosen in each_once(direction, "--direction")]
    reaches = [positive_number(text, "--max-distance") for text in max_distance]
    if len(reaches) not in (1, len(directions)):
        raise ValueError(
            f"--max-distance must be given once, or once for each of {len(directions)} directions, got {len(reaches)}"
        )
    at_least(scan, 1, "--scan")
    kept = list(WAYS) if "{way}" in str(options.out) else ["along"]
    stores = iter(resumable_stores(options, direction=directions, way=kept))
    check_figure(options)
    study = open_study(options, correct_only=not include_misclassified)
    for clf in study.classifiers:
        for chosen in directions:
            directions_of(clf, study.examples.first(AT_ONCE), chosen, seed=options.seed)  # is there any?
    common = {"scan": scan, "clip": clip, "seed": options.seed}
    problems = [
        Problem(
            distances_one_way,
            clf,
            {"direction": chosen, "way": way, "max_distance": reaches[number % len(reaches)], **common},
            (next(stores, None) if way in kept else None,),
        )
        for clf in study.classifiers
        for number, chosen in enumerate(directions)
        for way in WAYS
    ]
    results: list[BoundaryDistances] = results_of(problems, study.examples, options)
    rows = len(directions) * len(WAYS)  # of each model
    for number, name in enumerate(options.model):
        print(f"{name}:\n{distance_table(results[number * rows : (number + 1) * rows])}")
    if options.figure is not None:
        drawing = plots.distances(results, names=[called for called in study.names for _ in range(rows)])
        print(f"saved {plots.save_figure(drawing, options.figure)}")


def distances_one_way(
    clf: Classifier, x: Tensor, y: Tensor, *, direction: str, way: str, seed: int, index: Tensor, **settings: Any
) -> BoundaryDistances:
    """Distances along a direction by name, or against it.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]`.
        y: true classes, int64 `[example]`.
        direction: `"fgsm"`, `"gradient"` or `"random"`.
        way: `"along"` or `"against"`.
        seed: seed of random directions.
        index: number of each example, int64 `[example]`.
        **settings: as in `boundary_distance`.

    Returns:
        The distances.
    """
    along = named_directions(clf, x, y, direction, seed=seed, index=index)
    sign = WAYS[way]
    ray = replace(along, vectors=sign * along.vectors, name=f"{'+' if sign > 0 else '-'} {along.name}")
    return boundary_distance(clf, x, y, direction=ray, index=index, **settings)


def distance_table(results: list[BoundaryDistances]) -> str:
    """Per direction: share of examples whose label changes within reach, and the median distance.

    Args:
        results: of one model and the same examples.

    Returns:
        A table of text, with 95 % intervals.
    """
    rows = [("direction", "n", "reach", "label changes within reach", "median distance", "forwards")]
    for result in results:
        n = int(result.valid.sum())
        rows.append(
            (
                result.name,
                f"{n:,}",
                f"{result.max_distance:.4g} {result.unit}",
                share(int(result.found.sum()), n).percent(),
                median(result.distance[result.valid].numpy()).plain(),
                f"{result.provenance.forwards:,}",
            )
        )
    left_out = max(int((~result.valid).sum()) for result in results)
    note = "95 % intervals; inf: half or more do not change"
    if left_out:
        note += f"; left out where the gradient is zero: {left_out}"
    return f"{table(rows)}\n{note}"
