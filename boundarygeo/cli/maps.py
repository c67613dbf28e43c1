"""`boundarygeo maps`: the church-window grid of a model, and its data."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import MAP_EXTRAS, SMALLEST_RESOLUTION, MapMethod, PlaneKind, Precision
from boundarygeo.cli.options import Clip, IncludeMisclassified, RunOptions, study_command
from boundarygeo.cli.outputs import check_figure, draw, resumable_stores, table
from boundarygeo.cli.words import positive_number, some_of

if TYPE_CHECKING:
    from boundarygeo.maps.summary import MapSummary

MOST_DRAWN = 100
READ_AT_ONCE = 256


@study_command(examples=100)
def maps(
    options: RunOptions,
    planes: Annotated[PlaneKind, typer.Option(help="What spans the planes.")] = "fgsm_random",
    extent: Annotated[str, typer.Option(help="Half-width of each map, in ε, e.g. 16/255.")] = "16/255",
    include_misclassified: IncludeMisclassified = False,
    resolution: Annotated[int, typer.Option(help="Pixels per side, odd.")] = 129,
    method: Annotated[MapMethod, typer.Option(help="Follow the boundary, or evaluate every pixel.")] = "adaptive",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the model.")] = "auto",
    coarse: Annotated[int | None, typer.Option(help="Spacing of the adaptive method's coarse grid, in pixels.")] = None,
    clip: Clip = True,
    keep: Annotated[
        str, typer.Option(help="What --out stores besides labels: some of margin,probability,planes; or none.")
    ] = "margin,planes",
    plane_figure: Annotated[
        Path | None, typer.Option(help="Figure of one plane: regions of each model, and all their outlines.")
    ] = None,
) -> None:
    """Draw the decision regions of models on planes through test examples.

    The figure shows the first 100 planes of one model, or the outlines of the true class's region of several models on
    the first 12. --plane-figure shows the first plane only, with the regions of each model. `boundarygeo explore` needs
    the planes in --out; without them a store of large images is a hundred times smaller.
    """
    half = positive_number(extent, "--extent")
    if resolution < SMALLEST_RESOLUTION or resolution % 2 == 0:
        raise ValueError(f"--resolution must be an odd number of pixels, at least 5, got {resolution}")
    kept = () if keep == "none" else some_of(keep, MAP_EXTRAS, "--keep")
    stores = resumable_stores(options)
    check_figure(options, options.figure)
    check_figure(options, plane_figure, "--plane-figure", beside=[options.figure] if options.figure else [])

    from boundarygeo.cli.chunked import Problem, at_once, run_stores
    from boundarygeo.cli.sources import open_study
    from boundarygeo.maps.summary import map_summary, mean_agreement

    study = open_study(options, correct_only=not include_misclassified)
    settings = {
        "planes": planes,
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
    problems = [
        Problem(bg.example_maps, clf, settings, (store,)) for clf, store in zip_longest(study.classifiers, stores)
    ]
    if stores:
        run_stores(problems, study.examples, options)
        for store in stores:
            print(f"saved {store}")
        results = [_Maps(len(study.examples.y), store) for store in stores]
    else:
        results = [_Maps(len(study.examples.y), None, *at_once(problem, study.examples)) for problem in problems]
    firsts = [result.some(0, MOST_DRAWN) for result in results]
    for number, (name, result, one) in enumerate(zip(options.titles, results, firsts, strict=True)):
        accuracy = f" accuracy {100 * study.examples.accuracy:.1f} % (n = {study.examples.looked_at})"
        print(f"{name}:{'' if number else accuracy}")
        summary = map_summary(result.parts())
        print(axis_table(summary, one))
        if number:
            agreed = mean_agreement(results[0].parts(), result.parts())
            print(f"agreement with model 1: {100 * agreed:.2f} % of pixels")
        print(cost_line(summary, one))
    names, classes = study.names, study.class_names
    if len(firsts) == 1:
        cells = range(min(len(firsts[0].labels), MOST_DRAWN))
        draw(options.figure, lambda: bg.plots.map_grid(firsts[0], cells=cells, class_names=classes))
    else:
        draw(options.figure, lambda: bg.plots.outline_grid(firsts, names=names, class_names=classes))
    if plane_figure is not None:
        existing = firsts[0].valid.nonzero()[:, 0]
        if not len(existing):
            raise ValueError("--plane-figure has no plane to show: the gradient is zero at all examples")
        draw(plane_figure, lambda: bg.plots.one_plane(firsts, int(existing[0]), names=names, class_names=classes))


@dataclass(frozen=True, eq=False)
class _Maps:
    """The maps of one model: in memory, or read from their store in pieces."""

    count: int
    store: Path | None
    whole: "bg.BoundaryMaps | None" = None

    def parts(self) -> "Iterator[bg.BoundaryMaps]":
        """All maps, at most `READ_AT_ONCE` at a time if they are in a store."""
        for start in range(0, self.count, READ_AT_ONCE) if self.whole is None else [0]:
            yield self.some(start, start + READ_AT_ONCE)

    def some(self, start: int, stop: int) -> "bg.BoundaryMaps":
        """Some maps from a store, or all if they are in memory."""
        if self.whole is not None:
            return self.whole
        assert self.store is not None
        read = bg.load(self.store, examples=slice(start, stop))
        assert isinstance(read, bg.BoundaryMaps)
        return read


def axis_table(summary: "MapSummary", maps: "bg.BoundaryMaps") -> str:
    """Per half-axis: how many labels change within the extent, at what distance, and the true class's share."""
    rows = [("half-axis", "label changes within extent", "median distance", "true class in that half")]
    rows += [
        (half.name, half.changed.percent(), half.distance.plain(), f"{100 * half.true_share:.1f} %")
        for half in summary.halves
    ]
    left_out = f"{summary.misclassified} misclassified, {summary.missing} without a plane"
    note = (
        f"n = {summary.n} correctly classified examples (left out: {left_out}); "
        f"extent ±{maps.u[-1]:.4f} ε; 95 % intervals; inf: half or more do not change"
    )
    return f"{table(rows)}\n{note}"


def cost_line(summary: "MapSummary", maps: "bg.BoundaryMaps") -> str:
    """Cost of maps."""
    side, cost = maps.labels.shape[1], maps.provenance
    return (
        f"{summary.count} maps of {side}² in {cost.seconds:.1f} s "
        f"({summary.count * side**2 / max(cost.seconds, 1e-9):,.0f} pixels/s), {100 * summary.evaluated:.1f} % of "
        f"pixels evaluated, {cost.forwards:,} forwards in {cost.precision}"
    )
