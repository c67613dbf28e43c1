"""`boundarygeo status`: progress of a long run."""

from pathlib import Path
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli.outputs import has_folder


def status(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE", help="Path given to --out, finished or not.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check all finished parts against their checksums.")] = False,
) -> None:
    """Progress of the commands that write these stores, even while they run.

    The exit status is 1 if --verify finds damage.
    """
    for store in stores:
        if not has_folder(store):
            raise ValueError(f"there is no store {store}, finished or not")
    found = [bg.run_status(store, verify=verify) for store in stores]
    for each in found:
        print(each)
    if any(each.damaged for each in found):
        raise typer.Exit(1)
