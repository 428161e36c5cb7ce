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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import machine, rng, sharding
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
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


class Tiling(NamedTuple):
    """How one kind of device is kept busy."""

    tile: int  # px; T: pixels of a tile are T x T, positions of a chunk of lines T.
    patch: int  # px; of a tile, patch x patch pixels are decoded at a time.
    lines: int  # of a chunk, so many are computed at a time, at least.
    threads: int  # tiles under way at a time, each on its own thread.
    options: dict[str, Any] | None  # of XLA, for these functions alone.


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


# Devices.


@functools.cache
def tiling(mesh: Mesh) -> Tiling:
    """The tiling of the mesh's devices."""
    if mesh.devices.flat[0].platform == "cpu":
        # A tile a core beats a product split over all: each keeps its own cache. The library of
        # fused products that XLA prefers for these shapes is slower than its plain ones.
        options = {
            "xla_cpu_experimental_ynn_fusion_type": "",
            "xla_cpu_multi_thread_eigen": False,
        }
        return Tiling(128, 8, 32, max(1, machine.cores() // mesh.size), options)
    return Tiling(512, 512, 512, 4, None)


@functools.cache
def lines_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, t [n T], axis [n T] -> bi-lines [n T, K, R, B], split over the n devices."""
    image, positions = (sharding.PARTITION_SPECS[kind] for kind in ("image", "positions"))
    lines = jax.shard_map(
        lambda image, *t: in_parts(tiling(mesh), image, (0, tiling(mesh).tile), *t),
        mesh=mesh,
        in_specs=(image, positions, positions),
        out_specs=positions,
        check_vma=False,  # Its loop begins with zeros.
    )
    return jax.jit(lines, compiler_options=tiling(mesh).options)


def in_parts(
    tiling: Tiling,
    image: biline.Image,
    needed: jax.Array | tuple[int, int],
    t: jax.Array,
    axis: jax.Array,
) -> jax.Array:
    """Bi-lines [T, K, R, B] at positions t [T], axis [T]; 0 in parts without any needed.

    Args:
      needed: first and last + 1 of those that are.
    """
    # A frame of the training images' size needs no more; where that is small, networks are so
    # narrow that their products are no slower for it.
    side = min(max(tiling.lines, 4 << len(image.lines["blocks"])), tiling.tile)
    start, stop = needed

    def part(k: jax.Array, lines: jax.Array) -> jax.Array:
        some = (jax.lax.dynamic_slice_in_dim(each, k * side, side) for each in (t, axis))
        computed = biline.image_lines(image, *some)
        return jax.lax.dynamic_update_slice_in_dim(lines, computed, k * side, 0)

    lines = jnp.zeros((len(t), *biline.line_shape(image)), jnp.float32)
    return jax.lax.fori_loop(start // side, (stop + side - 1) // side, part, lines)


@functools.cache
def tile_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, rows [r T, K, R, B], columns [c T, K, R, B], *patches() -> [r T, c T, channels].

    The pixels of no such patch are 0.
    """
    specs, side = sharding.PARTITION_SPECS, tiling(mesh).patch

    def tile(
        image: biline.Image, rows: jax.Array, columns: jax.Array, down: jax.Array, across: jax.Array
    ) -> jax.Array:
        return decoded(image, rows, columns, side, down[0], across[0])

    tiles = jax.shard_map(
        tile,
        mesh=mesh,
        in_specs=tuple(specs[kind] for kind in ("image", "rows", "columns", "rows", "columns")),
        out_specs=specs["pixels"],
        check_vma=False,  # Loops of as many steps as each device needs.
    )
    return jax.jit(tiles, compiler_options=tiling(mesh).options)


def decoded(
    image: biline.Image,
    rows: jax.Array,
    columns: jax.Array,
    side: int,
    down: Sequence[jax.Array],
    across: Sequence[jax.Array],
) -> jax.Array:
    """Pixels where rows and columns [T, K, R, B] cross: [T, T, channels].

    In patches of side x side px; down and across, first and last + 1, say which: in_patches().
    """

    def decode(i: jax.Array, j: jax.Array) -> jax.Array:
        row, column = (
            jax.lax.dynamic_slice_in_dim(lines, k * side, side)
            for lines, k in ((rows, i), (columns, j))
        )
        return biline.image_pixels(image, row, column)

    return in_patches(decode, (len(rows), len(columns)), down, across)


def in_patches(
    decode: Callable[[jax.Array, jax.Array], jax.Array],
    shape: tuple[int, int],
    down: Sequence[jax.Array],
    across: Sequence[jax.Array],
) -> jax.Array:
    """Pixels [*shape, channels], 0 but for patches decode(i, j) [side, side, channels].

    Args:
      down, across: int32, the patches first <= i < last and first <= j < last.
    """
    patch = jax.eval_shape(decode, down[0], across[0])
    side, _, channels = patch.shape

    def row(i: jax.Array, pixels: jax.Array) -> jax.Array:
        def cell(j: jax.Array, pixels: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(pixels, decode(i, j), (i * side, j * side, 0))

        return jax.lax.fori_loop(*across, cell, pixels)

    return jax.lax.fori_loop(*down, row, jnp.zeros((*shape, channels), patch.dtype))


def patches(mesh: Mesh, side: int, inside: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which patches of side x side px hold the inside of a tile, or all: of rows, and of columns.

    As tile_on() takes them: int32 [devices along the axis, 2], first and last + 1 of each device.
    """

    def of_axis(start: int, stop: int, devices: int) -> np.ndarray:
        tile = tiling(mesh).tile
        corners = np.arange(devices) * tile
        edges = start, stop + side - 1  # The last patch counts, too.
        first, last = (np.clip(edge - corners, 0, tile) // side for edge in edges)
        return np.stack([first, last], axis=1).astype(np.int32)

    down, across = mesh.devices.shape
    if inside is None:
        inside = Window(0, 0, *(n * tiling(mesh).tile for n in mesh.devices.shape))
    return of_axis(inside.y0, inside.y1, down), of_axis(inside.x0, inside.x1, across)


# The stream.


@functools.partial(jax.jit, static_argnames=("generator", "dtype"))
def fold(generator: Generator, variables: Variables, ws: jax.Array, dtype: Any) -> biline.Image:
    """The image of ws [num_ws, w_dim], its products in dtype."""
    return generator.apply(variables, ws, dtype, method="fold")


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
      image: of fold(), on every device of the mesh.
      frame: of make_frame(); for a supersample (k, l), k times as high and l times as wide.
      windows: of the picture; best row by row, see Blocks.
      supersample: a pixel is the mean of this many rows and columns of the frame's pixels.
    """
    side, (down, across) = tiling(mesh).tile, mesh.devices.shape
    span = mesh.size * side  # Positions of a chunk of lines, over all devices.

    def compute_lines(axis: int, chunk: int) -> list[jax.Array]:
        """A chunk of lines in the parts that tiles take: `across` of rows, `down` of columns."""
        t = (frame.y, frame.x)[axis](chunk * span, (chunk + 1) * span)
        lines = lines_on(mesh)(image, t, np.full(t.shape, axis, np.int32))
        if mesh.size == 1:
            return [lines]
        kind, parts = (("rows", across), ("columns", down))[axis]
        # Over the host: a collective could meet those of other threads in another order.
        halves = np.split(np.asarray(lines), parts)
        return [jax.device_put(half, sharding.named(mesh, kind)) for half in halves]

    def compute_tile(rows: Future, i: int, columns: Future, j: int, inside: Window) -> np.ndarray:
        lines = rows.result()[i], columns.result()[j]
        needed = patches(mesh, tiling(mesh).patch, inside)
        return np.asarray(tile_on(mesh)(image, *lines, *needed))

    # Chunks that a window touches at most on each axis, and those that are kept: for a whole strip
    # of columns and two rows of windows.
    tall, wide = (
        math.ceil(n * k / span) + 1 for n, k in zip(largest(windows), supersample, strict=True)
    )
    kept = max(LINES_BYTES // (span * biline.line_bytes(image)), 2 * (tall + wide))
    strip = (kept - 2 * tall - wide) * span

    with worker_threads(tiling(mesh).threads) as submit:

        @functools.lru_cache(maxsize=kept)
        def lines(axis: int, chunk: int) -> Future:
            return submit(compute_lines, axis, chunk)

        def submit_tile(i: int, j: int, inside: Window) -> Future:
            # Lines first: threads take up work in order, so no tile waits for one behind it.
            rows, columns = lines(0, i // across), lines(1, j // down)
            return submit(compute_tile, rows, i % across, columns, j % down, inside)

        ordered = in_strips(windows, lambda x: x * supersample[1] // strip)
        tile = (down * side, across * side)
        yield from assemble(ordered, submit_tile, tile, supersample, tiling(mesh).threads)


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
