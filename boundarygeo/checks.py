"""Checks of arguments that more than one module needs: each refuses in one line, before any work."""

import math
from collections.abc import Collection
from numbers import Integral
from typing import Any

import numpy as np


def check_choice(value: Any, name: str, choices: Collection[Any]) -> None:
    """Refuse what is none of the choices.

    Args:
        value: a setting.
        name: of the argument.
        choices: what it may be.

    Raises:
        ValueError: if it is anything else.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")


def check_count(value: int, name: str, least: int = 1) -> None:
    """Refuse what is not a whole number, or too small.

    Args:
        value: a setting.
        name: of the argument.
        least: smallest value allowed.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")


def check_positive(value: float, name: str) -> float:
    """Refuse what is not a positive, finite number.

    Args:
        value: a setting.
        name: of the argument.

    Returns:
        The number.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def check_eps(eps: float, name: str = "eps") -> float:
    """Refuse radii that are negative or not finite.

    Args:
        eps: radius of a ball, in input units.
        name: of the argument.

    Returns:
        The radius.

    Raises:
        ValueError: if it is not a number >= 0.
    """
    if not isinstance(eps, int | float) or isinstance(eps, bool) or not 0 <= eps < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, in input units, got {eps!r}")
    return float(eps)


def plain(*values: Any) -> tuple[Any, ...]:
    """Settings as they are, but NumPy's numbers as Python's: those are checked, and stored."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)
