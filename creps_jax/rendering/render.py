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

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from creps_jax import rng, sharding
from creps_jax.model import biline, coordinates, folded
from creps_jax.rendering import programs
from creps_jax.rendering.windows import Window, in_strips, largest

MAX_SIDE_PX = 2**20  # Beyond it float32 positions no longer tell neighbouring pixels apart.
LINES_BYTES = 128 * 2**20  # of bi-lines held at a time, about.
AHEAD = 12  # tiles a thread that are computed before they are asked for


class Frame(NamedTuple):
    """A whole image of height x width pixels, and where its pixels are.

    y and x give the positions of the rows and of the columns start <= i < stop: float32.
    """

    height: int
    width: int
    y: Callable[[int, int], np.ndarray]
    x: Callable[[int, int], np.ndarray]


# Frames and windows.


def make_frame(
    size: tuple[int, int],
    trained: tuple[int, int],
    sampling: coordinates.Sampling = coordinates.centers,
) -> Frame:
    """The whole image as height x width pixels.

    Args:
      trained: height and width of the training images, px.

    Raises:
      ValueError: a side is not from 1 to MAX_SIDE_PX, or too small for the sampling.
    """
    for side, r in zip(size, trained, strict=True):
        if not 1 <= side <= MAX_SIDE_PX:
            raise ValueError(
                f"size={size[0]}x{size[1]} (height x width) must be from 1 to {MAX_SIDE_PX} px "
                "a side, beyond which float32 positions no longer tell neighbouring pixels apart"
            )
        coordinates.positions(0, 1, side, r, sampling)

    def axis(n: int, r: int) -> Callable[[int, int], np.ndarray]:
        return lambda start, stop: coordinates.positions(start, stop, n, r, sampling)

    return Frame(*size, *map(axis, size, trained))


def resolve_window(window: tuple[int, int, int, int] | None, size: tuple[int, int]) -> Window:
    """The window; None: the whole frame of size (height, width), px.

    Raises:
      ValueError: the window is empty or not inside the frame.
    """
    height, width = size
    corners = (0, 0, height, width) if window is None else window
    if np.shape(corners) != (4,) or not all(isinstance(n, numbers.Integral) for n in corners):
        raise ValueError(f"window={window!r} must be (y0, x0, y1, x1) in whole px")
    y0, x0, y1, x1 = map(int, corners)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(
            f"y0,x0,y1,x1 = {y0},{x0},{y1},{x1} must satisfy 0 <= y0 < y1 <= {height} and "
            f"0 <= x0 < x1 <= {width}: the frame is {height} px high and {width} px wide"
        )
    return Window(y0, x0, y1, x1)


