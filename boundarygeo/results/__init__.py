"""What every analysis returns: fields with named dimensions and units, saved to Zarr through xarray; statistics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boundarygeo.results.provenance import Provenance
    from boundarygeo.results.result import Result, array
    from boundarygeo.results.storage import load, open_store

__all__ = ["Provenance", "Result", "array", "load", "open_store"]

# They load PyTorch and xarray, which `overwriting` does without.
_HOMES = {"Provenance": "provenance", "Result": "result", "array": "result", "load": "storage", "open_store": "storage"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
