"""Numbers and lists from the words of the command line, refused there and then where they make no sense."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeVar

T = TypeVar("T")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE | re.ASCII)


def numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    """Finite numbers separated by commas; fractions such as 16/255 are understood.

    Args:
        text: e.g. `"0.485,0.456,0.406"` or `"8/255"`, or None.
        name: what to call them in the message.

    Returns:
        The numbers, or None for None.

    Raises:
        ValueError: if something else is found.
    """
    if text is None:
        return None
    values = _parsed(text, name)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be finite numbers, got {text!r}")
    return values


def _parsed(text: str, name: str) -> tuple[float, ...]:
    """Numbers as above, infinite ones and NaN among them."""
    values = []
    for part in text.split(","):
        terms = [term.strip() for term in part.split("/")]
        sensible = len(terms) <= 2 and all(map(_NUMBER.fullmatch, terms))
        above, below = (*map(float, terms), 1.0)[:2] if sensible else (0.0, 0.0)
        if not sensible or not math.isfinite(below) or below == 0:
            raise ValueError(f"{name} must be numbers such as 0.5 or 16/255, separated by commas, got {text!r}")
        values.append(above / below)
    return tuple(values)


def positive_number(text: str, name: str) -> float:
    """A single number or fraction, greater than 0.

    Args:
        text: e.g. `"0.5"` or `"16/255"`.
        name: what to call it in the message.

    Returns:
        The number.

    Raises:
        ValueError: if something else is found.
    """
    values = _parsed(text, name)
    if len(values) != 1:
        raise ValueError(f"{name} must be one number such as 0.5 or 16/255, got {text!r}")
    if not 0 < values[0] < math.inf:
        raise ValueError(f"{name} must be a positive number, got {text!r}")
    return values[0]


def at_least(value: int, least: int, name: str) -> int:
    """A whole number that is large enough.

    Args:
        value: the number.
        least: smallest value allowed.
        name: what to call it in the message.

    Returns:
        The number.

    Raises:
        ValueError: if it is smaller.
    """
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def ascending_sizes(text: str, name: str) -> tuple[float, ...]:
    """Sizes of perturbations: one or several numbers >= 0, each larger than the one before.

    Args:
        text: e.g. `"0,1/255,2/255"`.
        name: what to call them in the message.

    Returns:
        The sizes.

    Raises:
        ValueError: if something else is found.
    """
    sizes = _parsed(text, name)
    if not all(0 <= size < math.inf for size in sizes):
        raise ValueError(f"{name} must be finite numbers >= 0, got {text!r}")
    if any(later <= former for former, later in pairwise(sizes)):
        raise ValueError(f"{name} must be in ascending order, each number once, got {text!r}")
    return sizes


def each_once(values: Sequence[T], name: str) -> list[T]:
    """Values of an option that may be repeated, but not with the same value.

    Args:
        values: what was given.
        name: what to call them in the message.

    Returns:
        The values.

    Raises:
        ValueError: if one is there twice.
    """
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{name} must be given once for each value, got {value!s} twice")
    return list(values)


def frame_sizes(text: str, most: int | None) -> Literal["full"] | list[int]:
    """Sizes of frames to try, from `--grid`.

    Args:
        text: `full`, or ascending sizes.
        most: the largest of them, from `--max-dimension`; or None.

    Returns:
        `"full"`, or the sizes.

    Raises:
        ValueError: if it is neither.
    """
    if text == "full":
        return "full"
    words = [word.strip() for word in text.split(",")]
    sizes = [int(word) for word in words if re.fullmatch("[0-9]{1,9}", word)]
    last = math.inf if most is None else most
    ascending = all(low < high for low, high in pairwise([0, *sizes]))
    if len(sizes) < len(words) or not ascending or sizes[-1] > last:
        up_to = "" if most is None else f" up to --max-dimension {most}"
        raise ValueError(f"--grid must be full or ascending sizes{up_to} such as 1,5,25, got {text!r}")
    return sizes
