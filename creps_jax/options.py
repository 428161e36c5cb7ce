"""What the `creps` commands' options have in common: their texts in, checked values out.

Nothing here imports jax: help and wrong options must answer at once.
"""

import contextlib
import enum
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from creps_jax import places, shipped
from creps_jax.arguments import argument_of

MAX_SIDE_PX = 2**20
MAX_SEEDS = 10**6  # in one command
MAX_FPS = 240
FLOAT32_MAX = (2 - 2**-23) * 2.0**127


class Precision(enum.StrEnum):
    """The names in rendering.painter.PRECISIONS."""

    float32 = "float32"
    bfloat16 = "bfloat16"


# Options of several commands.
WORKDIR_HELP = "Workdir of the training run, or the folder of one checkpoint; also gs://..."
Workdir = Annotated[Path, typer.Option(help=WORKDIR_HELP)]
WorkdirOrModel = Annotated[Path | None, typer.Option(help=WORKDIR_HELP)]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Instead of a run: scenes, which comes with the program, or a file of weights.",
    ),
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


def network_path(workdir: str | Path | None, model: str | None) -> Path:
    """The path of the one that is given; a wrong one ends the command with code 2."""
    with option("--workdir"):
        if (workdir is None) == (model is None):
            raise ValueError("give one: --workdir=DIR of a run, or --model=NAME")
        if workdir is not None:
            return places.path(workdir)
    with option("--model"):
        return shipped.find(model)


def parse_seeds(text: str) -> list[int]:
    """'0,5,9-12' -> [0, 5, 9, 10, 11, 12], each as often as it is named.

    Raises:
      ValueError: names the text and what is expected.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32:
            raise ValueError(
                f"expected seeds from 0 to {2**32 - 1} as 3, 0-7 or 0,5,9-12, got {text!r}"
            )
        ranges.append(range(first, last + 1))
    if (count := sum(map(len, ranges))) > MAX_SEEDS:
        raise ValueError(f"expected at most {MAX_SEEDS} seeds, got {count} in {text!r}")
    return [seed for part in ranges for seed in part]


def parse_size(text: str) -> tuple[int, int]:
    """'512x256' -> (512, 256), height and width, px; '512' -> (512, 512).

    Raises:
      ValueError: names the text and what is expected.
    """
    frame = parse_frame(text)
    return frame if isinstance(frame, tuple) else (frame, frame)


def parse_frame(text: str) -> int | tuple[int, int]:
    """'512x256' -> (512, 256), height and width, px; '512' -> 512, the height.

    Raises:
      ValueError: names the text and what is expected.
    """
    match = re.fullmatch(r"([0-9]+)(?:x([0-9]+))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise ValueError(
            f"expected HEIGHTxWIDTH as 512x256, or one number, each from 1 to {MAX_SIDE_PX} px, "
            f"got {text!r}"
        )
    return (height, width) if match[2] else height


def parse_window(text: str) -> tuple[int, int, int, int]:
    """'0,64,128,256' -> (0, 64, 128, 256), y0, x0, y1 and x1, px.

    Raises:
      ValueError: names the text and what is expected.
    """
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch("-?[0-9]+", part.strip()) for part in parts):
        raise ValueError(f"expected y0,x0,y1,x1 in whole px as 0,64,128,256, got {text!r}")
    y0, x0, y1, x1 = map(int, parts)
    return y0, x0, y1, x1


def check_truncation(psi: float) -> None:
    """Raises ValueError unless psi is a number from 0 up that float32 can hold."""
    if not 0.0 <= psi <= FLOAT32_MAX:
        raise ValueError(f"expected a number from 0 up to {FLOAT32_MAX:.6g}, got {psi}")


def parse_styles(text: str) -> dict[int, int]:
    """'5:8-14,9:3' -> {8: 5, ..., 14: 5, 3: 9}, the seed of each layer named.

    Raises:
      ValueError: names the text and what is expected, or the layer that is given twice.
    """
    styles: dict[int, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+):([0-9]+)(?:-([0-9]+))?", part.strip())
        seed, first, last = (
            (int(match[1]), int(match[2]), int(match[3] or match[2])) if match else (0, 1, 0)
        )
        if not (first <= last < 100 and seed < 2**32):
            raise ValueError(
                f"expected SEED:LAYERS as 5:8-14 or 5:8-14,9:3, with seeds below {2**32}, "
                f"got {text!r}"
            )
        for layer in range(first, last + 1):
            if layer in styles:
                raise ValueError(f"layer {layer} is given twice in {text!r}")
            styles[layer] = seed
    return styles


def parse_part(text: str) -> tuple[int, int]:
    """'1/4' -> (1, 4), the second of four parts.

    Raises:
      ValueError: names the text and what is expected.
    """
    match = re.fullmatch("([0-9]+)/([0-9]+)", text)
    index, count = (int(match[1]), int(match[2])) if match else (1, 0)
    if not index < count:
        raise ValueError(f"expected INDEX/COUNT from 0/COUNT to COUNT-1/COUNT, got {text!r}")
    return index, count


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


def parse_grid(text: str) -> tuple[int, int]:
    """'2x3' -> (2, 3), rows and columns.

    Raises:
      ValueError: names the text and what is expected.
    """
    match = re.fullmatch("([0-9]+)x([0-9]+)", text)
    rows, columns = (int(match[1]), int(match[2])) if match else (0, 0)
    if rows * columns == 0:
        raise ValueError(f"expected ROWSxCOLUMNS as 2x3, got {text!r}")
    return rows, columns


def require_train_extra(package: str) -> None:
    """Raises ValueError, which says what to install, if a package of the extra is missing."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"this needs {package}: pip install 'creps-jax[train]'")


@contextlib.contextmanager
def option(name: str) -> Iterator[None]:
    """Reports a ValueError or an OSError as the fault of that option and exits with code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint=f"'{name}'") from error


@contextlib.contextmanager
def argument_errors(**options: str) -> Iterator[None]:
    """Reports an error about an argument as the fault of its option and exits with code 2.

    Args:
      options: arguments whose option is not called as they are, and its name.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        argument = argument_of(error)
        if argument is None:
            raise
        name = options.get(argument, f"--{argument}")
        raise typer.BadParameter(str(error), param_hint=f"'{name}'") from error


@contextlib.contextmanager
def one_line_errors(*errors: type[Exception]) -> Iterator[None]:
    """Reports such errors without a traceback and exits with code 1."""
    try:
        yield
    except errors as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
