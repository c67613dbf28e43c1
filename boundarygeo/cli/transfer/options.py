"""Options of all comparisons of models."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import typer

from boundarygeo.choices import NORM_NAMES
from boundarygeo.cli.options import RunOptions, StudyOptions


@dataclass(frozen=True)
class ModelOptions(StudyOptions):
    """At least two models with distinct names."""

    name: Annotated[
        list[str] | None, typer.Option(help="Name of each model, once for each; by default its file name.")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.model) < 2:
            raise ValueError("nothing to compare: give --model at least twice")
        if self.name and len(self.name) != len(self.model):
            raise ValueError(f"give --name once for each of the {len(self.model)} models, not {len(self.name)} times")
        called, times = Counter(self.names).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} models have the name {called!r}: give each its own --name")

    @property
    def names(self) -> list[str]:
        """Name of each model."""
        return list(self.name or super().names)


@dataclass(frozen=True)
class TransferOptions(ModelOptions, RunOptions):
    """`ModelOptions` for commands that compute examples in chunks."""


Eps = Annotated[str, typer.Option(help="Norm of the perturbations, in input units, e.g. 0.1 or 8/255.")]


def setting(eps: float, norm: str) -> str:
    """The size of perturbations, as a note below a table."""
    return f"ε = {eps:.4g} in {NORM_NAMES[norm]}"
