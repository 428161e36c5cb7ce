"""`creps video`: walks through seeds and flights over images.

Help and wrong options must answer at once, so whatever needs jax is imported inside the function.
"""

import enum
from pathlib import Path
from typing import Annotated

import typer

from creps_jax import disk
from creps_jax.options import (
    MAX_FPS,
    Label,
    Model,
    Precision,
    PrecisionOption,
    Truncation,
    WorkdirOrModel,
    argument_errors,
    check_range,
    check_truncation,
    network_path,
    one_line_errors,
    option,
    parse_camera,
    parse_frame,
    parse_grid,
    parse_seeds,
)
from creps_jax.progress import progress


class Interpolation(enum.StrEnum):
    """The names in rendering.video.INTERPOLATIONS."""

    linear = "linear"
    cubic = "cubic"
    spherical = "spherical"


class Easing(enum.StrEnum):
    """The names in rendering.video.EASINGS."""

    linear = "linear"
    smooth = "smooth"


def video(
    seeds: Annotated[
        str,
        typer.Option(
            help="Images to walk through, or one: 3, 0-7 (7 included) or 0,5,9-12; may come again."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="FILE.mp4 (H.264), or FILE.webp (animated).")
    ],
    workdir: WorkdirOrModel = None,
    model: Model = None,
    size: Annotated[
        str,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size, px; with --grid, of each cell; one number: the height, the width being in "
            "proportion.",
        ),
    ] = "512",
    seconds: Annotated[float, typer.Option(help="Duration.")] = 8.0,
    fps: Annotated[int, typer.Option(help="Frames per second; at most 50 in a WebP.")] = 30,
    interpolation: Annotated[
        Interpolation,
        typer.Option(
            help="Between seeds: linear or cubic (a smooth curve through all) in w, or spherical "
            "in z."
        ),
    ] = Interpolation.linear,
    camera: Annotated[
        str,
        typer.Option(
            metavar="y,x,zoom[,degrees];...",
            help="Key-frames: the point in the middle, from 0,0 (top left) to 1,1; how many times "
            "enlarged; how far turned clockwise.",
        ),
    ] = ".5,.5,1",
    easing: Annotated[
        Easing, typer.Option(help="smooth slows down at every seed and camera key-frame.")
    ] = Easing.smooth,
    loop: Annotated[
        bool, typer.Option("--loop", help="Return to the start without a jump; a WebP repeats.")
    ] = False,
    grid: Annotated[
        str,
        typer.Option(
            metavar="ROWSxCOLUMNS",
            help="Several walks side by side; seeds are dealt out to the cells in turn.",
        ),
    ] = "1x1",
    supersample: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="A pixel is the mean of K x K. [default: of 1; of more where pixels are larger "
            "than training pixels]",
        ),
    ] = None,
    truncation: Truncation = 1.0,
    label: Label = None,
    crf: Annotated[int, typer.Option(help="Of the mp4: 0 is best, 51 smallest.")] = 18,
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Write a video: a walk through several seeds, a flight over one, or both.

    Seeds and camera key-frames are spread evenly over the duration. Frames are written as they are
    painted; the file is complete or absent.

    Examples:

    creps video --workdir=runs/church --seeds=0-5 --loop --out=walk.mp4

    creps video --workdir=runs/church --seeds=3 --camera=".5,.5,1; .4,.3,500" --out=zoom.mp4
    """
    path = network_path(workdir, model)
    with option("--out"):
        out = disk.utf8_path(out)
    with option("--seeds"):
        parsed_seeds = parse_seeds(seeds)
    with option("--size"):
        frame = parse_frame(size)
    with option("--fps"):
        check_range(fps, 1, MAX_FPS)
    with option("--seconds"):
        check_range(seconds, 1 / fps, 10**6 / fps)
    with option("--camera"):
        key_frames = parse_camera(camera)
    with option("--grid"):
        cells = parse_grid(grid)
    with option("--truncation"):
        check_truncation(truncation)
    with option("--crf"):
        check_range(crf, 0, 51)

    import creps_jax
    from creps_jax import devices
    from creps_jax.rendering.video.camera import Camera
    from creps_jax.rendering.video.encoders import format_of
    from creps_jax.rendering.video.saving import save_video

    with option("--out"):
        format_of(out)  # To know at once what is wrong with it.
    devices.cache_compilations()
    expected = OSError, ValueError, ImportError, MemoryError
    full = devices.memory_errors(devices.FOR_PAINTING)
    with one_line_errors(*expected), full, progress() as shown:
        painter = creps_jax.load(path, precision)
        with argument_errors(path="--out", seed="--seeds", label="--class"):
            save_video(
                painter,
                out,
                parsed_seeds,
                size=frame,
                seconds=seconds,
                fps=fps,
                interpolation=interpolation,
                camera=[Camera(*key) for key in key_frames],
                easing=easing,
                loop=loop,
                grid=cells,
                supersample=supersample,
                truncation=truncation,
                label=label,
                crf=crf,
                shown=shown,
                note=typer.echo,
            )
