"""`boundarygeo status`: how far a long run is."""

from pathlib import Path
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.outputs import has_folder


def status(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE", help="What --out named; finished or not.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare all finished parts with their checksums.")] = False,
) -> None:
    """How far the commands are that write these stores, which may be running.

    The exit status is 1 where --verify finds damage.
    """
    for store in stores:
        if not has_folder(store):
            raise ValueError(f"there is no store {store}, finished or not")
    found = [bg.run_status(store, verify=verify) for store in stores]
    for each in found:
        print(each)
    if any(each.damaged for each in found):
        raise typer.Exit(1)