def antialiasing(size: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """Samples a pixel and axis, two a training pixel: 1 from the training images' size on.

    Half as many leave errors of some 8-bit steps: experiments/antialiasing.py.
    """
    return tuple(1 if n >= r else math.ceil(2 * r / n) for n, r in zip(size, trained, strict=True))


# The stream.


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
    side, (down, across) = programs.tiling(mesh).tile, mesh.devices.shape
    span = mesh.size * side  # Positions of a chunk of lines, over all devices.

    def compute_lines(axis: int, chunk: int) -> list[jax.Array]:
        """A chunk of lines in the parts that tiles take: `across` of rows, `down` of columns."""
        t = (frame.y, frame.x)[axis](chunk * span, (chunk + 1) * span)
        lines = programs.lines_on(mesh)(image, t, np.full(t.shape, axis, np.int32))
        if mesh.size == 1:
            return [lines]
        kind, parts = (("rows", across), ("columns", down))[axis]
        # Over the host: a collective could meet those of other threads in another order.
        halves = np.split(np.asarray(lines), parts)
        return [jax.device_put(half, sharding.named(mesh, kind)) for half in halves]

    def compute_tile(rows: Future, i: int, columns: Future, j: int, inside: Window) -> np.ndarray:
        lines = rows.result()[i], columns.result()[j]
        needed = programs.patches(mesh, programs.tiling(mesh).patch, inside)
        return np.asarray(programs.tile_on(mesh)(image, *lines, *needed))

    # Chunks that a window touches at most on each axis, and those that are kept: for a whole strip
    # of columns and two rows of windows.
    tall, wide = (
        math.ceil(n * k / span) + 1 for n, k in zip(largest(windows), supersample, strict=True)
    )
    kept = max(LINES_BYTES // (span * folded.line_bytes(image)), 2 * (tall + wide))
    strip = (kept - 2 * tall - wide) * span

    with worker_threads(programs.tiling(mesh).threads) as submit:

        @functools.lru_cache(maxsize=kept)
        def lines(axis: int, chunk: int) -> Future:
            return submit(compute_lines, axis, chunk)

        def submit_tile(i: int, j: int, inside: Window) -> Future:
            # Lines first: threads take up work in order, so no tile waits for one behind it.
            rows, columns = lines(0, i // across), lines(1, j // down)
            return submit(compute_tile, rows, i % across, columns, j % down, inside)

        ordered = in_strips(windows, lambda x: x * supersample[1] // strip)
        tile = (down * side, across * side)
        yield from assemble(ordered, submit_tile, tile, supersample, programs.tiling(mesh).threads)


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
    (top, left, bottom, right), (height, width) = _in_frame(window, supersample), tile
    for i in range(top // height, -(-bottom // height)):
        for j in range(left // width, -(-right // width)):
            y, x = i * height, j * width
            starts = max(top - y, 0), max(left - x, 0)
            yield i, j, Window(*starts, min(bottom - y, height), min(right - x, width))


def in_order(submitted: Iterator[Future], ahead: int) -> Iterator[Any]:
    """The results, so many of them being submitted before they are asked for."""
    coming = collections.deque(itertools.islice(submitted, ahead))
    while coming:
        result = coming.popleft().result()
        coming.extend(itertools.islice(submitted, 1))
        yield result


def _in_frame(window: Window, supersample: tuple[int, int]) -> Window:
    """The window of a picture in pixels of its frame."""
    return Window(*(n * k for n, k in zip(window, supersample * 2, strict=True)))


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
    top, left, *_ = _in_frame(window, supersample)
    pixels: np.ndarray | None = None
    for (i, j, inside), part in tiles:
        part = part[inside.y0 : inside.y1, inside.x0 : inside.x1]
        y, x = i * tile[0] + inside.y0, j * tile[1] + inside.x0
        if pixels is None:
            pixels = np.zeros((*window.shape, part.shape[-1]), np.float32)
        if supersample == (1, 1):
            pixels[y - top :, x - left :][: part.shape[0], : part.shape[1]] = part
            continue
        # Sums over what lies in this tile of each box that it touches.
        for axis, (first, k) in enumerate(((y, down), (x, across))):
            box = np.arange(first, first + part.shape[axis]) // k
            starts = np.flatnonzero(np.diff(box, prepend=-1))
            part = np.add.reduceat(part, starts, axis=axis)
        y, x = y // down - window.y0, x // across - window.x0
        pixels[y : y + part.shape[0], x : x + part.shape[1]] += part
    if supersample != (1, 1):
        pixels /= np.float32(down * across)
    return pixels


@contextlib.contextmanager
def worker_threads(count: int) -> Iterator[Callable[..., Future]]:
    """Threads to submit work to, in order; what is still queued at the end is dropped."""
    pool = concurrent.futures.ThreadPoolExecutor(count)

    def submit(work: Callable, *arguments: Any) -> Future:
        return pool.submit(rng.pinned()(work), *arguments)  # Each thread has settings of its own.

    try:
        yield submit
    finally:
        pool.shutdown(cancel_futures=True)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> uint8: clip(image * 127.5 + 128, 0, 255), truncated."""
    return np.clip(image * 127.5 + 128.0, 0.0, 255.0).astype(np.uint8)
