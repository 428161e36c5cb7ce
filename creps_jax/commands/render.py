"""`creps render`: images to files.

Help and wrong options must answer at once, so whatever needs jax is imported inside the functions.
"""

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from creps_jax import places
from creps_jax.options import (
    Label,
    Precision,
    PrecisionOption,
    Truncation,
    Workdir,
    check_truncation,
    one_line_errors,
    option,
    output_paths,
    parse_frame,
    parse_part,
    parse_seeds,
    parse_styles,
    parse_window,
)
from creps_jax.progress import progress

if TYPE_CHECKING:
    import numpy as np


class Sampling(enum.StrEnum):
    """The names in model.coordinates.SAMPLINGS."""

    centers = "centers"
    endpoints = "endpoints"


def render(
    workdir: Workdir,
    seeds: Annotated[
        str, typer.Option(help="One image for each seed: 3, 0-7 (7 included) or 0,5,9-12.")
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR|FILE",
            help="Folder for seed0000.png, ..., made if need be; or, for one seed, a FILE.png, "
            ".tif (tiled BigTIFF), .zarr (also gs://...) or .dzi (Deep Zoom).",
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size of the frame, px; one number: the height, the width being in proportion. "
            "[default: of the training images]",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="y0,x0,y1,x1",
            help="Part of the frame, px, y1 and x1 excluded. [default: all of it]",
        ),
    ] = None,
    truncation: Truncation = 1.0,
    cutoff: Annotated[
        int | None,
        typer.Option(metavar="N", help="Truncate the first N layers only. [default: all]"),
    ] = None,
    styles: Annotated[
        str | None,
        typer.Option(
            metavar="SEED:LAYERS",
            help="Layers that take their latents from another seed: 5:8-14 or 5:8-14,9:3.",
        ),
    ] = None,
    label: Label = None,
    sampling: Annotated[
        Sampling,
        typer.Option(
            help="Where pixels are: centers keep an image in place at every size, "
            "endpoints is the official program's grid."
        ),
    ] = Sampling.centers,
    supersample: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="A pixel is the mean of K x K. [default: of 1; below the training images' "
            "size, of two a training pixel]",
        ),
    ] = None,
    warp: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:AMOUNT",
            help="rotate:30, shear:.2, perspective:20 (degrees), fisheye:.5, cylinder:120 "
            "(degrees) or polar:1 (turns).",
        ),
    ] = None,
    precision: PrecisionOption = Precision.float32,
    part: Annotated[
        str,
        typer.Option(
            metavar="INDEX/COUNT",
            help="What this process does of the work, from 0/COUNT on; the processes share a disk "
            "or a bucket. Whichever ends last completes the image.",
        ),
    ] = "0/1",
) -> None:
    """Render images, of any size and in any window, to files.

    The frame is the whole image stretched over HEIGHT x WIDTH pixels, also where these two differ.
    With --window only that part of the frame is computed: it equals the crop of the whole. An image
    depends on its seed alone. Files are complete or absent: stopped or killed, the same command
    continues with the tiles that are missing, and leaves out what is complete already. Other files
    of the same name are replaced.

    Example: creps render --workdir=runs/church --seeds=0-7 --size=1024x1024 --out=images
    """
    with option("--workdir"):
        workdir = places.path(workdir)
    with option("--seeds"):
        parsed_seeds = list(dict.fromkeys(parse_seeds(seeds)))  # Each image once.
    with option("--size"):
        frame = None if size is None else parse_frame(size)
    with option("--window"):
        corners = None if window is None else parse_window(window)
    with option("--truncation"):
        check_truncation(truncation)
    with option("--styles"):
        layers = {} if styles is None else parse_styles(styles)
    with option("--out"):
        paths = output_paths(out, parsed_seeds)
    with option("--part"):
        index, count = parse_part(part)

    import creps_jax
    from creps_jax import devices
    from creps_jax.model import coordinates
    from creps_jax.rendering import latents, saving
    from creps_jax.rendering.files import writing
    from creps_jax.rendering.warp import maps

    with option("--warp"):
        moved = None if warp is None else maps.parse(warp)
    devices.cache_compilations()
    with one_line_errors(OSError, ValueError, MemoryError):
        painter = creps_jax.load(workdir, precision)
    config, place = painter.generator.config, coordinates.SAMPLINGS[sampling]
    with option("--size"):
        painter.plan(frame, sampling=place)
    with option("--window"):
        painter.plan(frame, corners, place)
    with option("--supersample"):
        plan = painter.plan(frame, corners, place, supersample, moved)
    with option("--class"):
        latents.check_label(label, config.num_classes)
    with option("--cutoff"):
        latents.check_cutoff(cutoff, config.num_ws)
    with option("--styles"):
        latents.check_styles(layers, config.num_ws)

    def latents_of(seeds: Sequence[int]) -> "np.ndarray":
        return painter.latents_of(seeds, label, truncation, cutoff, layers)

    with option("--truncation"):
        first = saving.picture(painter, latents_of(parsed_seeds[:1])[0], plan)
    with option("--out"):
        writing.check(paths[0], first)

    work = list(zip(parsed_seeds, paths, strict=True))
    if len(work) > 1:  # Whole images are dealt out, not the blocks of each.
        work, index, count = work[index::count], 0, 1
    images = "1 image" if len(work) == 1 else f"{len(work)} images"
    height, width = plan.window.shape
    typer.echo(f"{images} of {height}x{width} px, on {painter.device}, to {out}")
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(OSError, ValueError, MemoryError), full, progress() as shown:
        complete = saving.save_each(
            painter, work, latents_of, plan, (index, count), shown, typer.echo
        )
    if count > 1:
        typer.echo(
            f"{out} is complete"
            if complete
            else f"part {part} is painted; {out} waits for other parts"
        )
