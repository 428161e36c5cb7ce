"""The `creps` command: what can be done with a trained model.

Help must answer at once, so whatever needs jax is imported inside the commands.
"""

import enum
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from creps_jax import __version__
from creps_jax.options import (
    check_truncation,
    one_line_errors,
    option,
    parse_seeds,
    parse_size,
    parse_window,
)

if TYPE_CHECKING:
    import numpy as np

# Plain text, so that an error is one line whatever the terminal's width.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Sampling(enum.StrEnum):
    """The names in model.coordinates.SAMPLINGS."""

    centers = "centers"
    endpoints = "endpoints"


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


@app.command()
def render(
    workdir: Annotated[
        Path, typer.Option(help="Workdir of the training run, or the folder of one checkpoint.")
    ],
    seeds: Annotated[
        str, typer.Option(help="One image for each seed: 3, 0-7 (7 included) or 0,5,9-12.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for seed0000.png, ...; made if need be."),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size of the frame, px; one number: a square. [default: the training resolution]",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="y0,x0,y1,x1",
            help="Part of the frame, px, y1 and x1 excluded. [default: all of it]",
        ),
    ] = None,
    truncation: Annotated[
        float, typer.Option(metavar="PSI", help="1: none; 0: the mean image; between: less varied.")
    ] = 1.0,
    label: Annotated[
        int | None,
        typer.Option("--class", metavar="N", help="Class, for a class-conditional model."),
    ] = None,
    sampling: Annotated[
        Sampling,
        typer.Option(
            help="Where pixels are: centers keep an image in place at every size, "
            "endpoints is the official program's grid."
        ),
    ] = Sampling.centers,
) -> None:
    """Render images to 8-bit PNG files.

    The frame is the whole image stretched over HEIGHT x WIDTH pixels, also where these two differ.
    With --window only that part of the frame is computed: it equals the crop of the whole. An image
    depends on its seed alone. Existing files are replaced.

    Example: creps render --workdir=runs/church --seeds=0-7 --size=1024x1024 --out=images
    """
    workdir, out = workdir.expanduser(), out.expanduser()  # No shell does it behind a "=".
    with option("--seeds"):
        parsed_seeds = parse_seeds(seeds)
    with option("--size"):
        frame = None if size is None else parse_size(size)
    with option("--window"):
        corners = None if window is None else parse_window(window)
    with option("--truncation"):
        check_truncation(truncation)

    import jax
    from rich.console import Console
    from rich.progress import track

    from creps_jax import checkpoint
    from creps_jax.model import coordinates
    from creps_jax.rendering import render as rendering

    with one_line_errors(OSError, ValueError):
        generator, variables = checkpoint.load_generator(workdir)
    config = generator.config
    place = coordinates.SAMPLINGS[sampling]
    frame = frame or (config.resolution, config.resolution)
    with option("--size"):
        for n in frame:
            coordinates.positions(0, 1, n, config.resolution, place)
    with option("--window"):
        corners = rendering.resolve_window(corners, frame)
    with option("--class"):
        rendering.check_label(label, config.num_classes)
    with option("--out"):
        make_writable_folder(out)

    device = jax.devices()[0].device_kind
    height, width = corners.y1 - corners.y0, corners.x1 - corners.x0
    images = "1 image" if len(parsed_seeds) == 1 else f"{len(parsed_seeds)} images"
    typer.echo(f"{images} of {height}x{width} px, on {device}, to {out}")
    console = Console(stderr=True)
    # Without 'highest', accelerators multiply float32 numbers in fewer bits.
    with one_line_errors(OSError, MemoryError), jax.default_matmul_precision("highest"):
        for seed in track(
            parsed_seeds, "Rendering", console=console, disable=not console.is_terminal
        ):
            ws = rendering.latent(generator, variables, seed, label, truncation)
            image = rendering.render(generator, variables, ws, frame, corners, place)
            save_png(rendering.to_uint8(image), out / f"seed{seed:04d}.png")


def make_writable_folder(path: Path) -> None:
    """Makes the folder unless it is there.

    Raises:
      ValueError: it cannot be made, or nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (probe := _temporary(path / "probe")).touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write into the folder {path}: {error.strerror}") from error


def save_png(image: "np.ndarray", path: Path) -> None:
    """Writes uint8 [height, width, 1 or 3] as PNG; no half-written file ever bears the name."""
    import PIL.Image

    temporary = _temporary(path)
    try:
        # Pillow wants grey images without the channel axis.
        grey = image.shape[-1] == 1
        PIL.Image.fromarray(image[..., 0] if grey else image).save(temporary, "PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
