"""`boundarygeo maps`: the church-window grid of a model, with its data."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Annotated

import torch
import typer

from boundarygeo import plots
from boundarygeo.cli.chunked import Problem, at_once, resumable_stores, run_stores
from boundarygeo.cli.options import Clip, IncludeMisclassified, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, same_path, table
from boundarygeo.cli.sources import Examples, open_study
from boundarygeo.cli.words import positive_number
from boundarygeo.maps.example_maps import example_maps
from boundarygeo.maps.maps import MAP_EXTRAS, BoundaryMaps
from boundarygeo.maps.regions import agreement, region_summary
from boundarygeo.results import load
from boundarygeo.results.statistics import median, share

MOST_DRAWN = 100
READ_AT_ONCE = 256


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
    keep: Annotated[
        str, typer.Option(help="What --out holds besides labels: some of margin,probability,planes; or none.")
    ] = "margin,planes",
    plane_figure: Annotated[
        Path | None, typer.Option(help="Figure of one plane: regions of each model, and all their outlines.")
    ] = None,
) -> None:
    """Draw the decision regions of models on planes through test examples.

    The figure shows the first 100 planes of one model, or the outlines of the true class's region of several on the
    first 12. --plane-figure shows the first plane alone, with the regions of each model. `boundarygeo explore` needs
    the planes in --out; without them a store of large images is a hundred times smaller.
    """
    half = positive_number(extent, "--extent")
    kept = () if keep == "none" else tuple(word.strip() for word in keep.split(","))
    if set(kept) - set(MAP_EXTRAS):
        raise ValueError(f"--keep must be none, or some of {','.join(MAP_EXTRAS)}, got {keep!r}")
    stores = resumable_stores(options)
    check_figure(options)
    check_figure(replace(options, figure=plane_figure))
    if plane_figure and options.figure and same_path(plane_figure, options.figure):
        raise ValueError(f"--figure and --plane-figure must be different files, got {str(plane_figure)!r} twice")
    study = open_study(options, correct_only=not include_misclassified)
    settings = {
        "planes": planes.value,
        "planes_of": study.classifiers[0],
        "extent": half,
        "resolution": resolution,
        "method": method,
        "precision": precision,
        "coarse": coarse,
        "clip": clip,
        "keep": kept if stores else (),
        "class_names": study.class_names,  # for `boundarygeo explore`
        "seed": options.seed,
    }
    problems = [Problem(example_maps, clf, settings, (store,)) for clf, store in zip_longest(study.classifiers, stores)]
    if stores:
        run_stores(problems, study.examples, options)
        for store in stores:
            print(f"saved {store}")
    results = [_Maps(problem, study.examples) for problem in problems]
    for number, (name, result) in enumerate(zip(options.model, results, strict=True)):
        told = f" accuracy {100 * study.examples.accuracy:.1f} % (n = {study.examples.looked_at})"
        print(f"{name}:{'' if number else told}")
        print(axis_table(result.parts()))
        if number:
            agreed = [agreement(*pair) for pair in zip(results[0].parts(), result.parts(), strict=True)]
            print(f"agreement with model 1: {100 * float(torch.cat(agreed).mean()):.2f} % of pixels")
        print(cost_line(result.parts()))
    firsts = [result.first(MOST_DRAWN) for result in results]
    if options.figure is not None:
        if len(firsts) == 1:
            cells = range(min(len(firsts[0].labels), MOST_DRAWN))
            drawing = plots.map_grid(firsts[0], class_names=study.class_names, cells=cells)
        else:
            drawing = plots.outline_grid(firsts, names=study.names, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, options.figure)}")
    if plane_figure is not None:
        existing = firsts[0].valid.nonzero()[:, 0]
        if not len(existing):
            raise ValueError("--plane-figure must have a plane to show, got a gradient of zero at all examples")
        drawing = plots.one_plane(firsts, int(existing[0]), names=study.names, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, plane_figure)}")


class _Maps:
    """The maps of one model: in memory, or read from their store, some at a time."""

    def __init__(self, problem: Problem, examples: Examples) -> None:
        (self._store,) = problem.stores
        self._count = len(examples.y)
        self._whole: BoundaryMaps | None = None
        if self._store is None:
            (self._whole,) = at_once(problem, examples)

    def parts(self) -> Iterator[BoundaryMaps]:
        """All maps, at most `READ_AT_ONCE` at a time where they are in a store."""
        if self._whole is not None:
            yield self._whole
        else:
            for start in range(0, self._count, READ_AT_ONCE):
                yield self._read(start, start + READ_AT_ONCE)

    def first(self, count: int) -> BoundaryMaps:
        """The first maps."""
        return self._whole if self._whole is not None else self._read(0, count)

    def _read(self, start: int, stop: int) -> BoundaryMaps:
        assert self._store is not None
        read = load(self._store, examples=slice(start, stop))
        assert isinstance(read, BoundaryMaps)
        return read


def axis_table(parts: Iterable[BoundaryMaps]) -> str:
    """Per half-axis: how many labels change within the extent, how far away, and what share of that half is right.

    Only examples that are classified correctly, on planes that exist, are counted.

    Args:
        parts: maps of planes with true classes, in one part or several.

    Returns:
        A table of text, with 95 % intervals.
    """
    rest = iter(parts)
    one = next(rest)
    rights, valids, summaries = [], [], []
    for maps in chain([one], rest):
        assert maps.true_labels is not None
        rights.append(maps.center_labels == maps.true_labels)
        valids.append(maps.valid)
        summaries.append(region_summary(maps))
    right, valid = torch.cat(rights), torch.cat(valids)
    found, distances, true_shares = (
        torch.cat([getattr(summary, name) for summary in summaries])
        for name in ("found", "axis_distance", "true_share")
    )
    counted = valid & right
    n, wrong, missing = int(counted.sum()), int((valid & ~right).sum()), int((~valid).sum())
    first, second = one.axis_names
    rows = [("half-axis", "label changes within extent", "median distance", "true class in that half")]
    for half, name in enumerate((f"+ {first}", f"- {first}", f"+ {second}", f"- {second}")):
        changed = share(int(found[counted, half].sum()), n)
        distance = median(distances[counted, half].numpy())
        true_share = true_shares[counted, half].mean() if n else torch.nan
        rows.append((name, changed.percent(), distance.plain(), f"{100 * float(true_share):.1f} %"))
    note = (
        f"n = {n} correctly classified examples (left out: {wrong} misclassified, {missing} without a plane); "
        f"extent ±{one.u[-1]:.4f} ε; 95 % intervals; inf: half or more do not change"
    )
    return f"{table(rows)}\n{note}"


def cost_line(parts: Iterable[BoundaryMaps]) -> str:
    """What the maps cost.

    Args:
        parts: the maps, in one part or several, of one result.

    Returns:
        A line of text.
    """
    rest = iter(parts)
    one = next(rest)
    shares = torch.cat([maps.evaluated for maps in chain([one], rest)])
    side, cost = one.labels.shape[1], one.provenance
    return (
        f"{len(shares)} maps of {side}² in {cost.seconds:.1f} s "
        f"({len(shares) * side**2 / max(cost.seconds, 1e-9):,.0f} pixels/s), {100 * shares.mean():.1f} % of pixels "
        f"evaluated, {cost.forwards:,} forwards in {cost.precision}"
    )
