"""The version, read from the installed package's metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("boundarygeo")
except PackageNotFoundError:  # a source tree on the path without an installation
    __version__ = "0+unknown"
