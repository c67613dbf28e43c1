"""`boundarygeo transfer`: what adversarial examples, subspaces and boundaries of several models share."""

import typer

from boundarygeo.cli.transfer import agreement, dimension, distances, matrix, overlap, shared

app = typer.Typer(rich_markup_mode=None)
app.command("matrix")(matrix.matrix)
app.command("dimension")(dimension.dimension)
app.command("shared")(shared.shared)
app.command("overlap")(overlap.overlap)
app.command("distances")(distances.distances)
app.command("agreement")(agreement.agreement)


@app.callback(invoke_without_command=True)
def transfer(context: typer.Context) -> None:
    """Compare two or more models, on the test examples that all of them classify correctly."""
    if context.invoked_subcommand is None:
        print(context.get_help())
