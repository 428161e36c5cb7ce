"""`creps render`: images to files.

Help and wrong options must answer at once, so whatever needs jax is imported inside the function.
"""

import enum
from typing import Annotated

import typer

from creps_jax.options import (
    Label,
    Model,
    Precision,
    PrecisionOption,
    Truncation,
    WorkdirOrModel,
    argument_errors,
    check_truncation,
    network_path,
    one_line_errors,
    option,
    parse_frame,
    parse_part,
    parse_seeds,
    parse_styles,
    parse_window,
)
from creps_jax.progress import progress
from creps_jax.rendering.files.names import files_of


class Sampling(enum.StrEnum):
    """The names in model.coordinates.SAMPLINGS."""

    centers = "centers"
    endpoints = "endpoints"


def render(
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
    workdir: WorkdirOrModel = None,
    model: Model = None,
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

    Example: creps render --model=scenes --seeds=0-7 --size=1024x1024 --out=images
    """
    path = network_path(workdir, model)
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
        files_of(out, parsed_seeds)  # To know at once what is wrong with it.
    with option("--part"):
        index, count = parse_part(part)

    import creps_jax
    from creps_jax import devices

    devices.cache_compilations()
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(OSError, ValueError, MemoryError), full, progress() as shown:
        painter = creps_jax.load(path, precision)
        with argument_errors(path="--out", seed="--seeds", label="--class"):
            complete = painter.save(
                out,
                parsed_seeds,
                size=frame,
                window=corners,
                truncation=truncation,
                cutoff=cutoff,
                styles=layers,
                label=label,
                sampling=sampling,
                supersample=supersample,
                warp=warp,
                part=(index, count),
                shown=shown,
                note=typer.echo,
            )
    if count > 1 and len(parsed_seeds) == 1:
        waits = f"part {part} is painted; {out} waits for other parts"
        typer.echo(f"{out} is complete" if complete else waits)
