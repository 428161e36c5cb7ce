"""A painter's pictures to files, for people and for `creps render` alike."""

import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from creps_jax.progress import Progress
from creps_jax.rendering import writers
from creps_jax.rendering.windows import Blocks, Window

if TYPE_CHECKING:
    from creps_jax.rendering.painter import Painter, Plan


def picture(painter: "Painter", ws: np.ndarray, plan: "Plan") -> writers.Picture:
    """What is written, with the key that finds it again."""
    channels = painter.generator.config.image_channels
    return writers.Picture(plan.window, channels, painter.key(ws, plan))


def save(
    painter: "Painter",
    path: str | os.PathLike,
    ws: np.ndarray,
    plan: "Plan",
    part: tuple[int, int] = (0, 1),
    shown: Progress | None = None,
    images: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> bool:
    """Writes what is missing of a part of a picture; whether all of it is complete then.

    Args:
      path, part: of writers.write().
      ws, plan: of Painter.latents() and Painter.plan().
      shown: where it tells how far it is: by tiles, or of several `images` by images.
      note: told in a sentence what takes long, and how exact it is.

    Raises:
      ValueError, OSError: as writers.write() does.
    """
    whole, area = picture(painter, ws, plan), math.prod(plan.window.shape)
    if part[1] > 1:
        writers.check_parts(path, whole)

    def advance(unit: str, done: float, total: float, pixels: int) -> None:
        if shown and images == 1:
            shown.stage(total, unit)
            shown.advance(done, pixels)
        elif shown and unit == "tiles painted":
            shown.stage(images, "images")
            shown.advance(pixels / area, pixels)

    def paint(windows: Blocks) -> Iterator[tuple[Window, np.ndarray]]:
        image = painter.image(ws)
        if plan.warp is not None:  # Takes a while for a large network.
            note(f"{path}: evaluates the lines that the warp needs")
        tables = painter.tables(image, [plan])
        if tables:
            worst, mean = painter.warp_error(image, plan, tables)
            note(
                f"{path}: its pixels are {mean:.3f} of an 8-bit step off exact lines on average, "
                f"{worst:.2f} at most in a sample"
            )
        for window, pixels in painter.paint(image, plan, windows, tables=tables):
            yield window, pixels
            advance("tiles painted", 1, len(windows), math.prod(window.shape))

    def encoded(pixels: int) -> None:
        chunk = writers.CHUNK**2
        advance("tiles written", pixels / chunk, area / chunk, pixels)

    return writers.write(path, whole, paint, block=painter.block, part=part, encoded=encoded)
