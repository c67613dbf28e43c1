"""What every analysis returns: fields with named dimensions and units, saved to Zarr through xarray; statistics."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boundarygeo.results.result import Provenance, Result, array, load, open_store

__all__ = ["Provenance", "Result", "array", "load", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from boundarygeo.results import result  # loads PyTorch and xarray, which `overwriting` does without

    return getattr(result, name)
