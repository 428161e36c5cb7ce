"""`creps dataset`: training sets from any images."""

from pathlib import Path
from typing import Annotated

import typer

from creps_jax import machine
from creps_jax.options import (
    argument_errors,
    check_range,
    one_line_errors,
    option,
    parse_size,
    require_train_extra,
)
from creps_jax.progress import progress


def dataset(
    source: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            help="Folder, FILE.zip, FILE.tar, folder of an LMDB, or tfds:NAME; the images of "
            "several follow one another.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.zip|DIR",
            help="FILE.zip: a zip in StyleGAN's form; a folder: a TFDS set of array_record.",
        ),
    ],
    size: Annotated[
        str,
        typer.Option(metavar="HEIGHTxWIDTH", help="Size of the images, px; one number: a square."),
    ],
    crop: Annotated[
        bool,
        typer.Option(
            help="Crop the largest window of that shape, in the middle; else keep the whole image, "
            "its shorter side as long as a square's, for data.random_crop."
        ),
    ] = True,
    grey: Annotated[bool, typer.Option("--grey", help="One channel instead of three.")] = False,
    min_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Drop images whose shorter side is less. [default: that of --size: none is "
            "enlarged]",
        ),
    ] = None,
    max_megapixels: Annotated[
        float,
        typer.Option(
            help="Drop images of more pixels; each takes up to 12 bytes of memory in each process."
        ),
    ] = 128.0,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="folders|FILE|none",
            help="Classes: the folders that images lie in, or a FILE.json or FILE.csv of names and "
            "classes. [default: the sources' own]",
        ),
    ] = None,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Keep the first of images with equal pixels.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes that decode and scale.")
    ] = machine.cores(),
) -> None:
    """Make a training set of images: cropped, scaled, checked, with a report and a contact sheet.

    Files that are as wanted already are kept byte for byte, others become PNG files: turned as
    their EXIF says, in sRGB, over white where they are transparent, the first of an animation.
    Damaged images, those in links or names that lead out of their source, and too small ones are
    dropped and listed in the report. The set is complete or absent: stopped or killed, the same
    command continues.

    Examples:

    creps dataset --source=photos --size=256 --out=datasets/mine.zip

    creps dataset --source=a.zip --source=b.tar --size=512 --labels=folders --out=datasets/mine
    """
    with option("--size"):
        height, width = parse_size(size)
        if not crop and height != width:
            raise ValueError(f"without --crop give one number, got {size}")
    with option("--min-size"):
        if min_size is not None:
            check_range(min_size, 1, 2**16)
    with option("--max-megapixels"):
        check_range(max_megapixels, 0.001, 1e5)
    with option("--processes"):
        check_range(processes, 1, 1024)

    with one_line_errors(ValueError):
        require_train_extra("imagecodecs")

    from creps_jax.data.preparation.sets import make_set

    with (
        one_line_errors(OSError, ValueError, MemoryError),
        progress() as shown,
        argument_errors(),
    ):
        make_set(
            source,
            out,
            (height, width),
            crop=crop,
            channels=1 if grey else 3,
            min_size=min_size,
            max_megapixels=max_megapixels,
            labels=labels,
            deduplicate=deduplicate,
            processes=processes,
            shown=shown,
            note=typer.echo,
        )
