"""`boundarygeo pieces`: exact affine pieces along a direction, and how straight the logits are."""

from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import Direction
from boundarygeo.cli.options import Clip, IncludeMisclassified, RunOptions, study_command
from boundarygeo.cli.outputs import check_figure, check_figures, draw, resumable_stores, table
from boundarygeo.cli.words import positive_number

if TYPE_CHECKING:
    from torch import Tensor

MOST_DRAWN = 6
COSINE_POINTS = 41  # of the curve in --cosine-figure


@study_command(examples=20)
def pieces(
    options: RunOptions,
    direction: Annotated[Direction, typer.Option(help="Direction of the segments.")] = "fgsm",
    extent: Annotated[str, typer.Option(help="Half-length of the segment, in steps of the direction.")] = "1/255",
    include_misclassified: IncludeMisclassified = False,
    clip: Clip = True,
    cosine_figure: Annotated[
        Path | None,
        typer.Option(help="Figure of the turning of the input gradient along the segments, for all models."),
    ] = None,
) -> None:
    """Exact affine pieces of piecewise linear networks along a direction, and how straight the logits are.

    --out stores the pieces. The figure shows the first 6 examples of the first model, or of each model if its name
    contains {model}.
    """
    half = positive_number(extent, "--extent")
    stores, figures = resumable_stores(options), check_figures(options)
    check_figure(options, cosine_figure, "--cosine-figure", beside=figures)

    import torch

    from boundarygeo.cli.chunked import Problem, results_of
    from boundarygeo.cli.sources import check_directions, open_study

    study = open_study(options, correct_only=not include_misclassified)
    check_directions(study, [direction], seed=options.seed)
    at = torch.linspace(-half, half, 3 if cosine_figure is None else COSINE_POINTS, dtype=torch.float64)
    settings = {"direction": direction, "extent": half, "at": at, "clip": clip, "seed": options.seed}
    problems = [
        Problem(pieces_along, clf, settings, (store, None)) for clf, store in zip_longest(study.classifiers, stores)
    ]
    drawn = study.examples
    found = results_of(problems, drawn, options)
    results, cosines = found[::2], found[1::2]
    for name, result, turning in zip(options.titles, results, cosines, strict=True):
        print(f"{name}:\n{piece_table(result, turning)}")
    for result, figure in zip(results, figures, strict=False):
        cells = range(min(len(result.count), MOST_DRAWN))
        show = partial(bg.plots.pieces, true_labels=drawn.y, index=drawn.index, class_names=study.class_names)
        draw(figure, partial(show, result, cells=cells))
    draw(cosine_figure, lambda: bg.plots.straightness(cosines, names=study.names))


def pieces_along(
    clf: "bg.Classifier",
    x: "Tensor",
    y: "Tensor",
    *,
    direction: str,
    extent: float,
    at: "Tensor",
    clip: bool,
    seed: int,
    index: "Tensor",
    progress: bool = True,
) -> "tuple[bg.LinearPieces, bg.GradientCosines]":
    """Pieces along a direction by name, and the turning of the input gradient."""
    shared = {"direction": direction, "clip": clip, "seed": seed, "index": index, "progress": progress}
    return bg.linear_pieces(clf, x, y, extent=extent, **shared), bg.gradient_cosines(clf, x, y, at=at, **shared)


def piece_table(pieces: "bg.LinearPieces", cosines: "bg.GradientCosines") -> str:
    """Number of pieces, straightness of the logits, and distance to the first change of label."""
    from boundarygeo.lines.pieces.summary import piece_summary

    summary = piece_summary(pieces, cosines)
    rows = [(f"along {pieces.name}", "median [95 % interval]", "n")]
    medians = [
        ("affine pieces", summary.pieces, ",.0f"),
        (f"pieces per unit of {pieces.unit}", summary.density, ",.0f"),
        ("R² of the best line", summary.r_squared, ".4f"),
        ("largest deviation from the best line / range", summary.line_deviation, ".4f"),
        ("largest deviation from the tangent / range", summary.tangent_deviation, ".4f"),
        (f"cosine of the input gradients at 0 and {cosines.t[0]:.4g}", summary.cosines[0], ".4f"),
        (f"cosine of the input gradients at 0 and {cosines.t[-1]:.4g}", summary.cosines[1], ".4f"),
    ]
    rows += [(name, estimate.text(form), f"{estimate.n}") for name, estimate, form in medians]
    for end, changed, distance in zip(pieces.extent, summary.changed, summary.distance, strict=True):
        way = f"between 0 and {end:.4g}"
        rows.append((f"label changes {way}", changed.percent(), f"{changed.n}"))
        rows.append((f"distance to it {way}", distance.text(".4g"), f"{distance.n}"))
    spent = pieces.provenance
    note = (
        f"of an example's logits, their median; t and distances in {pieces.unit}; inf: half or more do not change; "
        f"left out where the gradient is zero: {summary.missing}\n"
        f"{int(pieces.patterns.sum()):,} patterns in {spent.seconds:.1f} s, {spent.forwards:,} points carried forward"
    )
    return f"{table(rows)}\n{note}"
