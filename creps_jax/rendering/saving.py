"""A painter's pictures to files, for people and for `creps render` alike."""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from creps_jax import disk
from creps_jax.progress import Progress
from creps_jax.rendering.files import writing
from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.files.store import CHUNK, URL, Picture
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.threads import in_order, worker_threads
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.windows import Blocks, Window

if TYPE_CHECKING:
    from creps_jax.rendering.painter import Painter

WRITERS = 8  # threads: each waits for the disk most of its time

# Of a small picture: its pixels, why it has none, or None if its file is finished already.
Painted = np.ndarray | ValueError | None


def picture(painter: "Painter", ws: np.ndarray, plan: Plan) -> Picture:
    """What is written, with the key that finds it again."""
    channels = painter.generator.config.image_channels
    return Picture(plan.window, channels, painter.key(ws, plan))


def save(
    painter: "Painter",
    path: str | os.PathLike,
    ws: np.ndarray,
    plan: Plan,
    part: tuple[int, int] = (0, 1),
    shown: Progress | None = None,
    images: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> bool:
    """Writes what is missing of a part of a picture; whether all of it is complete then.

    Args:
      path, part: of writing.write(); ~ is the home.
      ws, plan: of Painter.latents() and Painter.plan().
      shown: where it tells how far it is: by tiles, or of several `images` by images.
      note: told in a sentence what takes long, and how exact it is.

    Raises:
      ValueError, OSError: as writing.write() does.
    """
    if not (isinstance(path, str) and re.match(URL, path)):
        path = disk.utf8_path(path)
    whole, area = picture(painter, ws, plan), math.prod(plan.window.shape)
    if part[1] > 1:
        writing.check_parts(path, whole)

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
        chunk = CHUNK**2
        advance("tiles written", pixels / chunk, area / chunk, pixels)

    return writing.write(path, whole, paint, block=painter.block, part=part, encoded=encoded)


def save_each(
    painter: "Painter",
    work: Sequence[tuple[int, str]],
    latents: Callable[[Sequence[int]], np.ndarray],
    plan: Plan,
    part: tuple[int, int],
    shown: Progress,
    note: Callable[[str], None],
) -> bool:
    """Writes the images of seeds as save() does, small ones many at a time.

    Args:
      work: seeds and their files; several are .png.
      latents: of seeds: [N, num_ws, w_dim].
      part, shown, note: of save(); told of what is complete already, too.

    Raises:
      ValueError, OSError: as writing.write() does.
    """
    if len(work) > 1 and painter.is_small(plan):
        _save_small(painter, work, latents, plan, shown, note)
        return True
    complete = True
    for seed, path in work:
        (ws,) = latents([seed])
        if is_finished(path, painter.key(ws, plan)):
            note(f"{path} is complete already")
            shown.stage(len(work), "images")
            shown.advance(1, 0)
        complete = save(painter, path, ws, plan, part, shown, len(work), note)
    return complete


def _save_small(
    painter: "Painter",
    work: Sequence[tuple[int, str]],
    latents: Callable[[Sequence[int]], np.ndarray],
    plan: Plan,
    shown: Progress,
    note: Callable[[str], None],
) -> None:
    """Some are painted while those before them are written, in the memory of a dozen rounds."""

    def painted(ws: np.ndarray) -> list[Painted]:
        try:
            return list(painter.pictures(ws, plan))
        except ValueError as error:
            # Those before the one at fault are written, as if each were painted alone.
            if len(ws) == 1:
                return [error]
            return [picture for one in ws for picture in painted(one[None])]

    def paint(some: Sequence[tuple[int, str]]) -> list[tuple[str, np.ndarray, Painted]]:
        """Files, latents and pictures."""
        paths, ws = [path for _, path in some], latents([seed for seed, _ in some])
        keys = (painter.key(one, plan) for one in ws)
        finished = np.array(list(map(is_finished, paths, keys)))
        pictures = iter(painted(ws[~finished]))
        return [
            (path, one, None if done else next(pictures))
            for path, one, done in zip(paths, ws, finished, strict=True)
        ]

    def write_one(path: str, ws: np.ndarray, pixels: Painted) -> None:
        if isinstance(pixels, ValueError):
            raise ValueError(f"{path}: {pixels}") from pixels
        if pixels is None:  # A killed run may have left something beside it.
            save(painter, path, ws, plan)
            return

        def whole(windows: Blocks) -> Iterator[tuple[Window, np.ndarray]]:
            return ((window, pixels) for window in windows)

        writing.write(path, picture(painter, ws, plan), whole, block=painter.block)

    def write(some: list[tuple[str, np.ndarray, Painted]]) -> tuple[list[str], int]:
        """The files that were finished already, and how many were written."""
        for one in some:
            write_one(*one)
        finished = [path for path, _, pixels in some if pixels is None]
        return finished, len(some) - len(finished)

    shown.stage(len(work), "images")
    size, area = painter.at_a_time, math.prod(plan.window.shape)
    parts = (work[start : start + size] for start in range(0, len(work), size))
    painters, ahead = tiling_of(painter.mesh).threads, 2 * WRITERS
    with worker_threads(painters) as to_paint, worker_threads(WRITERS) as to_write:
        rounds = in_order((to_paint(paint, some) for some in parts), 2 * painters)
        written = in_order((to_write(write, some) for some in rounds), ahead)
        for finished, count in written:
            for path in finished:
                note(f"{path} is complete already")
            shown.advance(len(finished) + count, count * area)
