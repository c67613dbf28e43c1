"""Provenance of a result: the call, the model, the software, and the cost."""

import dataclasses
import platform
from collections.abc import Sequence

import numpy as np
import torch

from boundarygeo._version import __version__

COSTS = ("seconds", "forwards", "backwards")
"""Additive fields of a provenance; the others are equal for all parts of an analysis."""


def software_versions() -> dict[str, str]:
    """Versions of the software that affects results."""
    return {
        "boundarygeo": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How a result was made, and its cost.

    Attributes:
        command: call that made the result, with the settings that determine it.
        seed: seed of its random draws, or None without random draws.
        model: 16 hex digits that change with the module's weights, layers, attributes, hooks and code
            (`Classifier.identity`).
        source: where the model's normalisation and class names were found (`Classifier.wrap`), or empty.
        device: name of the device.
        precision: arithmetic used, fastest first, e.g. `"bfloat16, float32, float64"`.
        seconds: wall-clock time in s.
        forwards: number of examples sent forward through the module (in any precision).
        backwards: number of examples sent backward through the module.
        versions: versions of boundarygeo, Python, torch and numpy.
    """

    command: str
    seed: int | None = None
    model: str = ""
    source: str = ""
    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=software_versions)


def sum_of_provenances(parts: Sequence[Provenance]) -> Provenance:
    """The first provenance of parts of one analysis, with the total cost."""
    first = parts[0]
    for field in dataclasses.fields(Provenance):
        if field.name not in COSTS and any(getattr(part, field.name) != getattr(first, field.name) for part in parts):
            raise ValueError(f"parts must have the same {field.name!r} in their provenance: join one analysis only")
    return dataclasses.replace(first, **{cost: sum(getattr(part, cost) for part in parts) for cost in COSTS})
