"""`boundarygeo transfer agreement`: agreement of models on random planes."""

from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.options import study_command
from boundarygeo.cli.outputs import check_figure, check_new, cost, draw, named_stores, table
from boundarygeo.cli.transfer.options import ModelOptions
from boundarygeo.cli.words import at_least


@study_command(examples=200)
def agreement(
    options: ModelOptions,
    triplets: Annotated[int, typer.Option(help="Number of planes, each through three examples.")] = 500,
    resolution: Annotated[int, typer.Option(help="Pixels per side of the planes.")] = 51,
) -> None:
    """Agreement of models on random planes, and fragmentation of their regions."""
    at_least(triplets, 1, "--triplets")
    at_least(resolution, 5, "--resolution")
    stores = named_stores(options, each_model=False)
    for store in stores:
        check_new(store, "--out", overwrite=options.overwrite, kind="store")
    check_figure(options, options.figure)

    from boundarygeo.cli.transfer.models import open_models

    classifiers, study = open_models(options)
    drawn = study.examples
    result = bg.reproducibility(
        classifiers, drawn.x, drawn.y, planes=triplets, resolution=resolution, seed=options.seed
    )
    print(agreement_text(result))
    for store in stores:
        print(f"saved {result.save(store, overwrite=options.overwrite)}")
    draw(options.figure, lambda: bg.plots.reproducibility(result))


def agreement_text(result: "bg.Reproducibility") -> str:
    """The agreement of each pair, and the fragmentation of each model."""
    rows = [("models", "equal labels", "intersection over union, mean of classes")]
    for i, j in result.pairs.tolist():
        pair = f"{result.names[i]} - {result.names[j]}"
        rows.append((pair, result.estimate(i, j).percent(), f"{100 * result.mean_iou(i, j):.1f} %"))
    pieces = [
        ("model", "regions per plane, in the images' window"),
        *((name, result.fragmentation(name).plain(2)) for name in result.names),
    ]
    made = int(result.valid.sum())
    missing = len(result.valid) - made
    notes = (
        f"n = {made:,} planes through three random examples, {result.resolution}² points each"
        f"{f' (left out: {missing} on a line)' if missing else ''}; 95 % intervals over the planes"
    )
    return f"{table(rows)}\n\n{table(pieces)}\n{notes}\n{cost(result.provenance)}"
