"""A painter's pictures to files, for people and for `creps render` alike."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from creps_jax.arguments import about
from creps_jax.progress import Progress, Silent
from creps_jax.rendering.files import writing
from creps_jax.rendering.files.names import files_of
from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.threads import in_order, worker_threads
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.windows import Blocks, Window

if TYPE_CHECKING:
    from creps_jax.rendering.painter import Painter

WRITERS = 8  # threads: each waits for the disk most of its time

# Seeds -> their latents, float32 [N, num_ws, w_dim].
Latents = Callable[[Sequence[int | None]], np.ndarray]
# What is told in a sentence: how exact a picture is, what takes long, what is complete already.
Note = Callable[[str], None]
# Told that so many of all the units of a stage are done, and how many pixels these are.
Advance = Callable[[str, float, float, int], None]


def unheard(text: str) -> None:
    """Where nobody reads the notes."""


def save(
    painter: "Painter",
    path: str,
    seeds: Sequence[int | None],
    latents: Latents,
    plan: Plan,
    part: tuple[int, int] = (0, 1),
    shown: Progress | None = None,
    note: Note = unheard,
) -> bool:
    """Writes what is missing of a part of the images; whether what it has begun is complete.

    Args:
      path: of files.names.files_of().
      seeds: one at least.
      plan: of Painter.plan().
      part: index and count. Of several images whole ones are dealt out to the parts, of one image
        its blocks: see files.writing.write().
      shown: where it tells how far it is.
      note: told first what is written, then what takes long, and what is complete already.

    Raises:
      ValueError, OSError: before any work, about an argument (see arguments.py); or as
        files.writing.write() does.
    """
    shown, (index, count) = shown or Silent(), part
    with about("path"):
        files = files_of(path, seeds)
    with about("part"):
        if not 0 <= index < count:
            raise ValueError(f"part={part!r} must be an index and a count that it is less than")
    first = picture(painter, latents(seeds[:1])[0], plan)
    with about("path"):
        if not is_finished(files[0], first.key):
            writing.check(files[0], first)

    work = list(zip(seeds, files, strict=True))
    if len(work) > 1:
        work, part = work[index::count], (0, 1)
    images = "1 image" if len(work) == 1 else f"{len(work)} images"
    height, width = plan.window.shape
    note(f"{images} of {height}x{width} px, on {painter.device}, to {path}")
    return save_each(painter, work, latents, plan, part, shown, note)


def save_each(
    painter: "Painter",
    work: Sequence[tuple[int | None, str]],
    latents: Latents,
    plan: Plan,
    part: tuple[int, int],
    shown: Progress,
    note: Note,
) -> bool:
    """Writes the images of seeds as save_picture() does, small ones many at a time.

    Args:
      work: seeds and their files; several are .png.
      part, shown, note: of save().

    Raises:
      ValueError, OSError: as files.writing.write() does.
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
        advance = _advance_by(shown, len(work), math.prod(plan.window.shape))
        complete = save_picture(painter, path, ws, plan, part, advance, note)
    return complete


def _advance_by(shown: Progress, images: int, area: int) -> Advance:
    """What shows how far the work is: of one image by stages, of several by images of an area."""

    def by_stages(unit: str, done: float, total: float, pixels: int) -> None:
        shown.stage(total, unit)
        shown.advance(done, pixels)

    def by_images(unit: str, done: float, total: float, pixels: int) -> None:
        if unit == "tiles painted":
            shown.stage(images, "images")
            shown.advance(pixels / area, pixels)

    return by_stages if images == 1 else by_images


def picture(painter: "Painter", ws: np.ndarray, plan: Plan) -> Picture:
    """What is written, with the key that finds it again."""
    channels = painter.generator.config.image_channels
    return Picture(plan.window, channels, painter.key(ws, plan))


