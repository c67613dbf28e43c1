"""Results as pages of their own: one HTML file that needs no server, no network and no model."""

from boundarygeo.explorer.build import explorer_page

__all__ = ["explorer_page"]
