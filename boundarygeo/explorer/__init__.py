"""Results as standalone pages: one HTML file that needs no server, network or model."""

from boundarygeo.explorer.build import explorer_page

__all__ = ["explorer_page"]
