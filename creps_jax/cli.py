"""The `creps` command: what can be done with a trained model.

Help must answer at once, so whatever needs jax is imported inside the commands.
"""

import enum
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from creps_jax import __version__
from creps_jax.options import (
    cache_compilations,
    check_truncation,
    one_line_errors,
    option,
    output_paths,
    parse_part,
    parse_seeds,
    parse_size,
    parse_styles,
    parse_window,
)
from creps_jax.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from creps_jax.progress import Advance
    from creps_jax.rendering.painter import Painter, Plan
    from creps_jax.rendering.render import Window
    from creps_jax.rendering.writers import Picture

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


class Precision(enum.StrEnum):
    """The names in rendering.painter.PRECISIONS."""

    float32 = "float32"
    bfloat16 = "bfloat16"


# Options of several commands.
Workdir = Annotated[
    Path, typer.Option(help="Workdir of the training run, or the folder of one checkpoint.")
]
Truncation = Annotated[
    float, typer.Option(metavar="PSI", help="1: none; 0: the mean image; between: less varied.")
]
Label = Annotated[
    int | None, typer.Option("--class", metavar="N", help="Class, for a class-conditional model.")
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Of products; bfloat16 is faster on accelerators.")
]


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
            help="A pixel is the mean of K x K. [default: of 1; below the training resolution, of "
            "two a training pixel]",
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
    workdir = workdir.expanduser()
    with option("--seeds"):
        parsed_seeds = parse_seeds(seeds)
    with option("--size"):
        frame = None if size is None else parse_size(size)
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

    import jax

    import creps_jax
    from creps_jax.model import coordinates
    from creps_jax.rendering import render as rendering
    from creps_jax.rendering import warp as warping
    from creps_jax.rendering import writers

    with option("--warp"):
        moved = None if warp is None else warping.parse(warp)
    cache_compilations()
    with one_line_errors(OSError, ValueError):
        painter = creps_jax.load(workdir, precision)
    config, place = painter.generator.config, coordinates.SAMPLINGS[sampling]
    with option("--size"):
        painter.plan(frame, sampling=place)
    with option("--window"):
        painter.plan(frame, corners, place)
    with option("--supersample"):
        plan = painter.plan(frame, corners, place, supersample, moved)
    with option("--class"):
        rendering.check_label(label, config.num_classes)
    with option("--cutoff"):
        rendering.check_cutoff(cutoff, config.num_ws)
    with option("--styles"):
        rendering.check_styles(layers, config.num_ws)

    arguments = (*plan[:2], sampling.value, plan.supersample, warp)

    def picture(seed: int) -> "tuple[np.ndarray, Picture]":
        ws = painter.latents(seed, label, truncation, cutoff, layers)
        key = painter.key(ws, *arguments)
        return ws, writers.Picture(plan.window, config.image_channels, key)

    ws, first = picture(parsed_seeds[0])
    with option("--out"):
        writers.check(paths[0], first)

    images = "1 image" if len(paths) == 1 else f"{len(paths)} images"
    height, width = plan.window.shape
    device = f"{painter.mesh.size} x " * (painter.mesh.size > 1) + jax.devices()[0].device_kind
    typer.echo(f"{images} of {height}x{width} px, on {device}, to {out}")
    if moved is not None:
        with one_line_errors(ValueError):
            worst, mean = painter.warp_error(painter.image(ws), plan)
        typer.echo(f"{warp}: at most {worst:.2f} of an 8-bit step off, {mean:.3f} on average")
    work = list(zip(parsed_seeds, paths, strict=True))
    if len(work) > 1:  # Whole images are dealt out, not the blocks of each.
        work, index, count = work[index::count], 0, 1
    blocks = len(rendering.blocks(plan.window, painter.block)) // count
    complete = True
    with (
        one_line_errors(OSError, ValueError, MemoryError),
        progress(blocks * len(work), "tiles") as advance,
    ):
        for seed, path in work:
            complete &= write_picture(painter, plan, *picture(seed), path, (index, count), advance)
    if count > 1:
        typer.echo(
            f"{out} is complete"
            if complete
            else f"part {part} is painted; {out} waits for other parts"
        )


def write_picture(
    painter: "Painter",
    plan: "Plan",
    ws: "np.ndarray",
    picture: "Picture",
    path: str,
    part: tuple[int, int],
    advance: "Advance",
) -> bool:
    """Writes what is missing of a part of a picture; whether the picture is complete then."""
    from creps_jax.rendering import render as rendering
    from creps_jax.rendering import writers

    blocks = len(rendering.blocks(plan.window, painter.block)) // part[1]

    def paint(windows: "list[Window]") -> "Iterator[tuple[Window, np.ndarray]]":
        nonlocal blocks
        advance(blocks - len(windows), 0)
        blocks = 0
        for window, pixels in painter.paint(painter.image(ws), plan, windows):
            yield window, pixels
            advance(1, math.prod(window.shape))

    complete = writers.write(path, picture, paint, block=painter.block, part=part)
    advance(blocks, 0)
    return complete


