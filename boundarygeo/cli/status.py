"""`boundarygeo status`: how far a long run is."""

from pathlib import Path
from typing import Annotated

import typer

from boundarygeo.runs import run_status


def status(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE", help="What --out named; finished or not.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare all finished parts with their checksums.")] = False,
) -> None:
    """How far the commands are that write these stores, which may be running.

    The exit status is 1 where --verify finds damage.
    """
    found = [run_status(store, verify=verify) for store in stores]
    for each in found:
        print(each)
    if any(each.damaged for each in found):
        raise typer.Exit(1)
