"""Options that several commands share: the same words mean the same everywhere.

typer reads the options of a command from its signature. Every command that studies models would have to repeat the
same dozen there; it takes one parameter of type `StudyOptions` instead, which `study_command` expands for typer:

    @study_command(examples=6)
    def lines(options: StudyOptions, extent: Annotated[str, typer.Option(help="...")] = "16/255") -> None: ...
"""

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from boundarygeo.cli.words import at_least


@dataclass(frozen=True)
class StudyOptions:
    """Which models and data a command studies, and where its result and figure go.

    Each field is an option of the command line: its annotation says what it means, and its default may be changed for
    one command by `study_command`. Fields before `KW_ONLY` come first in `--help`, those after it last.

    Raises:
        ValueError: if `examples` is less than 1 or `seed` less than 0.
    """

    model: Annotated[
        list[str],
        typer.Option(
            "--model", help="Checkpoint, package.module:factory, or torchvision:NAME. Repeat it for several models."
        ),
    ]
    data: Annotated[str, typer.Option(help="mnist5k, digits, mnist, cifar10, folder:PATH or npz:PATH.")] = "mnist5k"
    examples: Annotated[int, typer.Option(help="Number of test examples, drawn by the seed.")] = 100
    _: KW_ONLY
    weights: Annotated[
        list[Path] | None, typer.Option(help="State dict for a factory or torchvision model; one per such model.")
    ] = None
    mean: Annotated[str | None, typer.Option(help="Mean per channel, e.g. 0.485,0.456,0.406.")] = None
    std: Annotated[str | None, typer.Option(help="Standard deviation per channel.")] = None
    bounds: Annotated[str, typer.Option(help="Bounds of the inputs, before normalisation.")] = "0,1"
    seed: Annotated[int, typer.Option(help="Decides the examples and everything random.")] = 0
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    out: Annotated[
        Path | None,
        typer.Option(help="Zarr store for the result; {model} in it counts models."),
    ] = None
    figure: Annotated[Path | None, typer.Option(help="Figure: .png, .pdf or .svg.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False

    def __post_init__(self) -> None:
        at_least(self.examples, 1, "--examples")
        at_least(self.seed, 0, "--seed")


def study_command(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function with a parameter of type `StudyOptions` a command, with the fields as its options.

    Args:
        **defaults: defaults of this command that differ from those of `StudyOptions`.

    Returns:
        A decorator. What it gives takes the fields in the parameter's place and hands them on as one `StudyOptions`.

    Raises:
        TypeError: if a default is not of a field; from the decorator, if the function has not one such parameter.

    Examples:
        >>> @study_command(examples=6)
        ... def command(options: StudyOptions, extent: str = "1") -> None:
        ...     print(options.model, options.examples, options.seed, extent)
        >>> list(inspect.signature(command).parameters)[:5]
        ['model', 'data', 'examples', 'extent', 'weights']
        >>> command(model=["net.pt"], extent="2")
        ['net.pt'] 6 0 2
    """
    fields = dataclasses.fields(StudyOptions)
    unknown = sorted(defaults.keys() - {field.name for field in fields})
    if unknown:
        raise TypeError(f"defaults must be of fields of StudyOptions, got {unknown}")
    places: dict[bool, list[inspect.Parameter]] = {False: [], True: []}
    for field in fields:
        default = defaults.get(field.name, field.default)
        places[field.kw_only is True].append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,  # any order of those with and without a default
                default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
                annotation=field.type,
            )
        )

    def expand(command: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(command).parameters.values()
        expanded = [parameter.name for parameter in parameters if parameter.annotation is StudyOptions]
        if len(expanded) != 1:
            raise TypeError(f"command must have one parameter of type StudyOptions, got {len(expanded)}")
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in parameters
            if parameter.name != expanded[0]
        ]

        @functools.wraps(command)
        def call(**values: Any) -> None:
            chosen = defaults | {field.name: values.pop(field.name) for field in fields if field.name in values}
            command(**{expanded[0]: StudyOptions(**chosen)}, **values)

        signature = inspect.Signature([*places[False], *own, *places[True]], return_annotation=None)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        return call

    return expand


class Direction(enum.StrEnum):
    """Directions by name."""

    FGSM = "fgsm"
    GRADIENT = "gradient"
    RANDOM = "random"


IncludeMisclassified = Annotated[
    bool, typer.Option("--include-misclassified", help="Also use examples the (first) model gets wrong.")
]
Clip = Annotated[bool, typer.Option(help="Clip points to the bounds.")]