class Interpolation(enum.StrEnum):
    """The names in rendering.video.INTERPOLATIONS."""

    linear = "linear"
    cubic = "cubic"
    spherical = "spherical"


class Easing(enum.StrEnum):
    """The names in rendering.video.EASINGS."""

    linear = "linear"
    smooth = "smooth"


@app.command()
def video(
    workdir: Workdir,
    seeds: Annotated[
        str,
        typer.Option(help="Images to walk through, or one: 3, 0-7 (7 included) or 0,5,9-12."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="FILE.mp4 (H.264), or FILE.webp (animated).")
    ],
    size: Annotated[
        str,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size, px; with --grid, of each cell; one number: a square.",
        ),
    ] = "512x512",
    seconds: Annotated[float, typer.Option(help="Duration.")] = 8.0,
    fps: Annotated[int, typer.Option(help="Frames per second.")] = 30,
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
    workdir, out = workdir.expanduser(), out.expanduser()
    with option("--seeds"):
        parsed_seeds = parse_seeds(seeds)
    with option("--size"):
        cell = parse_size(size)
    with option("--fps"):
        check_range(fps, 1, 240)
    with option("--seconds"):
        check_range(seconds, 1 / fps, 10**6 / fps)
    with option("--camera"):
        key_frames = parse_camera(camera)
    with option("--grid"):
        rows, columns = parse_grid(grid, len(parsed_seeds))
    with option("--truncation"):
        check_truncation(truncation)
    with option("--crf"):
        check_range(crf, 0, 51)

    import jax

    import creps_jax
    from creps_jax.rendering import render as rendering
    from creps_jax.rendering import video as videos

    height, width = rows * cell[0], columns * cell[1]
    with option("--out"):
        kind = videos.format_of(out)
    with option("--size"):
        kind.check(height, width)
    timing = videos.Timing(round(seconds * fps), loop, videos.EASINGS[easing])
    with option("--camera"):
        cameras = videos.travel([videos.Camera(*key) for key in key_frames], timing)
    cache_compilations()
    with one_line_errors(OSError, ValueError, ImportError):
        videos.import_av()
        out.parent.mkdir(parents=True, exist_ok=True)
        painter = creps_jax.load(workdir, precision)
    with option("--size"):
        painter.plan(cell)
    with option("--supersample"):
        painter.plan(cell, supersample=supersample)
    with option("--camera"):
        plans = [videos.plan(painter, cell, at, supersample) for at in cameras]
    with option("--class"):
        rendering.check_label(label, painter.generator.config.num_classes)

    device = f"{painter.mesh.size} x " * (painter.mesh.size > 1) + jax.devices()[0].device_kind
    typer.echo(f"{timing.frames} frames of {height}x{width} px, on {device}, to {out}")
    with (
        one_line_errors(OSError, ValueError, MemoryError),
        progress(timing.frames, "frames") as advance,
    ):
        walks = [
            videos.walk(painter, part, timing, interpolation, label, truncation)
            for part in (parsed_seeds[i :: rows * columns] for i in range(rows * columns))
        ]

        def frames() -> "Iterator[np.ndarray]":
            for frame in videos.paint(painter, walks, plans, (rows, columns)):
                yield frame
                advance(1, height * width)

        videos.write(out, frames(), fps, loop, crf)


def check_range(value: float, low: float, high: float) -> None:
    """Raises ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"expected a number from {low:.6g} to {high:.6g}, got {value:g}")


def parse_camera(text: str) -> list[tuple[float, ...]]:
    """'.5,.5,1; .4,.3,8,90' -> [(0.5, 0.5, 1.0), (0.4, 0.3, 8.0, 90.0)]: y, x, zoom, degrees.

    Raises:
      ValueError: names the text and what is expected.
    """
    try:
        keys = [tuple(map(float, key.split(","))) for key in text.split(";")]
    except ValueError:
        keys = [()]
    if not all(len(key) in (3, 4) for key in keys):
        raise ValueError(
            "expected key-frames y,x,zoom or y,x,zoom,degrees as '.5,.5,1; .4,.3,8,90', "
            f"got {text!r}"
        )
    return keys


def parse_grid(text: str, seeds: int) -> tuple[int, int]:
    """'2x3' -> (2, 3), rows and columns.

    Raises:
      ValueError: names the text and what is expected, or the number of seeds that do not go round.
    """
    match = re.fullmatch("([0-9]+)x([0-9]+)", text)
    rows, columns = (int(match[1]), int(match[2])) if match else (0, 0)
    if rows * columns == 0:
        raise ValueError(f"expected ROWSxCOLUMNS as 2x3, got {text!r}")
    if seeds % (rows * columns):
        raise ValueError(
            f"{text} deals seeds out evenly to {rows * columns} cells, got {seeds} seeds: give "
            f"{rows * columns} or a multiple"
        )
    return rows, columns
