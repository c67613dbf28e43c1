"""`boundarygeo maps`: the church-window grid of a model, with its data."""

import enum
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import Clip, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, check_stores, table
from boundarygeo.cli.sources import Examples, open_study
from boundarygeo.cli.words import positive_number
from boundarygeo.sections.maps import BoundaryMaps, boundary_maps
from boundarygeo.sections.planes import Planes, fgsm_adversarial_planes, fgsm_random_planes, random_planes
from boundarygeo.sections.regions import RegionSummary, agreement, region_summary
from boundarygeo.statistics import median, share


class PlaneKind(enum.StrEnum):
    """Planes the command can draw."""

    FGSM_RANDOM = "fgsm_random"
    FGSM_ADVERSARIAL = "fgsm_adversarial"
    RANDOM = "random"


@study_command(examples=100)
def maps(
    options: StudyOptions,
    planes: Annotated[PlaneKind, typer.Option(help="What spans the planes.")] = PlaneKind.FGSM_RANDOM,
    extent: Annotated[str, typer.Option(help="Half-width of each map, in ε, e.g. 16/255.")] = "16/255",
    include_misclassified: IncludeMisclassified = False,
    resolution: Annotated[int, typer.Option(help="Pixels per side, odd.")] = 129,
    method: Annotated[str, typer.Option(help="adaptive or dense.")] = "adaptive",
    precision: Annotated[str, typer.Option(help="auto, float32, float64 or bfloat16.")] = "auto",
    coarse: Annotated[int | None, typer.Option(help="Spacing of the adaptive method's coarse grid, in pixels.")] = None,
    clip: Clip = True,
    plane_figure: Annotated[
        Path | None, typer.Option(help="Figure of one plane: regions of each model, and all their outlines.")
    ] = None,
) -> None:
    """Draw the decision regions of models on planes through test examples.

    The figure shows all planes of one model, or the outlines of the true class's region of several on the first 12.
    --plane-figure shows the first plane alone, with the regions of each model.
    """
    half = positive_number(extent, "--extent")
    stores = check_stores(options)
    check_figure(options)
    check_figure(replace(options, figure=plane_figure))
    if plane_figure is not None and plane_figure == options.figure:
        raise ValueError(f"--figure and --plane-figure must be different files, got {str(plane_figure)!r} twice")
    study = open_study(options, correct_only=not include_misclassified)
    drawn = study.examples
    through = make_planes(planes, study.classifiers[0], drawn, seed=options.seed)
    results = []
    for name, clf in zip(options.model, study.classifiers, strict=True):
        result = boundary_maps(
            clf,
            through,
            extent=half,
            resolution=resolution,
            method=method,
            precision=precision,
            clip=clip,
            coarse=coarse,
            keep=("margin", "planes") if stores else (),
        )
        print(f"{name}:" if results else f"{name}: accuracy {100 * drawn.accuracy:.1f} % (n = {drawn.looked_at})")
        print(axis_table(result, region_summary(result)))
        if results:
            print(f"agreement with model 1: {100 * float(agreement(results[0], result).mean()):.2f} % of pixels")
        print(cost_line(result))
        results.append(result)
    for result, store in zip(results, stores, strict=False):
        kept = replace(result, class_names=study.class_names)  # for `boundarygeo explore`
        print(f"saved {kept.save(store, overwrite=options.overwrite)}")
    if options.figure is not None:
        if len(results) == 1:
            drawing = plots.map_grid(results[0], class_names=study.class_names)
        else:
            drawing = plots.outline_grid(results, names=study.names, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, options.figure)}")
    if plane_figure is not None:
        first = int(through.valid.int().argmax())  # the first that exists
        drawing = plots.one_plane(results, first, names=study.names, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, plane_figure)}")


def make_planes(kind: PlaneKind, clf: Classifier, examples: Examples, *, seed: int) -> Planes:
    """Planes of a kind through examples, numbered by their place in the data."""
    x, y, index = examples.x, examples.y, examples.index
    if kind is PlaneKind.RANDOM:
        return random_planes(x, y, seed=seed, index=index)
    if kind is PlaneKind.FGSM_ADVERSARIAL:
        return fgsm_adversarial_planes(clf, x, y, index=index)
    return fgsm_random_planes(clf, x, y, seed=seed, index=index)


def axis_table(maps: BoundaryMaps, summary: RegionSummary) -> str:
    """Per half-axis: how many labels change within the extent, how far away, and what share of that half is right.

    Only examples that are classified correctly, on planes that exist, are counted.

    Args:
        maps: maps of planes with true classes.
        summary: their region summary.

    Returns:
        A table of text, with 95 % intervals.
    """
    assert maps.true_labels is not None
    right = maps.center_labels == maps.true_labels
    counted = maps.valid & right
    n, wrong, missing = int(counted.sum()), int((maps.valid & ~right).sum()), int((~maps.valid).sum())
    first, second = maps.axis_names
    rows = [("half-axis", "label changes within extent", "median distance", "true class in that half")]
    for half, name in enumerate((f"+ {first}", f"- {first}", f"+ {second}", f"- {second}")):
        changed = share(int(summary.found[counted, half].sum()), n)
        distance = median(summary.axis_distance[counted, half].numpy())
        true_share = summary.true_share[counted, half].mean() if n else torch.nan
        rows.append((name, changed.percent(), distance.plain(), f"{100 * float(true_share):.1f} %"))
    note = (
        f"n = {n} correctly classified examples (left out: {wrong} misclassified, {missing} without a plane); "
        f"extent ±{maps.u[-1]:.4f} ε; 95 % intervals; inf: half or more do not change"
    )
    return f"{table(rows)}\n{note}"


def cost_line(maps: BoundaryMaps) -> str:
    """What the maps cost."""
    pixels, cost = maps.labels.numel(), maps.provenance
    return (
        f"{len(maps.labels)} maps of {maps.labels.shape[1]}² in {cost.seconds:.1f} s "
        f"({pixels / max(cost.seconds, 1e-9):,.0f} pixels/s), {100 * maps.evaluated.mean():.1f} % of pixels "
        f"evaluated, {cost.forwards:,} forwards in {cost.precision}"
    )
