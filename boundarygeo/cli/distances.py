"""`boundarygeo distances`: distance to the decision boundary along directions, both ways."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

import boundarygeo as bg
from boundarygeo.choices import DIRECTIONS
from boundarygeo.cli.options import Clip, IncludeMisclassified, RunOptions, several, study_command
from boundarygeo.cli.outputs import check_figure, draw, resumable_stores, table
from boundarygeo.cli.words import at_least, each_once, positive_number

if TYPE_CHECKING:
    from torch import Tensor

WAYS = {"along": 1, "against": -1}


@study_command(examples=1000)
def distances(
    options: RunOptions,
    direction: Annotated[list[str], several(DIRECTIONS, "Direction.")] = ["fgsm"],  # noqa: B006 (only typer reads it)
    max_distance: Annotated[
        list[str],
        typer.Option(help="Largest distance to search, in steps of the direction: one for all, or one for each."),
    ] = ["0.5"],  # noqa: B006 (only typer reads it)
    scan: Annotated[int, typer.Option(help="Equally spaced points to evaluate before bisecting.")] = 64,
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
) -> None:
    """Distance to the first change of label along directions and against them.

    The figure shows the share of labels that change within a distance. For several directions, --out must contain
    {direction}; it stores the distances along them and, if it contains {way}, also those against them.
    """
    directions = each_once(direction, DIRECTIONS, "--direction")
    reaches = [positive_number(text, "--max-distance") for text in max_distance]
    if len(reaches) not in (1, len(directions)):
        raise ValueError(
            f"give --max-distance once, or once for each --direction: {len(reaches)} for {len(directions)} do not match"
        )
    at_least(scan, 1, "--scan")
    kept = list(WAYS) if "{way}" in str(options.out) else ["along"]
    stores = iter(resumable_stores(options, direction=directions, way=kept))
    check_figure(options, options.figure)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.sources import check_directions, open_study

    study = open_study(options, correct_only=not include_misclassified)
    check_directions(study, directions, seed=options.seed)
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
    results: list[bg.BoundaryDistances] = results_of(problems, study.examples, options)
    rows = len(directions) * len(WAYS)  # per model
    for number, name in enumerate(options.titles):
        print(f"{name}:\n{distance_table(results[number * rows : (number + 1) * rows])}")
    names = [called for called in study.names for _ in range(rows)]
    draw(options.figure, lambda: bg.plots.distances(results, names=names))


def distances_one_way(
    clf: "bg.Classifier", x: "Tensor", y: "Tensor", *, direction: str, way: str, seed: int, index: "Tensor", **rest: Any
) -> "bg.BoundaryDistances":
    """Distances along a direction by name, or against it."""
    from boundarygeo.directions import named_directions

    along = named_directions(clf, x, y, direction, seed=seed, index=index)
    sign = WAYS[way]
    ray = replace(along, vectors=sign * along.vectors, name=f"{'+' if sign > 0 else '-'} {along.name}")
    return bg.boundary_distance(clf, x, y, direction=ray, index=index, **rest)


def distance_table(results: "list[bg.BoundaryDistances]") -> str:
    """Share of labels that change, and median distance, per direction."""
    rows = [("direction", "n", "reach", "label changes within reach", "median distance", "forwards")]
    for result in results:
        reach, forwards = f"{result.max_distance:.4g} {result.unit}", f"{result.provenance.forwards:,}"
        changed = result.changed
        rows.append((result.name, f"{changed.n:,}", reach, changed.percent(), result.median.plain(), forwards))
    left_out = max(len(result.valid) - result.changed.n for result in results)
    note = "95 % intervals; inf: half or more do not change"
    if left_out:
        note += f"; left out where the gradient is zero: {left_out}"
    return f"{table(rows)}\n{note}"
