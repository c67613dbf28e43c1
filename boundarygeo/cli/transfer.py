"""`boundarygeo transfer`: what adversarial examples, subspaces and boundaries of several models have in common."""

import enum
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from boundarygeo import plots
from boundarygeo.cli import measures
from boundarygeo.cli.accuracy import Norm
from boundarygeo.cli.chunked import resumable_stores
from boundarygeo.cli.dims import Box, Method
from boundarygeo.cli.measures import Comparison, Report, accuracy_lines
from boundarygeo.cli.models import short_names
from boundarygeo.cli.options import EngineName, StudyOptions, study_command
from boundarygeo.cli.outputs import check_figure, check_figures
from boundarygeo.cli.sources import Study, open_study
from boundarygeo.cli.words import at_least, frame_sizes, positive_number
from boundarygeo.transfer.problem import check_classifiers, check_shared

DIMENSION = 10
RESTARTS = 32
TRIPLETS = 500
RESOLUTION = 51


class Measure(enum.StrEnum):
    """What is compared."""

    MATRIX = "matrix"
    DIMENSION = "dimension"
    SHARED = "shared"
    OVERLAP = "overlap"
    DISTANCES = "distances"
    AGREEMENT = "agreement"


class TransferAttack(enum.StrEnum):
    """Attacks whose examples are sent from model to model."""

    FGSM = "fgsm"
    PGD = "pgd"
    MINIMAL_NORM = "minimal_norm"


_SUBSPACES = (Measure.DIMENSION, Measure.SHARED)
_WITH_EPS = (Measure.MATRIX, *_SUBSPACES, Measure.OVERLAP)
_OF_ALL = (Measure.OVERLAP, Measure.AGREEMENT)  # results in which no part belongs to one example
_PER_SOURCE = (Measure.DIMENSION, Measure.DISTANCES)
_POOL_VALUES = 2**29  # 2 GB; 3,566 images of 224 by 224
BELONGS: dict[str, tuple[Measure, ...]] = {
    "--eps": _WITH_EPS,
    "--norm": _WITH_EPS,
    "--attack": (Measure.MATRIX,),
    "--steps": (Measure.MATRIX,),
    "--mistakes-figure": (Measure.MATRIX,),
    "--method": _SUBSPACES,
    "--box": _SUBSPACES,
    "--max-dimension": _SUBSPACES,
    "--grid": _SUBSPACES,
    "--dimension": (Measure.OVERLAP,),
    "--restarts": (Measure.OVERLAP,),
    "--max-distance": (Measure.DISTANCES,),
    "--triplets": (Measure.AGREEMENT,),
    "--resolution": (Measure.AGREEMENT,),
}
"""Which measures an option is for: elsewhere it would change nothing, and is refused."""


