"""`boundarygeo distances`: how far the decision boundary is along directions, both ways."""

from dataclasses import replace
from typing import Annotated

import typer

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import Clip, Direction, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, check_stores, table
from boundarygeo.cli.sources import Examples, directions_of, open_study
from boundarygeo.cli.words import at_least, each_once, positive_number
from boundarygeo.sections.distances import BoundaryDistances, boundary_distance
from boundarygeo.statistics import median, share

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
    stores = check_stores(options, direction=directions, way=kept)
    check_figure(options)
    study = open_study(options, correct_only=not include_misclassified)
    results: list[tuple[str, BoundaryDistances]] = []
    saved: list[BoundaryDistances] = []
    for name, called, clf in zip(options.model, study.names, study.classifiers, strict=True):
        rows = []
        for number, chosen in enumerate(directions):
            reach = reaches[number % len(reaches)]
            both = _both_ways(clf, study.examples, chosen, max_distance=reach, scan=scan, clip=clip, seed=options.seed)
            rows += both
            saved += both[: len(kept)]
        print(f"{name}:\n{distance_table(rows)}")
        results += [(called, result) for result in rows]
    for result, store in zip(saved, stores, strict=False):
        print(f"saved {result.save(store, overwrite=options.overwrite)}")
    if options.figure is not None:
        drawing = plots.distances([result for _, result in results], names=[called for called, _ in results])
        print(f"saved {plots.save_figure(drawing, options.figure)}")


def _both_ways(
    clf: Classifier, drawn: Examples, direction: str, *, max_distance: float, scan: int, clip: bool, seed: int
) -> list[BoundaryDistances]:
    along = directions_of(clf, drawn, direction, seed=seed)
    return [
        boundary_distance(
            clf,
            drawn.x,
            drawn.y,
            direction=replace(along, vectors=sign * along.vectors, name=f"{word} {along.name}"),
            max_distance=max_distance,
            scan=scan,
            clip=clip,
            index=drawn.index,
        )
        for sign, word in zip(WAYS.values(), ("+", "-"), strict=True)
    ]


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
