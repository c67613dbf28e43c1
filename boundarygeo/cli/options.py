"""Options that several commands share: the same words mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str],
    typer.Option(
        "--model", help="Checkpoint, package.module:factory, or torchvision:NAME. Repeat it for several models."
    ),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(help="State dict for a factory or torchvision model; one per such model."),
]
Data = Annotated[str, typer.Option(help="mnist5k, digits, mnist, cifar10, folder:PATH or npz:PATH.")]
Examples = Annotated[int, typer.Option("--examples", help="Number of test examples, drawn by the seed.")]
IncludeMisclassified = Annotated[
    bool, typer.Option("--include-misclassified", help="Also use examples the (first) model gets wrong.")
]
Clip = Annotated[bool, typer.Option(help="Clip points to the bounds.")]
Mean = Annotated[str | None, typer.Option(help="Mean per channel, e.g. 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Standard deviation per channel.")]
Bounds = Annotated[str, typer.Option(help="Bounds of the inputs, before normalisation.")]
Seed = Annotated[int, typer.Option(help="Decides the examples and everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Out = Annotated[Path | None, typer.Option(help="Zarr store for the result; {model} in it counts models.")]
FigureFile = Annotated[Path | None, typer.Option("--figure", help="Figure: .png, .pdf or .svg.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
