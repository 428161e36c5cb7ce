"""`creps export`: a checkpoint's networks, for other programs."""

import enum
from typing import Annotated

import typer

from creps_jax import places
from creps_jax.options import Workdir, argument_errors, one_line_errors, option


class Format(enum.StrEnum):
    """The names in interop.exporting.FORMATS."""

    safetensors = "safetensors"
    npz = "npz"
    stablehlo = "stablehlo"


def export(
    workdir: Workdir,
    to: Annotated[
        Format,
        typer.Option(
            help="safetensors, npz: G, D and G_ema by official names; stablehlo: G_ema as programs "
            "that need JAX alone.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="FILE.safetensors, FILE.npz, or a folder for the programs; also gs://...",
        ),
    ],
    networks: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What a file will have, as G_ema, which is enough to render. [default: all of "
            "G,D,G_ema]",
        ),
    ] = None,
) -> None:
    """Write a checkpoint's networks for other programs, with a card of what they are beside them.

    The official program's networks load the arrays strictly, by name, without the prefixes G/, D/
    and G_ema/. StableHLO programs take any number of images, rows and columns.

    Example: creps export --workdir=runs/demo --to=safetensors --out=runs/demo.safetensors
    """
    with option("--workdir"):
        workdir = places.path(workdir)
    with option("--out"):
        path = places.path(out)
        if to is not Format.stablehlo and path.suffix != f".{to}":
            raise ValueError(f"{out} must end with .{to}, as demo.{to} does")
    names = None if networks is None else [name.strip() for name in networks.split(",")]

    from creps_jax import devices

    devices.cache_compilations()
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(OSError, ValueError, MemoryError), full:
        from creps_jax.interop.exporting import export_networks

        with argument_errors():
            written = export_networks(workdir, to, path, names)
    typer.echo("\n".join(f"{file} is complete" for file in written))
