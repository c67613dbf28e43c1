"""`boundarygeo explore`: saved boundary maps as an interactive page."""

from pathlib import Path
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.outputs import check_new
from boundarygeo.cli.words import at_least

_SUFFIXES = (".html", ".htm")


def explore(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="Zarr store written by `boundarygeo maps`.")],
    out: Annotated[Path, typer.Option(help="Page to write: .html.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Boundary maps",
    class_names: Annotated[
        str | None, typer.Option(help="Names of all classes, separated by commas; by default those in RESULT.")
    ] = None,
    examples: Annotated[int | None, typer.Option(help="Number of maps, from the first; by default all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Make an HTML page of saved maps: hover over a pixel to see its input, offline and without a model."""
    if out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out must end in {', '.join(_SUFFIXES)}: {str(out)!r} does not")
    if out.is_dir():
        raise ValueError(f"--out must be a file: {str(out)!r} is a folder")
    check_new(out, "--out", overwrite=overwrite, kind="page")
    at_least(examples, 1, "--examples")

    from boundarygeo.explorer import explorer_page

    maps = bg.load(result)
    if not isinstance(maps, bg.BoundaryMaps):
        raise ValueError(f"RESULT must hold boundary maps: {str(result)!r} holds {type(maps).__name__}")
    shown = min(examples or len(maps.labels), len(maps.labels))
    names = None if class_names is None else [name.strip() for name in class_names.split(",")]
    page = explorer_page(maps, class_names=names, title=title, cells=range(shown)).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(page)
    print(f"saved {out} ({shown} maps, {len(page) / 1e6:.1f} MB)")
