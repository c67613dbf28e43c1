"""The interface of training methods, and their common checks."""

import dataclasses
import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """A training method: the loss to minimise on a batch of images in [0, 1].

    Any function with this signature works. The methods of this package are frozen dataclasses, whose fields are their
    settings and are stored in the checkpoint. A method with tensors that persist between steps keeps them in a dict
    `memory`, which `train` empties before the first step and saves with its state.
    """

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the logits for the reported accuracy.

        Args:
            module: the network including its normalisation: it takes images in [0, 1].
            x: images in [0, 1] `[batch, channel, row, col]`.
            y: labels, int64 `[batch]`.
            generator: random generator on the CPU.

        Returns:
            The loss, a scalar to differentiate, and logits `[batch, class]`.
        """
        ...


def settings_of(method: Method) -> dict[str, Any]:
    """The settings of a method: the fields of a dataclass, empty for a function."""
    if not dataclasses.is_dataclass(method):
        return {}
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init}


def check_number(value: float, name: str, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """Raise if a setting is not a finite number, at least `least` and larger than `above`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or value <= above:
        wanted = f" >= {least:g}" if least > -math.inf else f" > {above:g}" if above > -math.inf else ""
        raise ValueError(f"{name} must be a finite number{wanted}, got {value!r}")


def check_names(layers: tuple[str, ...]) -> None:
    """Raise if layers are not a tuple of distinct names."""
    fits = isinstance(layers, tuple) and all(isinstance(name, str) for name in layers)
    if not fits or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be a tuple of distinct names, e.g. ('conv1',), got {layers!r}")
