"""`creps average`: an average of another length of a run's generator, as a checkpoint."""

from typing import Annotated

import typer

from creps_jax import places
from creps_jax.options import one_line_errors, option


def average(
    workdir: Annotated[
        str, typer.Option(metavar="DIR", help="Workdir of a run with recipe.power_averages=True.")
    ],
    sigma: Annotated[
        float,
        typer.Option(
            help="Length: the standard deviation of the steps that count, as a share of all; "
            "0.02 to 0.25."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="A folder for the checkpoint; also gs://...")
    ],
) -> None:
    """Make a checkpoint of an average over the training, of any length.

    Training keeps two averages that weigh steps by a power of their number, and snapshots of them
    at each evaluation; sums of these are the averages of other lengths. creps evaluate tells which
    is the best.

    Example: creps average --workdir=runs/scenes --sigma=.1 --out=runs/scenes-0.1
    """
    with option("--workdir"):
        folder = places.path(workdir)
    with option("--out"):
        target = places.path(out)
    with one_line_errors(OSError, ValueError):
        from creps_jax.training import snapshots

        step = snapshots.average(folder, sigma, target)
    typer.echo(f"{out} is complete, of steps up to {step}")
