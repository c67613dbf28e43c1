"""`boundarygeo distances`: how far the decision boundary is along a direction, both ways."""

from dataclasses import replace
from typing import Annotated

import typer

from boundarygeo.classifier import Classifier
from boundarygeo.cli import options
from boundarygeo.cli.outputs import check_outputs, table
from boundarygeo.cli.sources import Examples, one_number, open_study
from boundarygeo.directions import named_directions
from boundarygeo.sections.distances import BoundaryDistances, boundary_distance
from boundarygeo.statistics import median, share


def distances(
    model: options.Models,
    data: options.Data = "mnist5k",
    direction: Annotated[str, typer.Option(help="fgsm, gradient or random.")] = "fgsm",
    max_distance: Annotated[str, typer.Option(help="How far to look, in steps of the direction.")] = "0.5",
    scan: Annotated[int, typer.Option(help="Equally spaced points to look at before bisecting.")] = 64,
    examples: options.Examples = 1000,
    include_misclassified: options.IncludeMisclassified = False,
    clip: options.Clip = True,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    bounds: options.Bounds = "0,1",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    out: options.Out = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Distance to the first other label along a direction and against it; --out keeps the first."""
    most = one_number(max_distance, "--max-distance")
    stores = check_outputs(out, None, models=len(model), overwrite=overwrite)
    study = open_study(
        model,
        data,
        weights=weights,
        mean=mean,
        std=std,
        bounds=bounds,
        device=device,
        examples=examples,
        include_misclassified=include_misclassified,
        seed=seed,
    )
    drawn = study.examples
    for number, (name, clf) in enumerate(zip(model, study.classifiers, strict=True)):
        results = _both_ways(clf, drawn, direction, max_distance=most, scan=scan, clip=clip, seed=seed)
        print(f"{name}:\n{distance_table(results)}")
        if stores:
            print(f"saved {results[0].save(stores[number], overwrite=overwrite)}")


def _both_ways(
    clf: Classifier, drawn: Examples, direction: str, *, max_distance: float, scan: int, clip: bool, seed: int
) -> list[BoundaryDistances]:
    along = named_directions(clf, drawn.x, drawn.y, direction, seed=seed, index=drawn.index)
    exists = along.vectors.flatten(1).any(1)
    x, y, index = drawn.x[exists], drawn.y[exists], drawn.index[exists]
    return [
        boundary_distance(
            clf,
            x,
            y,
            direction=replace(along, vectors=sign * along.vectors[exists], name=f"{word} {along.name}"),
            max_distance=max_distance,
            scan=scan,
            clip=clip,
            index=index,
        )
        for sign, word in ((1, "+"), (-1, "-"))
    ]


def distance_table(results: list[BoundaryDistances]) -> str:
    """Per direction: share of examples whose label changes within reach, and the median distance."""
    rows = [("direction", "label changes within reach", "median distance", "forwards")]
    for result in results:
        n = len(result.distance)
        rows.append(
            (
                result.name,
                share(int(result.found.sum()), n).percent(),
                median(result.distance.numpy()).plain(),
                f"{result.provenance.forwards:,}",
            )
        )
    first = results[0]
    note = (
        f"n = {len(first.distance)}; reach {first.max_distance:.4g} in {first.unit}; 95 % intervals; "
        "inf: half or more do not change"
    )
    return f"{table(rows)}\n{note}"
