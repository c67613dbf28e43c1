"""`boundarygeo transfer shared`: how many orthogonal directions fool all models at once."""

from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import BOX_NAMES, METHOD_NAMES, Box, FrameMethod
from boundarygeo.cli.options import Grid, MaxDimension, frame_settings, study_command
from boundarygeo.cli.outputs import check_figure, cost, draw, resumable_stores, table
from boundarygeo.cli.transfer.dimension import search_cells
from boundarygeo.cli.transfer.options import Eps, TransferOptions, setting
from boundarygeo.cli.words import positive_number


@study_command(examples=200)
def shared(
    options: TransferOptions,
    eps: Eps,
    method: Annotated[FrameMethod, typer.Option(help="How directions are found, as in dims.")] = "gaas",
    box: Annotated[Box, typer.Option(help="What happens at the bounds, as in dims.")] = "ignore",
    max_dimension: MaxDimension = None,
    grid: Grid = None,
) -> None:
    """How many orthogonal directions of an L2 norm fool all models at once, and how many by chance."""
    settings = frame_settings(method, "l2", box, max_dimension, grid)
    settings |= {"eps": positive_number(eps, "--eps"), "seed": options.seed}
    stores = resumable_stores(options, each_model=False)
    check_figure(options, options.figure)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.transfer.models import open_models

    classifiers, study = open_models(options)
    problem = Problem(bg.shared_dimension, classifiers, settings, tuple(stores) or (None,))
    (result,) = results_of([problem], study.examples, options)
    print(shared_text(result))
    draw(options.figure, lambda: bg.plots.shared_dimension(result))


def shared_text(result: "bg.SharedDimension") -> str:
    """The counts, and those by chance."""
    rows = [("directions that fool all models", "as they are", "others rotated at random")]
    for label, counts, null in (
        ("claimed to first order", result.claimed, result.null_claimed),
        ("verified on all networks", result.verified, result.null_verified),
    ):
        columns = [[], ["-"] * 3]
        for column, of in enumerate((counts, null)):
            if of is not None:
                seen = bg.dimension_summary(result, counts=of)
                columns[column] = [seen.mean.plain(2), seen.at_zero.percent(), seen.at_cap.percent()]
        for what, *cells in zip(("mean", "none", f"at the cap of {result.max_dimension}"), *columns, strict=True):
            rows.append((f"{label}: {what}", *cells))
    summary = bg.dimension_summary(result)
    tried, closed = search_cells(summary)
    rows.append(("frames tried: mean", tried, "-"))
    rows.append(("verified on all networks: proven maximal", closed, "-"))
    notes = (
        f"n = {summary.mean.n:,} examples that all models get right; {setting(result.eps, 'l2')}, "
        f"{METHOD_NAMES[result.method]}, {BOX_NAMES[result.box]}; 95 % intervals\n"
        f"smallest cosine between two models' margin gradients: {result.smallest_cosine.plain(2)}"
    )
    if result.null_verified is None:
        notes += "\nchance is verified with --box ignore only: rotated perturbations leave the bounds"
    return f"{table(rows)}\n{notes}\n{cost(result.provenance)}"
