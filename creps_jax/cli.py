"""The `creps` command, before and after training; one module of `commands` each."""

from typing import Annotated

import typer

from creps_jax import __version__, console, places
from creps_jax.commands.average import average
from creps_jax.commands.build import build
from creps_jax.commands.dataset import dataset
from creps_jax.commands.evaluate import evaluate
from creps_jax.commands.export import export
from creps_jax.commands.import_ import import_
from creps_jax.commands.render import render
from creps_jax.commands.video import video

# Plain text, so that an error is one line whatever the terminal's width.
app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(render)
app.command()(video)
app.command()(dataset)
app.command()(build)
app.command()(evaluate)
app.command()(average)
app.command("import")(import_)
app.command()(export)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"creps {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Images of any size, any window and any shape from a trained CREPS model."""


def run() -> None:
    """The command itself: `app`, whose work goes on when nobody reads what it says."""
    console.take_over()
    console.without_repeats()
    places.use_gcsfs()
    app()


if __name__ == "__main__":
    run()
