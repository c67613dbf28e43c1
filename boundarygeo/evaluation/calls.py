"""The call of an analysis as text, for the provenance of its result."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

SILENT = frozenset({"seed", "index", "progress", "keep", "keep_directions", "max_bytes", "out", "overwrite"})
"""Arguments left out of a command: the seed has its own field, the others do not affect numbers."""

_calls: list["Call"] = []  # one stack is enough: `own_world` runs one analysis at a time


class Call:
    """A function and its arguments by name, including defaults."""

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self._name = function.__name__
        self._arguments = arguments

    def command(self, **resolved: Any) -> str:
        """The call as Python code, without inputs, classifiers and arguments that do not affect numbers.

        `resolved` holds arguments whose value was worked out, such as a default that depends on the inputs.
        """
        arguments = {**self._arguments, **resolved}
        words = {name: _word(value) for name, value in arguments.items() if name not in SILENT}
        return f"{self._name}({', '.join(f'{name}={word}' for name, word in words.items() if word is not None)})"


@contextlib.contextmanager
def recorded(function: Callable[..., Any], arguments: inspect.BoundArguments) -> Iterator[None]:
    """Make this call the `current_call`."""
    arguments.apply_defaults()
    named = dict(arguments.arguments)
    for parameter in arguments.signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name)
    _calls.append(Call(function, named))
    try:
        yield
    finally:
        _calls.pop()


def current_call() -> Call:
    """The call of the innermost running analysis."""
    return _calls[-1] if _calls else Call(lambda: None, {})


def _word(value: Any) -> str | None:
    """A value as Python code; None for inputs and classifiers, which are recorded by their digests."""
    provenance = getattr(value, "provenance", None)
    if provenance is not None:
        return provenance.command
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    for name in ("kind", "name"):  # of planes, of directions
        if isinstance(getattr(value, name, None), str):
            return repr(getattr(value, name))
    if isinstance(value, list | tuple | range | set | frozenset | np.ndarray):
        words = [_word(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
        return None if None in words else f"[{', '.join(map(str, words))}]"
    if isinstance(value, Mapping):
        words = {key: _word(each) for key, each in value.items()}
        return None if None in words.values() else f"{{{', '.join(f'{key!r}: {word}' for key, word in words.items())}}}"
    if isinstance(value, functools.partial):
        words = {name: _word(each) for name, each in value.keywords.items()}
        parts = [_word(value.func), *map(_word, value.args), *(f"{name}={word}" for name, word in words.items())]
        return None if None in [*parts, *words.values()] else f"partial({', '.join(map(str, parts))})"
    return _word_of_others(value)


def _word_of_others(value: Any) -> str | None:
    """A function by its name, another object by its `repr`; None for those of this package and torch."""
    named = hasattr(value, "__name__")
    packages = {str(each.__module__).partition(".")[0] for each in ([value] if named else type(value).__mro__)}
    if packages & {"boundarygeo", "torch"}:
        return None
    text = value.__name__ if named else repr(value)
    return type(value).__name__ if " at 0x" in text or "\n" in text else text