def save_picture(
    painter: "Painter",
    path: str,
    ws: np.ndarray,
    plan: Plan,
    part: tuple[int, int] = (0, 1),
    advance: Advance = lambda *done: None,
    note: Note = unheard,
) -> bool:
    """Writes what is missing of a part of a picture; whether all of it is complete then.

    Args:
      path, part: of files.writing.write().
      ws, plan: of Painter.latents() and Painter.plan().
      note: of save().

    Raises:
      ValueError, OSError: as files.writing.write() does.
    """
    whole, area = picture(painter, ws, plan), math.prod(plan.window.shape)
    if part[1] > 1:
        writing.check_parts(path, whole)

    def paint(windows: Blocks) -> Iterator[tuple[Window, np.ndarray]]:
        image = painter.image(ws)
        # The tables of a warp take a while for a large network.
        if plan.warp is not None:
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
        advance("tiles written", pixels / CHUNK**2, area / CHUNK**2, pixels)

    return writing.write(path, whole, paint, block=painter.block, part=part, encoded=encoded)


# Small pictures.


class _Small(NamedTuple):
    """A small picture on its way to its file."""

    path: str
    ws: np.ndarray
    pixels: np.ndarray | ValueError | None  # Or why it has none; None: its file is finished.


def _save_small(
    painter: "Painter",
    work: Sequence[tuple[int | None, str]],
    latents: Latents,
    plan: Plan,
    shown: Progress,
    note: Note,
) -> None:
    """Some are painted while those before them are written, in the memory of a dozen rounds."""
    shown.stage(len(work), "images")
    size, area = painter.at_a_time, math.prod(plan.window.shape)
    parts = (work[start : start + size] for start in range(0, len(work), size))
    painters, ahead = tiling_of(painter.mesh).threads, 2 * WRITERS
    with worker_threads(painters) as to_paint, worker_threads(WRITERS) as to_write:
        painted = (to_paint(_paint_some, painter, some, latents, plan) for some in parts)
        rounds = in_order(painted, 2 * painters)
        written = (to_write(_write_some, painter, some, plan) for some in rounds)
        for some in in_order(written, ahead):
            finished = [small.path for small in some if small.pixels is None]
            for path in finished:
                note(f"{path} is complete already")
            shown.advance(len(some), (len(some) - len(finished)) * area)


def _paint_some(
    painter: "Painter", some: Sequence[tuple[int | None, str]], latents: Latents, plan: Plan
) -> list[_Small]:
    """Those of some images that are not finished, painted; all in their order."""
    paths, ws = [path for _, path in some], latents([seed for seed, _ in some])
    finished = [
        is_finished(path, painter.key(one, plan)) for path, one in zip(paths, ws, strict=True)
    ]
    painted = iter(_pictures(painter, ws[~np.array(finished)], plan))
    return [
        _Small(path, one, None if done else next(painted))
        for path, one, done in zip(paths, ws, finished, strict=True)
    ]


def _pictures(painter: "Painter", ws: np.ndarray, plan: Plan) -> list[np.ndarray | ValueError]:
    """Each image's pixels, or why it has none: as if each were painted alone."""
    try:
        return list(painter.pictures(ws, plan))
    except ValueError as error:
        if len(ws) == 1:
            return [error]
        return [pixels for one in ws for pixels in _pictures(painter, one[None], plan)]


def _write_some(painter: "Painter", some: list[_Small], plan: Plan) -> list[_Small]:
    """Writes those that are not finished; returns all.

    Raises:
      ValueError: one has no pixels; those before it are written.
    """
    for path, ws, pixels in some:
        if isinstance(pixels, ValueError):
            raise ValueError(f"{path}: {pixels}") from pixels
        if pixels is None:  # A killed run may have left something beside it.
            save_picture(painter, path, ws, plan)
            continue
        whole = functools.partial(_with_pixels, pixels)
        writing.write(path, picture(painter, ws, plan), whole, block=painter.block)
    return some


def _with_pixels(pixels: np.ndarray, windows: Blocks) -> Iterator[tuple[Window, np.ndarray]]:
    """The one window of a small picture with its pixels."""
    return ((window, pixels) for window in windows)