@study_command(examples=200)
def transfer(
    options: StudyOptions,
    measure: Annotated[
        Measure,
        typer.Option(
            help="matrix: who is fooled by whose adversarial examples, and with which mistake; dimension: how many of "
            "each model's orthogonal directions fool the others; shared: how many fool all at once; overlap: principal "
            "angles between adversarial subspaces; distances: between the boundaries; agreement: on random planes."
        ),
    ] = Measure.MATRIX,
    name: Annotated[
        list[str] | None, typer.Option(help="What to call each model, once for each; by default by its file.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Norm of the perturbations, in input units, e.g. 0.1 or 8/255.")
    ] = None,
    norm: Annotated[Norm | None, typer.Option(help="By default linf for the matrix, l2 for the others.")] = None,
    attack: Annotated[TransferAttack | None, typer.Option(help="Of the matrix; by default pgd.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of PGD (by default 20) or minimal_norm (600).")] = None,
    mistakes_figure: Annotated[
        Path | None, typer.Option(help="Second figure of the matrix: unfooled, same and different mistakes.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="Frames of dimension and shared, as in dims; by default gaas.")
    ] = None,
    box: Annotated[
        Box | None, typer.Option(help="As in dims; by default feasible for dimension, ignore for shared.")
    ] = None,
    max_dimension: Annotated[int | None, typer.Option(help="Largest count to look for; by default up to 200.")] = None,
    grid: Annotated[str | None, typer.Option(help="Sizes of frames, as in dims.")] = None,
    dimension: Annotated[
        int | None, typer.Option(help=f"Dimension of the subspaces of overlap; by default {DIMENSION}.")
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help=f"Perturbations that span each subspace of overlap; by default {RESTARTS}.")
    ] = None,
    max_distance: Annotated[
        str | None, typer.Option(help="How far distances looks for boundaries, in L2 input units.")
    ] = None,
    triplets: Annotated[
        int | None, typer.Option(help=f"Planes of agreement, each through three examples; by default {TRIPLETS}.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help=f"Pixels per side of the planes, odd; by default {RESOLUTION}.")
    ] = None,
) -> None:
    """Compare two or more models, on the test examples that all of them get right.

    For --measure dimension, --out must hold {source} and {target}, which count models: it keeps the directions' counts
    of each pair, and each model's own. The figures of dimension and distances are of the first model as the source, or
    of each where {model} is in --figure.
    """
    given = {
        "--eps": eps, "--norm": norm, "--attack": attack, "--steps": steps, "--mistakes-figure": mistakes_figure,
        "--method": method, "--box": box, "--max-dimension": max_dimension, "--grid": grid,
        "--dimension": dimension, "--restarts": restarts, "--max-distance": max_distance, "--triplets": triplets,
        "--resolution": resolution,
    }  # fmt: skip
    for option, value in given.items():
        if value is not None and measure not in BELONGS[option]:
            where = " or ".join(BELONGS[option])
            raise ValueError(f"{option} must be given with --measure {where}, got {measure.value}")
    names = _names(options.model, name)
    settings = _settings(measure, {option: value for option, value in given.items() if value is not None})
    if measure is Measure.AGREEMENT and (options.chunk_size is not None or options.engine is not EngineName.LOCAL):
        raise ValueError("--engine and --chunk-size must be given with another --measure: planes are no examples")
    stores = _stores(options, measure)
    figures = _figures(options, measure)
    if mistakes_figure is not None:
        check_figure(replace(options, figure=mistakes_figure))
        if mistakes_figure == options.figure:
            raise ValueError(
                f"--figure and --mistakes-figure must be different files, got {str(mistakes_figure)!r} twice"
            )
    study = open_study(options, correct_only=False)
    drawn = study.examples
    classifiers = dict(zip(names, study.classifiers, strict=True))
    x = drawn.x
    problem = check_classifiers(classifiers, x, drawn.y)
    check_shared(problem)
    print(accuracy_lines(names, problem.labels == problem.y), end="\n\n")
    pool = _pool(study, options.seed) if measure is Measure.DISTANCES else (x, drawn.y)
    these = Comparison(classifiers, drawn, pool, options, stores)
    report: Report = getattr(measures, measure.value)(these, **settings)
    print(report.text)
    if measure in _OF_ALL:
        for result, store in zip(report.results, stores, strict=False):
            print(f"saved {result.save(store, overwrite=options.overwrite)}")
    for draw, figure in zip(report.drawings, figures, strict=False):
        print(f"saved {plots.save_figure(draw(), figure)}")
    if mistakes_figure is not None:
        print(f"saved {plots.save_figure(report.drawings[1](), mistakes_figure)}")


def _pool(study: Study, seed: int) -> tuple[Tensor, Tensor]:
    """The test split, or as much of it as fits."""
    split = study.data.test
    most = max(len(study.examples.index), _POOL_VALUES // math.prod(study.data.input_shape))
    if len(split) <= most:
        return split.x[:], split.y
    warnings.warn(
        f"--measure distances looks for neighbours among {most:,} of {len(split):,} test images", stacklevel=2
    )
    order = torch.randperm(
        len(split), generator=torch.Generator().manual_seed(seed)
    )  # the examples come from its start
    rows = order[:most].sort().values
    return split.x[rows], split.y[rows]


def _names(models: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """What each model is called: no two alike."""
    if len(models) < 2:
        raise ValueError(f"--model must be given at least twice, got {len(models)}")
    if given and len(given) != len(models):
        raise ValueError(f"--name must be given once for each of {len(models)} models, got {len(given)}")
    names = list(given or short_names(models))
    called, times = Counter(names).most_common(1)[0]
    if times > 1:
        hint = "" if given else ": give each one with --name"
        raise ValueError(f"names of models must differ, got {called!r} {times} times{hint}")
    return names


def _stores(options: StudyOptions, measure: Measure) -> list[Path]:
    """One store, or one for each pair of source and target."""
    one = replace(options, model=options.model[:1])
    if measure is not Measure.DIMENSION:
        return resumable_stores(one)
    numbers = [str(number) for number in range(1, len(options.model) + 1)]
    return resumable_stores(one, source=numbers, target=numbers)


def _figures(options: StudyOptions, measure: Measure) -> list[Path]:
    """The figure, or one for each source."""
    if measure in _PER_SOURCE:
        return check_figures(options)
    check_figure(options)
    return [] if options.figure is None else [options.figure]


def _settings(measure: Measure, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of the measure's function; refused where they make no sense."""
    settings: dict[str, Any] = {}
    attack = given.get("--attack", TransferAttack.PGD)
    if measure in _WITH_EPS:
        if "--eps" in given:
            settings["eps"] = positive_number(given["--eps"], "--eps")
        elif measure is not Measure.MATRIX or attack is not TransferAttack.MINIMAL_NORM:
            raise ValueError(f"--eps must be given for --measure {measure.value}, got none")
    norm = given.get("--norm", Norm.LINF if measure is Measure.MATRIX else Norm.L2)
    if measure is Measure.MATRIX:
        settings |= {"attack": attack.value, "norm": norm.value}
        if "--steps" in given:
            if attack is TransferAttack.FGSM:
                raise ValueError("--steps must be given with --attack pgd or minimal_norm, got fgsm")
            settings["steps"] = at_least(given["--steps"], 1, "--steps")
    elif norm is not Norm.L2 and measure is not Measure.DIMENSION:
        raise ValueError(f"--norm must be l2 for --measure {measure.value}, got {norm.value}")
    if measure in _SUBSPACES:
        method = given.get("--method", Method.GAAS)
        if method is Method.SEQUENTIAL and measure is Measure.SHARED:
            raise ValueError("--method must be gaas or frame for --measure shared, got sequential")
        if method is not Method.GAAS and norm is not Norm.L2:
            raise ValueError(f"--norm must be l2 for --method {method.value}, got {norm.value}")
        box = given.get("--box", Box.IGNORE if measure is Measure.SHARED else Box.FEASIBLE)
        settings |= {"norm": norm.value, "method": method.value, "box": box.value}
        if "--max-dimension" in given:
            settings["max_dimension"] = at_least(given["--max-dimension"], 1, "--max-dimension")
        if "--grid" in given:
            if method is Method.SEQUENTIAL:
                raise ValueError(f"--grid must not be given for --method sequential, got {given['--grid']!r}")
            settings["grid"] = frame_sizes(given["--grid"], settings.get("max_dimension"))
    elif measure is Measure.OVERLAP:
        size = at_least(given.get("--dimension", DIMENSION), 1, "--dimension")
        settings["dimension"] = size
        settings["restarts"] = at_least(given.get("--restarts", max(RESTARTS, size)), size, "--restarts")
    elif measure is Measure.DISTANCES:
        if "--max-distance" not in given:
            raise ValueError("--max-distance must be given for --measure distances, got none")
        settings["max_distance"] = positive_number(given["--max-distance"], "--max-distance")
    elif measure is Measure.AGREEMENT:
        settings["planes"] = at_least(given.get("--triplets", TRIPLETS), 1, "--triplets")
        settings["resolution"] = at_least(given.get("--resolution", RESOLUTION), 5, "--resolution")
    return settings
