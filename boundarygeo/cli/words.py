"""Numbers, lists and names from command-line words, with an immediate error if they are invalid."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")
Count = TypeVar("Count", int, int | None)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE | re.ASCII)


def numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    """Finite numbers separated by commas; fractions such as 16/255 are allowed."""
    if text is None:
        return None
    values = _parsed(text, name)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} takes finite numbers, not {text!r}")
    return values


def _parsed(text: str, name: str) -> tuple[float, ...]:
    """Numbers as in `numbers`, including infinite ones and NaN."""
    values = []
    for part in text.split(","):
        terms = [term.strip() for term in part.split("/")]
        sensible = len(terms) <= 2 and all(map(_NUMBER.fullmatch, terms))
        above, below = (*map(float, terms), 1.0)[:2] if sensible else (0.0, 0.0)
        if not sensible or not math.isfinite(below) or below == 0:
            raise ValueError(f"{name} takes numbers such as 0.5 or 16/255, separated by commas, not {text!r}")
        values.append(above / below)
    return tuple(values)


def positive_number(text: str, name: str) -> float:
    """A single number or fraction, greater than 0."""
    values = _parsed(text, name)
    if len(values) != 1:
        raise ValueError(f"{name} takes one number such as 0.5 or 16/255, not {text!r}")
    if not 0 < values[0] < math.inf:
        raise ValueError(f"{name} must be a positive number, not {text!r}")
    return values[0]


def at_least(value: Count, least: int, name: str) -> Count:
    """A whole number that is large enough, or None."""
    if value is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def ascending_sizes(text: str, name: str) -> tuple[float, ...]:
    """Perturbation sizes: one or several numbers >= 0, ascending."""
    sizes = _parsed(text, name)
    if not all(0 <= size < math.inf for size in sizes):
        raise ValueError(f"{name} takes finite numbers >= 0, not {text!r}")
    if any(later <= former for former, later in pairwise(sizes)):
        raise ValueError(f"{name} must be strictly ascending, got {text!r}")
    return sizes


def each_once(values: Sequence[str], choices: Sequence[str], name: str) -> list[str]:
    """Values of an option that may be repeated with different values."""
    for value in values:
        if value not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        if values.count(value) > 1:
            raise ValueError(f"{name} {value} is given twice")
    return list(values)


def some_of(text: str, choices: Sequence[str], name: str) -> tuple[str, ...]:
    """Names separated by commas."""
    chosen = tuple(word.strip() for word in text.split(",") if word.strip())
    if not chosen or set(chosen) - set(choices):
        raise ValueError(f"{name} takes some of {','.join(choices)}, not {text!r}")
    return chosen


def frame_sizes(text: str | None, most: int | None) -> Literal["full"] | list[int] | None:
    """Frame sizes to try, from `--grid`."""
    if text is None or text == "full":
        return text
    words = [word.strip() for word in text.split(",")]
    sizes = [int(word) for word in words if re.fullmatch("[0-9]{1,9}", word)]
    last = math.inf if most is None else most
    ascending = all(low < high for low, high in pairwise([0, *sizes]))
    if len(sizes) < len(words) or not ascending or sizes[-1] > last:
        up_to = "" if most is None else f" up to --max-dimension {most}"
        raise ValueError(f"--grid takes full, or ascending sizes{up_to} such as 1,5,25, not {text!r}")
    return sizes


def short_names(models: Sequence[str]) -> list[str]:
    """Names of the models in figures: file names for checkpoints, if these are distinct.

    Examples:
        >>> short_names(["nets.mlp:make", "torchvision:resnet18"])
        ['nets.mlp:make', 'torchvision:resnet18']
    """
    names = [Path(model).stem if Path(model).is_file() else model for model in models]
    return names if len(set(names)) == len(set(models)) else list(models)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest that exist, or nothing."""
    near = difflib.get_close_matches(word, list(choices))
    return f": did you mean {' or '.join(near)}?" if near else ""


def read_class_names(file: Path) -> tuple[str, ...]:
    """Class names from a text file, one per line."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--classes {file} cannot be read as a text file with one name per line: {error}") from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not all(names):
        line = 1 + names.index("") if names else 1
        raise ValueError(f"--classes must have one name per line: line {line} of {str(file)!r} is empty")
    return names
