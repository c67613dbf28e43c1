"""Argument checks shared by several modules."""

import math
from collections.abc import Collection
from numbers import Integral
from typing import Any

import numpy as np


def check_choice(value: Any, name: str, choices: Collection[Any]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")


def check_count(value: int, name: str, least: int = 1) -> None:
    """Raise unless the value is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")


def check_positive(value: float, name: str) -> float:
    """The value as a float; raise unless it is a positive, finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def check_eps(eps: float, name: str = "eps") -> float:
    """The radius, in input units, as a float; raise unless it is finite and not negative."""
    if not isinstance(eps, int | float) or isinstance(eps, bool) or not 0 <= eps < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, in input units, got {eps!r}")
    return float(eps)


def plain(*values: Any) -> tuple[Any, ...]:
    """Convert NumPy numbers to Python's, and leave other values alone."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)
