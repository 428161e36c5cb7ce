"""Any window of an image of any size, from a trained generator: exact, streaming, parallel.

The frame is the whole image stretched over height x width pixels, also where these two differ; a
window is cut out of that frame. Rows and columns become bi-lines, a chunk of positions at a time,
then tiles of pixels are decoded from them, patch by patch. Chunks and patches are anchored to the
frame and always computed whole, with the neighbouring pixels in what a window or the frame's edge
cuts off. So a pixel is the same number in the same product whatever window, batch, process or
number of devices asks for it: all are equal bit for bit on a CPU, and one compilation serves every
size; pictures within one tile have another, of the same products: small.py. Of a tile, only the
patches that a window touches are decoded.

Notation: pixels (y, x) of the frame, windows half-open; images [height, width, channels], about
[-1, 1]; T the side of a device's tile, px; a mesh of devices is 'row' x 'column'.
"""

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future

import jax
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline
from creps_jax.rendering import programs
from creps_jax.rendering.frame import Frame, in_frame
from creps_jax.rendering.threads import in_order, worker_threads
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.windows import Window, in_strips, largest

LINES_BYTES = 128 * 2**20  # of bi-lines held at a time, about.
AHEAD = 12  # tiles a thread that are computed before they are asked for


def stream(
    image: biline.Image,
    frame: Frame,
    windows: Collection[Window],
    mesh: Mesh,
    supersample: tuple[int, int] = (1, 1),
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields every window with its pixels, float32 [height, width, channels].

    They come strip by strip, each as wide as the bi-lines of its columns may be kept, and within
    a strip in the order given. Takes the memory of a few windows and LINES_BYTES of bi-lines.

    Args:
      image: of programs.fold(), on every device of the mesh.
      frame: of make_frame(); for a supersample (k, l), k times as high and l times as wide.
      windows: of the picture; best row by row, see Blocks.
      supersample: a pixel is the mean of this many rows and columns of the frame's pixels.
    """
    tiling, (down, across) = tiling_of(mesh), mesh.devices.shape
    kept, strip = kept_lines(image, windows, mesh, supersample)

    with worker_threads(tiling.threads) as submit:

        @functools.lru_cache(maxsize=kept)
        def lines(axis: int, chunk: int) -> Future:
            return submit(compute_lines, image, frame, mesh, axis, chunk)

        def submit_tile(i: int, j: int, inside: Window) -> Future:
            # Lines first: threads take up work in order, so no tile waits for one behind it.
            rows, columns = lines(0, i // across), lines(1, j // down)
            parts = (rows, i % across), (columns, j % down)
            return submit(compute_tile, image, mesh, *parts, inside)

        ordered = in_strips(windows, lambda x: x * supersample[1] // strip)
        tile = (down * tiling.tile, across * tiling.tile)
        yield from assemble(ordered, submit_tile, tile, supersample, tiling.threads)


def kept_lines(
    image: biline.Image, windows: Collection[Window], mesh: Mesh, supersample: tuple[int, int]
) -> tuple[int, int]:
    """How many chunks of lines are kept, and how wide the strips are that need no more, px."""
    span = mesh.size * tiling_of(mesh).tile
    # Chunks that a window touches at most on each axis.
    tall, wide = (
        math.ceil(n * k / span) + 1 for n, k in zip(largest(windows), supersample, strict=True)
    )
    # Those of a whole strip of columns and of two rows of windows.
    kept = max(LINES_BYTES // (span * biline.line_bytes(image)), 2 * (tall + wide))
    return kept, (kept - 2 * tall - wide) * span


def compute_lines(
    image: biline.Image, frame: Frame, mesh: Mesh, axis: int, chunk: int
) -> list[jax.Array]:
    """A chunk of lines in the parts that tiles take: of rows one for each column of devices.

    And of columns one for each row of them. A chunk is T positions for each device.
    """
    span, (down, across) = mesh.size * tiling_of(mesh).tile, mesh.devices.shape
    t = (frame.y, frame.x)[axis](chunk * span, (chunk + 1) * span)
    lines = programs.lines_on(mesh)(image, t, np.full(t.shape, axis, np.int32))
    if mesh.size == 1:
        return [lines]
    kind, parts = (("rows", across), ("columns", down))[axis]
    # Over the host: a collective could meet those of other threads in another order.
    halves = np.split(np.asarray(lines), parts)
    return [jax.device_put(half, sharding.named(mesh, kind)) for half in halves]


def compute_tile(
    image: biline.Image,
    mesh: Mesh,
    rows: tuple[Future, int],
    columns: tuple[Future, int],
    inside: Window,
) -> np.ndarray:
    """A tile of the devices, float32 [r T, c T, channels], right in the part that is `inside`.

    Args:
      rows, columns: a chunk of lines to come, of compute_lines(), and the part of it.
    """
    lines = (chunk.result()[part] for chunk, part in (rows, columns))
    needed = programs.patches(mesh, tiling_of(mesh).patch, inside)
    return np.asarray(programs.tile_on(mesh)(image, *lines, *needed))


def assemble(
    windows: Iterable[Window],
    submit_tile: Callable[[int, int, Window], Future],
    tile: tuple[int, int],
    supersample: tuple[int, int],
    threads: int,
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields every window, put together from tiles that are computed ahead.

    Args:
      submit_tile: (row, column of the frame's grid of tiles, the part of the tile that is needed,
        px from its corner) -> the tile to come, right in that part.
      tile: height and width of a tile, px of the frame.
    """

    windows, soon = itertools.tee(windows)
    wanted = itertools.chain.from_iterable(places(window, tile, supersample) for window in soon)
    # The threads must not run dry while a window is put together and used.
    coming = in_order(itertools.starmap(submit_tile, wanted), AHEAD * threads)
    for window in windows:
        tiles = zip(places(window, tile, supersample), coming, strict=False)
        yield window, paste(window, tiles, tile, supersample)


def places(
    window: Window, tile: tuple[int, int], supersample: tuple[int, int]
) -> Iterator[tuple[int, int, Window]]:
    """The tiles that a window touches: row and column of their grid, and the part inside it, px."""
    (top, left, bottom, right), (height, width) = in_frame(window, supersample), tile
    for i in range(top // height, -(-bottom // height)):
        for j in range(left // width, -(-right // width)):
            y, x = i * height, j * width
            starts = max(top - y, 0), max(left - x, 0)
            yield i, j, Window(*starts, min(bottom - y, height), min(right - x, width))


def paste(
    window: Window,
    tiles: Iterable[tuple[tuple[int, int, Window], np.ndarray]],
    tile: tuple[int, int],
    supersample: tuple[int, int],
) -> np.ndarray:
    """The window's pixels: what of its tiles lies inside it, or the means of its boxes.

    Args:
      tiles: each of places() with its pixels.
    """
    down, across = supersample
    top, left, *_ = in_frame(window, supersample)
    pixels: np.ndarray | None = None
    for (i, j, inside), part in tiles:
        # What of the tile is in the window, and where in the frame its corner is.
        part = part[inside.y0 : inside.y1, inside.x0 : inside.x1]
        y, x = i * tile[0] + inside.y0, j * tile[1] + inside.x0
        if pixels is None:
            pixels = np.zeros((*window.shape, part.shape[-1]), np.float32)
        if supersample == (1, 1):
            pixels[y - top :, x - left :][: part.shape[0], : part.shape[1]] = part
            continue
        # Boxes straddle tiles: sums over what lies in this one of each box that it touches.
        for axis, (first, k) in enumerate(((y, down), (x, across))):
            box = np.arange(first, first + part.shape[axis]) // k
            starts = np.flatnonzero(np.diff(box, prepend=-1))
            part = np.add.reduceat(part, starts, axis=axis)
        y, x = y // down - window.y0, x // across - window.x0
        pixels[y : y + part.shape[0], x : x + part.shape[1]] += part
    if supersample != (1, 1):
        pixels /= np.float32(down * across)
    return pixels
