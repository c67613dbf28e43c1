"""The command line: parse, call, save and plot. No mathematics, no statistics.

Every error is one line, with exit status 2. Commands hold their signatures and load what they call when they run, so
that help and errors about options do not wait for PyTorch.
"""

import os
import sys
import warnings
from typing import Annotated

import typer

import boundarygeo as bg
from boundarygeo.cli import (
    accuracy,
    compare,
    demo,
    dims,
    distances,
    explore,
    info,
    lines,
    maps,
    pieces,
    status,
    train,
    transfer,
)

_INTERRUPTED = 130  # the shell's status for SIGINT

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("maps")(maps.maps)
app.command("explore")(explore.explore)
app.command("lines")(lines.lines)
app.command("distances")(distances.distances)
app.command("dims")(dims.dims)
app.add_typer(transfer.app, name="transfer")
app.command("compare")(compare.compare)
app.command("accuracy")(accuracy.accuracy)
app.command("pieces")(pieces.pieces)
app.command("status")(status.status)
app.command("train")(train.train)
app.command("info")(info.info)


@app.callback(invoke_without_command=True)
def boundarygeo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """The geometry of decision boundaries of PyTorch classifiers."""
    if version:
        print(f"boundarygeo {bg.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: words after `boundarygeo`, by default those of the process.

    Raises:
        SystemExit: always: 0 after success, 1 if `status` finds damage, 2 after an error, 130 after an interrupt.
    """
    usual_format = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"boundarygeo: warning: {message}\n"
    try:
        status = app(args=arguments, prog_name="boundarygeo", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", _INTERRUPTED)
    except Exception as error:
        if os.environ.get("BOUNDARYGEO_DEBUG"):
            raise
        # The parser's usage errors format themselves in one line.
        words = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
        commands = getattr(getattr(getattr(error, "ctx", None), "command", None), "commands", None)
        if commands:  # no command was parsed
            words += f" Choose one of {', '.join(commands)} first."
        expected = isinstance(error, ValueError | TypeError | OSError) or hasattr(error, "format_message")
        hint = "" if expected else f" ({type(error).__name__}; set BOUNDARYGEO_DEBUG=1 for the traceback)"
        _fail(" ".join(words.replace(": Value error, ", ": ").split()) + hint, 2)
    else:
        if status == _INTERRUPTED:  # how some versions of typer pass on Ctrl-C
            _fail("interrupted", _INTERRUPTED)
        raise SystemExit(status if isinstance(status, int) else 0)
    finally:
        warnings.formatwarning = usual_format


def _fail(message: str, status: int) -> None:
    print(f"boundarygeo: error: {message}", file=sys.stderr)
    raise SystemExit(status)
