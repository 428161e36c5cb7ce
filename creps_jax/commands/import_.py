"""`creps import`: official weights, and those of other files, as a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from creps_jax import disk, places
from creps_jax.options import one_line_errors, option
from creps_jax.progress import progress


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The official program's .pkl; or .pt, .pth, .safetensors, .npz with its names.",
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="A folder for the checkpoint; also gs://...")
    ],
) -> None:
    """Make a checkpoint of weights in a file; nothing in it is executed, PyTorch is not needed.

    What the shapes tell is inferred: size, widths, classes. The checkpoint renders; training starts
    from it, or from the file itself, with --config.init_from.

    Example: creps import creps-ffhq-512x512.pkl --out=runs/ffhq
    """
    with option("FILE"):
        file = disk.local_path(file)
        if not file.is_file():
            raise ValueError(f"{file} is no file")
    with option("--out"):
        folder = places.path(out)
    with one_line_errors(OSError, ValueError, MemoryError), progress() as shown:
        from creps_jax.interop.importing import import_file

        import_file(file, folder, typer.echo, shown)
    typer.echo(f"{out} is complete: creps render --workdir={out} --seeds=0-7 --out=images")
