"""`boundarygeo lines`: all classes' logits along a direction through test examples."""

from typing import Annotated

import typer

from boundarygeo import plots
from boundarygeo.cli import options
from boundarygeo.cli.outputs import check_outputs
from boundarygeo.cli.sources import one_number, open_study
from boundarygeo.sections.lines import logit_lines
from boundarygeo.statistics import share

MOST_DRAWN = 12


def lines(
    model: options.Models,
    data: options.Data = "mnist5k",
    direction: Annotated[str, typer.Option(help="fgsm, gradient or random.")] = "fgsm",
    extent: Annotated[str, typer.Option(help="Half-length of the line, in steps of the direction.")] = "16/255",
    points: Annotated[int, typer.Option(help="Points per line.")] = 201,
    examples: options.Examples = 6,
    include_misclassified: options.IncludeMisclassified = False,
    clip: options.Clip = True,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    bounds: options.Bounds = "0,1",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    out: options.Out = None,
    figure: options.FigureFile = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Logits against ε along a direction; the figure shows the first model's first 12 examples."""
    half = one_number(extent, "--extent")
    stores = check_outputs(out, figure, models=len(model), overwrite=overwrite)
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
    results = []
    for name, clf in zip(model, study.classifiers, strict=True):
        result = logit_lines(
            clf,
            drawn.x,
            drawn.y,
            direction=direction,
            extent=half,
            points=points,
            clip=clip,
            seed=seed,
            index=drawn.index,
        )
        results.append(result)
        right = result.labels() == result.true_labels[:, None]
        ends = [share(int(right[:, end].sum()), len(right)).percent() for end in (0, -1)]
        print(f"{name}: right at -{half:.4g} {ends[0]}, at +{half:.4g} {ends[1]} (n = {len(right)}, 95 % intervals)")
    for result, store in zip(results, stores, strict=False):
        print(f"saved {result.save(store, overwrite=overwrite)}")
    if figure is not None:
        cells = range(min(len(drawn.x), MOST_DRAWN))
        drawing = plots.lines(results[0], cells=cells, class_names=study.class_names)
        print(f"saved {plots.save_figure(drawing, figure)}")
