"""From `--method NAME --set SETTING=VALUE` to a training method."""

import dataclasses
import math
import typing
from collections.abc import Sequence
from typing import Any

from boundarygeo.cli.words import numbers
from boundarygeo.training import METHODS, Method

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def method_of(name: str, words: Sequence[str] = ()) -> Method:
    """The training method given on the command line.

    Examples:
        >>> method_of("manifold_mixup", ["alpha=1/2", "layers=input,1"])
        ManifoldMixup(alpha=0.5, layers=('input', '1'))
    """
    if name not in METHODS:
        raise ValueError(f"--method must be one of {sorted(METHODS)}, got {name!r}")
    kinds = typing.get_type_hints(METHODS[name])
    known = [field.name for field in dataclasses.fields(METHODS[name]) if field.init]  # type: ignore[arg-type]
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in known:
            there = ", ".join(known) or "none"
            raise ValueError(f"--set must be SETTING=VALUE with a setting of {name} ({there}), got {word!r}")
        if key in settings:
            raise ValueError(f"--set must be given once for each setting, got {key!r} twice")
        settings[key] = _value(text, kinds[key], f"--set {key}")
    try:
        return METHODS[name](**settings)
    except ValueError as error:
        raise ValueError(f"--method {name}: {error}") from error


def _value(text: str, kind: Any, name: str) -> Any:
    """A word converted to the type of its field."""
    if kind == tuple[str, ...]:
        return tuple(part for part in text.split(",") if part)
    if kind is str or typing.get_origin(kind) is typing.Literal:
        return text
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return _BOOLEANS[text.lower()]
    values = numbers(text, name) or ()
    if kind == tuple[float, ...]:
        return values
    whole = kind is int
    if len(values) != 1 or (whole and not (math.isfinite(values[0]) and values[0] == int(values[0]))):
        raise ValueError(f"{name} must be one {'whole ' if whole else ''}number, got {text!r}")
    return int(values[0]) if whole else values[0]
