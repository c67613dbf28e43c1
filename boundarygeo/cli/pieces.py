"""`boundarygeo pieces`: exact affine pieces along a direction, and how straight the logits are."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.chunked import Problem, results_of, resumable_stores
from boundarygeo.cli.options import Clip, Direction, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, check_figures, table
from boundarygeo.cli.sources import AT_ONCE, directions_of, open_study
from boundarygeo.cli.words import positive_number
from boundarygeo.lines.pieces.pieces import LinearPieces, linear_pieces
from boundarygeo.lines.straightness import GradientCosines, Straightness, gradient_cosines, straightness
from boundarygeo.results.statistics import median, share

MOST_DRAWN = 6
COSINE_POINTS = 41  # of the curve in --cosine-figure


@study_command(examples=20)
def pieces(
    options: StudyOptions,
    direction: Annotated[Direction, typer.Option(help="Direction of the segments.")] = Direction.FGSM,
    extent: Annotated[str, typer.Option(help="Half-length of the segment, in steps of the direction.")] = "1/255",
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
    cosine_figure: Annotated[
        Path | None, typer.Option(help="Figure of how the input gradient turns along the segments, of all models.")
    ] = None,
) -> None:
    """Exact affine pieces of piecewise linear networks along a direction, and how straight the logits are.

    --out keeps the pieces. The figure shows the first 6 examples, of the first model, or of each where {model} is in
    its name.
    """
    half = positive_number(extent, "--extent")
    stores, figures = resumable_stores(options), check_figures(options)
    check_figure(replace(options, figure=cosine_figure))
    if cosine_figure is not None and cosine_figure in figures:
        raise ValueError(f"--figure and --cosine-figure must be different files, got {str(cosine_figure)!r} twice")
    study = open_study(options, correct_only=not include_misclassified)
    for clf in study.classifiers:
        directions_of(clf, study.examples.first(AT_ONCE), direction.value, seed=options.seed)  # is there any?
    at = torch.linspace(-half, half, 3 if cosine_figure is None else COSINE_POINTS, dtype=torch.float64)
    settings = {"direction": direction.value, "extent": half, "at": at, "clip": clip, "seed": options.seed}
    problems = [
        Problem(pieces_along, clf, settings, (store, None)) for clf, store in zip_longest(study.classifiers, stores)
    ]
    found = results_of(problems, study.examples, options)
    results, cosines = found[::2], found[1::2]
    for name, result, turning in zip(options.model, results, cosines, strict=True):
        print(f"{name}:\n{piece_table(result, turning)}")
    for result, figure in zip(results, figures, strict=False):
        drawing = plots.pieces(
            result,
            cells=range(min(len(result.count), MOST_DRAWN)),
            true_labels=study.examples.y,
            index=study.examples.index,
            class_names=study.class_names,
        )
        print(f"saved {plots.save_figure(drawing, figure)}")
    if cosine_figure is not None:
        drawing = plots.straightness(cosines, names=study.names)
        print(f"saved {plots.save_figure(drawing, cosine_figure)}")


def pieces_along(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str,
    extent: float,
    at: Tensor,
    clip: bool,
    seed: int,
    index: Tensor,
    progress: bool = True,
) -> tuple[LinearPieces, GradientCosines]:
    """Pieces along a direction by name, and how the input gradient turns.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]`.
        y: true classes, int64 `[example]`.
        direction: `"fgsm"`, `"gradient"` or `"random"`.
        extent: as in `linear_pieces`.
        at: as in `gradient_cosines`.
        clip: whether points are clipped to the bounds.
        seed: seed of random directions.
        index: number of each example, int64 `[example]`.
        progress: whether to show a bar.

    Returns:
        Pieces and cosines.
    """
    shared = {"direction": direction, "clip": clip, "seed": seed, "index": index, "progress": progress}
    return linear_pieces(clf, x, y, extent=extent, **shared), gradient_cosines(clf, x, y, at=at, **shared)


def piece_table(pieces: LinearPieces, cosines: GradientCosines) -> str:
    """How many pieces, how straight the logits are, and how far the first other label is.

    Examples without a direction are left out. Of an example's logits, the median counts.

    Args:
        pieces: exact pieces, around t = 0.
        cosines: along the same directions; the first and the last point are the ends.

    Returns:
        A table of text: medians over the examples, with 95 % intervals.
    """
    exists = pieces.length > 0
    low, high = pieces.extent
    straight = straightness(pieces)
    assert straight.tangent_deviation is not None  # t = 0 is inside
    count = pieces.count[exists].double()
    measures: list[tuple[str, Tensor, str]] = [
        ("affine pieces", count, ",.0f"),
        (f"pieces per unit of {pieces.unit}", count / (high - low), ",.0f"),
        ("R² of the best line", straight.r_squared[exists].nanmedian(1).values, ".4f"),
        ("largest deviation from the best line / range", _relative(straight.line_deviation, straight)[exists], ".4f"),
        ("largest deviation from the tangent / range", _relative(straight.tangent_deviation, straight)[exists], ".4f"),
        (f"cosine of the input gradients at 0 and {cosines.t[0]:.4g}", cosines.cosine[exists, 0], ".4f"),
        (f"cosine of the input gradients at 0 and {cosines.t[-1]:.4g}", cosines.cosine[exists, -1], ".4f"),
    ]
    rows = [(f"along {pieces.name}", "median [95 % interval]", "n")]
    for name, values, form in measures:
        known = values[~values.isnan()]  # a constant logit has no R², a point without a gradient no cosine
        rows.append((name, median(known.numpy()).text(form), f"{len(known)}"))
    for end, distance in zip((low, high), first_changes(pieces)[:, exists], strict=True):
        middle, n = median(distance.numpy()), len(distance)
        found = share(int(distance.isfinite().sum()), n)
        way = f"between 0 and {end:.4g}"
        rows.append((f"label changes {way}", found.percent(), f"{n}"))
        rows.append((f"distance to it {way}", middle.text(".4g"), f"{n}"))
    cost = pieces.provenance
    note = (
        f"of an example's logits, their median; t and distances in {pieces.unit}; inf: half or more do not change; "
        f"left out where the gradient is zero: {int((~exists).sum())}\n"
        f"{int(pieces.patterns.sum()):,} patterns in {cost.seconds:.1f} s, {cost.forwards:,} points carried forward"
    )
    return f"{table(rows)}\n{note}"


def first_changes(pieces: LinearPieces) -> Tensor:
    """Exact distance from t = 0 to the first change of the predicted class, on either side.

    Args:
        pieces: exact pieces, around t = 0.

    Returns:
        Distances, float64 `[side, example]`, towards smaller and larger t; inf where nothing changes.
    """
    found = pieces.boundaries()
    nearest = torch.full((2, len(pieces.count)), torch.inf, dtype=torch.float64)
    for row, here in zip(nearest, (found.t < 0, found.t >= 0), strict=True):
        row.scatter_reduce_(0, found.example[here], found.t[here].abs(), "amin")
    return nearest


def _relative(deviation: Tensor, straight: Straightness) -> Tensor:
    """The median over an example's logits, constant ones left out, of a deviation / the logit's range, `[example]`."""
    return (deviation / straight.range).masked_fill(straight.r_squared.isnan(), torch.nan).nanmedian(1).values
