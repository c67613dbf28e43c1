"""The geometry of decision boundaries of PyTorch classifiers.

Inputs live in [0, 1] (or the stated bounds) before normalisation; every ε, extent and distance is in those units.
"""

import ast
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

# Names are imported on first use, so that `boundarygeo --help` does not wait for PyTorch. They are listed once, as
# imports in `__init__.pyi`, for type checkers and for this file.
_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {name.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}

# Where names of version 0.1 are now.
_MOVED = {
    **dict.fromkeys(
        ("best_second_order_count", "claimed_dimension", "cone_probability", "gaas_frame", "random_overlap",
         "second_order_count"), "theory",
    ),
    **dict.fromkeys(
        ("CertifiedRadii", "MixupInference", "RandomisedSmoothing", "SmoothedPredictions", "certify",
         "predict_smoothed", "with_mixup_inference", "with_smoothing"), "defences",
    ),
}  # fmt: skip

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll] (it reads the stub)


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        room = _MOVED[name]
        warnings.warn(f"boundarygeo.{name} is now boundarygeo.{room}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(f"{__name__}.{room}"), name)
    if name not in _HOMES:
        raise AttributeError(f"module 'boundarygeo' has no attribute {name!r}")
    home = _HOMES[name]
    found = import_module(f"{__name__}.{name}") if home == __name__ else getattr(import_module(str(home)), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
