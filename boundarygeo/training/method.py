"""What a training method is, and the checks that several share."""

import dataclasses
import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """A training method: what is minimised on a batch of images in [0, 1].

    Any function with this signature will do. The methods of this package are frozen dataclasses, whose fields are their
    settings and go into the checkpoint. A method that carries tensors from one step to the next keeps them in a dict
    `memory`, which `train` empties before the first step and saves with its state.
    """

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the logits that count for the reported accuracy.

        Args:
            module: the network with its normalisation in front: it takes images in [0, 1].
            x: images in [0, 1] `[batch, channel, row, col]`.
            y: labels, int64 `[batch]`.
            generator: source of random numbers, on the CPU.

        Returns:
            The loss, a scalar to differentiate, and logits `[batch, class]`.
        """
        ...


def settings_of(method: Method) -> dict[str, Any]:
    """The settings of a method: the fields of a dataclass, nothing for a function."""
    if not dataclasses.is_dataclass(method):
        return {}
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init}


def check_number(value: float, name: str, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """Refuse settings that are not finite numbers in a range.

    Args:
        value: the setting.
        name: what to call it in the message.
        least: smallest value allowed.
        above: what it must be larger than.

    Raises:
        ValueError: if it is anything else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or value <= above:
        wanted = f" >= {least:g}" if least > -math.inf else f" > {above:g}" if above > -math.inf else ""
        raise ValueError(f"{name} must be a finite number{wanted}, got {value!r}")


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Refuse settings that are not one of a few words.

    Args:
        value: the setting.
        name: what to call it in the message.
        choices: the words.

    Raises:
        ValueError: if it is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")


def check_names(layers: tuple[str, ...]) -> None:
    """Refuse lists of layers that are not tuples of different names.

    Args:
        layers: the setting.

    Raises:
        ValueError: if it is anything else.
    """
    fits = isinstance(layers, tuple) and all(isinstance(name, str) for name in layers)
    if not fits or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be a tuple of different names, got {layers!r}")
