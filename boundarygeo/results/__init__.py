"""What every analysis returns: fields with named dimensions and units, saved to Zarr through xarray; statistics."""

from typing import TYPE_CHECKING

from boundarygeo.lazy import importing

if TYPE_CHECKING:
    from boundarygeo.results.provenance import Provenance
    from boundarygeo.results.result import Result, array
    from boundarygeo.results.storage import load, open_store

__all__ = ["Provenance", "Result", "array", "load", "open_store"]
__getattr__ = importing(
    __name__,
    {"Provenance": "provenance", "Result": "result", "array": "result", "load": "storage", "open_store": "storage"},
)
