"""Options shared by several commands: the same words mean the same everywhere.

typer reads options from a command's signature, where every command that studies models would have to repeat the same
dozen. It takes one parameter of type `StudyOptions` instead, which `study_command` expands for typer:

    @study_command(examples=6)
    def lines(options: RunOptions, extent: Annotated[str, typer.Option(help="...")] = "16/255") -> None: ...
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from boundarygeo.cli.study import ModelEntry, StudyOption, check_alone
from boundarygeo.cli.words import at_least, frame_sizes, short_names


@dataclass(frozen=True)
class StudyOptions:
    """The models and data that a command studies, and where its result and figure go.

    Each field is an option: its annotation holds the help text, and `study_command` may change its default for one
    command. Fields before `KW_ONLY` come first in `--help`, those after it last.
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
    study: StudyOption = None
    weights: Annotated[
        list[Path] | None, typer.Option(help="State dict for a model that is no checkpoint; one per such model.")
    ] = None
    classes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text file that names the model's outputs, one a line; once, or once per model that has no names."
        ),
    ] = None
    mean: Annotated[str | None, typer.Option(help="Mean per channel, e.g. 0.485,0.456,0.406.")] = None
    std: Annotated[str | None, typer.Option(help="Standard deviation per channel.")] = None
    bounds: Annotated[str, typer.Option(help="Bounds of the inputs, before normalisation.")] = "0,1"
    resize: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side, to which images of a folder are resized first.")
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Rows and columns after the crop; by default the model prepares images itself.")
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the examples and everything random.")] = 0
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    out: Annotated[Path | None, typer.Option(help="Zarr store for the result; {model} in it counts models.")] = None
    figure: Annotated[Path | None, typer.Option(help="Figure: .png, .pdf or .svg.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False

    def __post_init__(self) -> None:
        at_least(self.examples, 1, "--examples")
        at_least(self.seed, 0, "--seed")
        at_least(self.resize, 1, "--resize")
        at_least(self.size, 1, "--size")
        check_alone(self.study, self.model, "--model")

    @property
    def entries(self) -> Sequence[ModelEntry]:
        """The models, each with what the study file says about it."""
        return [ModelEntry(word) for word in self.model] if self.study is None else self.study.models

    @property
    def names(self) -> list[str]:
        """Name of each model in figures."""
        return short_names(self.model) if self.study is None else [entry.name for entry in self.study.models]

    @property
    def titles(self) -> list[str]:
        """Heading of each model's table: its word, or its name in the study file."""
        return self.model if self.study is None else self.names


@dataclass(frozen=True)
class RunOptions(StudyOptions):
    """`StudyOptions` for commands that compute examples in chunks, with the engine that computes them."""

    _: KW_ONLY
    chunk_size: Annotated[
        int | None, typer.Option(help="Examples per chunk of --out; by default 32 on a CPU, 256 on a GPU.")
    ] = None
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: in this process; ray: on all workers of Ray.")
    ] = "local"
    workers: Annotated[
        int | None, typer.Option(help="Workers of Ray; by default one per GPU, or else one per CPU core.")
    ] = None
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use; by default one is started on this machine.")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.chunk_size, 1, "--chunk-size")
        at_least(self.workers, 1, "--workers")
        if self.engine == "local" and (self.workers is not None or self.address is not None):
            raise ValueError("--workers and --address apply to --engine ray only")
        if self.out is None and (self.engine != "local" or self.chunk_size is not None):
            raise ValueError("--engine and --chunk-size need --out: they apply to saved results only")


def study_command(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expand a parameter of type `StudyOptions`, or a derived one, of a function into options of a command.

    Examples:
        >>> @study_command(examples=6)
        ... def command(options: StudyOptions, extent: str = "1") -> None:
        ...     print(options.model, options.examples, options.seed, extent)
        >>> list(inspect.signature(command).parameters)[:5]
        ['model', 'data', 'examples', 'extent', 'study']
        >>> command(model=["net.pt"], extent="2")
        ['net.pt'] 6 0 2
    """

    def expand(command: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(command).parameters.values()
        expanded = [each for each in parameters if _is_options(each.annotation)]
        if len(expanded) != 1:
            raise TypeError(f"command must have exactly one parameter of type StudyOptions, got {len(expanded)}")
        (bundle,) = expanded
        fields = dataclasses.fields(bundle.annotation)
        unknown = sorted(defaults.keys() - {option.name for option in fields})
        if unknown:
            raise TypeError(f"defaults must be of fields of {bundle.annotation.__name__}, got {unknown}")
        places: dict[bool, list[inspect.Parameter]] = {False: [], True: []}
        for option in fields:
            default = defaults.get(option.name, option.default)
            places[option.kw_only is True].append(
                inspect.Parameter(
                    option.name,
                    inspect.Parameter.KEYWORD_ONLY,  # with and without defaults in any order
                    default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
                    annotation=option.type,
                )
            )
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters if each is not bundle]

        @functools.wraps(command)
        def call(**values: Any) -> None:
            chosen = defaults | {option.name: values.pop(option.name) for option in fields if option.name in values}
            command(**{bundle.name: bundle.annotation(**chosen)}, **values)

        signature = inspect.Signature([*places[False], *own, *places[True]], return_annotation=None)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        return call

    return expand


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, StudyOptions)


IncludeMisclassified = Annotated[
    bool, typer.Option("--include-misclassified", help="Also use examples that the (first) model misclassifies.")
]
Clip = Annotated[bool, typer.Option(help="Clip points to the bounds.")]
MaxDimension = Annotated[
    int | None, typer.Option(help="Largest count to search for; by default up to 200 (sequential: 50).")
]
Grid = Annotated[
    str | None,
    typer.Option(
        help="Sizes of frames: full: all that could be better, exact; or those to try first, e.g. 1,5,25. "
        "By default those near the best, and the others where they cost little. Not for sequential."
    ),
]


def several(choices: Sequence[str], help: str) -> Any:
    """An option that may be repeated, with these choices: typer does not support lists of a `Literal`."""
    return typer.Option(help=f"{help} Repeat it for several.", metavar=f"<{'|'.join(choices)}>")


def frame_settings(method: str, norm: str, box: str, max_dimension: int | None, grid: str | None) -> dict[str, Any]:
    """Settings of a search for orthogonal directions, as arguments of the library."""
    if method != "gaas" and norm != "l2":
        raise ValueError(f"--method {method} works in --norm l2 only")
    settings = {"method": method, "norm": norm, "box": box, "max_dimension": max_dimension}
    at_least(max_dimension, 1, "--max-dimension")
    sizes = frame_sizes(grid, max_dimension)
    return settings if sizes is None else {**settings, "grid": sizes}
