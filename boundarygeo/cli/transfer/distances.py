"""`boundarygeo transfer distances`: from each model's boundary to those of the others."""

import math
import warnings
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.options import study_command
from boundarygeo.cli.outputs import check_figures, cost, draw, resumable_stores, table
from boundarygeo.cli.transfer.options import TransferOptions
from boundarygeo.cli.words import positive_number

if TYPE_CHECKING:
    from torch import Tensor

    from boundarygeo.cli.sources import Study

_POOL_VALUES = 2**29  # 2 GB; 3,566 images of 224 by 224


@study_command(examples=200)
def distances(
    options: TransferOptions,
    max_distance: Annotated[str, typer.Option(help="Largest distance to search for boundaries, in L2 input units.")],
) -> None:
    """Distance to each model's boundary, and from there to those of the others.

    The figure is for the first model as the source, or for each if its name contains {model}.
    """
    reach = positive_number(max_distance, "--max-distance")
    stores = resumable_stores(options, each_model=False)
    figures = check_figures(options)

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.transfer.models import open_models
    from boundarygeo.transfer.boundaries import labelled_pool

    classifiers, study = open_models(options)
    pool = labelled_pool(classifiers, *_pool(study, options.seed))
    settings = {"seed": options.seed, "pool": pool, "max_distance": reach}
    problem = Problem(bg.inter_boundary_distance, classifiers, settings, tuple(stores) or (None,))
    (result,) = results_of([problem], study.examples, options)
    print(distances_text(result))
    for source, figure in zip(result.names, figures, strict=False):
        draw(figure, partial(bg.plots.boundary_distances, result, source=source))


def _pool(study: "Study", seed: int) -> "tuple[Tensor, Tensor]":
    """The test split, or the part of it that fits in memory."""
    import torch

    split = study.data.test
    most = max(len(study.examples.index), _POOL_VALUES // math.prod(study.data.input_shape))
    if len(split) <= most:
        return split.x[:], split.y
    warnings.warn(f"neighbours are searched for among {most:,} of the {len(split):,} test images", stacklevel=2)
    order = torch.randperm(
        len(split), generator=torch.Generator().manual_seed(seed)
    )  # the examples are its first elements
    rows = order[:most].sort().values
    return split.x[rows], split.y[rows]


def distances_text(result: "bg.InterBoundaryDistance") -> str:
    """The distances of each pair along each direction."""
    rows = [("source → target", "direction", "n", "both known", "MD", "ID", "ID < MD", "of all n")]
    for source, target in permutations(result.names, 2):
        for direction in result.directions:
            seen = result.compare(direction, source, target)
            counts = (f"{seen.n:,}", f"{seen.distance.n:,}")
            means = (seen.distance.plain(2), seen.inter.plain(2), seen.nearer.percent(), seen.conservative.percent())
            rows.append((f"{source} → {target}", direction, *counts, *means))
    notes = (
        f"MD: to the source's boundary, ID: from there to the target's, in L2 input units, looked up to "
        f"{result.max_distance:.4g}\nmeans over the examples on which both change their label within reach; "
        f"n: examples that all models get right and that have the direction; 95 % intervals"
    )
    return f"{table(rows)}\n{notes}\n{cost(result.provenance)}"
