"""Images under any coordinate map: rotation, shear, perspective, lenses, polar coordinates.

Where rows and columns of the picture are no longer those of the image, each pixel has a row
position y(h, w) and a column position x(h, w) of its own. Their bi-lines are interpolated from
tables, which hold the bi-lines of DENSITY positions a training pixel over the range needed.

Notation: (h, w) pixels of the picture, (i, j) pixels of the unwarped frame of the same size, both
float64 with pixel centres at whole numbers; t a position (coordinates.py); m an entry of a table.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline, coordinates
from creps_jax.rendering import render
from creps_jax.rendering.render import Window

DENSITY = 32  # entries of a table a training pixel: experiments/warp_error.py
TABLE_BYTES = 2**29  # of a table at most
GROUP = 1024  # pixels decoded at a time: each has K x R x B features of its own

# (h [H, 1], w [1, W], size) -> (i, j), each broadcastable to [H, W].
Map = Callable[[np.ndarray, np.ndarray, tuple[int, int]], tuple[np.ndarray, np.ndarray]]


# Maps. All keep the centre of the picture in its place.


def rotate(degrees: float) -> Map:
    """The image turned clockwise by an angle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def unturned(v, u):
        return cos * v - sin * u, sin * v + cos * u

    return _centered(unturned)


def shear(slope: float) -> Map:
    """Rows pushed sideways: by `slope` px to the right per px below the centre."""
    return _centered(lambda v, u: (v, u - slope * v))


def perspective(degrees: float) -> Map:
    """The image on a plane tilted about its horizontal middle, top edge backwards.

    The camera stands at the distance of one picture diagonal; |degrees| < 45.
    """
    if not -45 < degrees < 45:
        raise ValueError(f"perspective:{degrees:g} must be between -45 and 45 degrees")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def on_plane(v, u):
        # The ray (v, u, 1) meets the plane's point (s cos, q, 1 - s sin) in units of distance.
        scale = 1.0 / (cos + v * sin)
        return v * scale, u * cos * scale

    return _centered(on_plane, lambda height, width: math.hypot(height, width))


def fisheye(strength: float) -> Map:
    """A barrel lens: radius r, 1 in the corners, shows the image's radius r (1 - s + s r^2).

    0 <= strength < 1: 0 changes nothing, at 0.5 the middle is twice as large.
    """
    if not 0 <= strength < 1:
        raise ValueError(f"fisheye:{strength:g} must be from 0 up to, not including, 1")

    def bent(v, u):
        scale = 1.0 - strength + strength * (v * v + u * u)
        return v * scale, u * scale

    return _centered(bent, lambda height, width: math.hypot(height, width) / 2)


def cylinder(degrees: float) -> Map:
    """The image around an upright cylinder seen from far away: `degrees` of arc across, < 180."""
    if not 0 < degrees < 180:
        raise ValueError(f"cylinder:{degrees:g} must be between 0 and 180 degrees")
    half = math.radians(degrees) / 2

    def unrolled(v, u):
        # At the picture's edge u = 1 the arc is complete.
        return v, np.arcsin(np.clip(u * math.sin(half), -1.0, 1.0)) / half

    def mapped(h, w, size):
        height, width = size
        v, u = unrolled((h - (height - 1) / 2), (w - (width - 1) / 2) / (width / 2))
        return v + (height - 1) / 2, u * (width / 2) + (width - 1) / 2

    return mapped


def polar(turns: float = 1.0) -> Map:
    """The image bent into a disc: angle from the top is its column, radius from the rim its row."""

    def unbent(h, w, size):
        height, width = size
        v, u = h - (height - 1) / 2, w - (width - 1) / 2
        radius = np.hypot(v, u) / (min(height, width) / 2)
        angle = np.arctan2(u, -v) / (2 * math.pi) * turns
        return (1.0 - radius) * height - 0.5, (angle + 0.5) * width - 0.5

    return unbent


WARPS: dict[str, Callable[[float], Map]] = {
    "rotate": rotate,
    "shear": shear,
    "perspective": perspective,
    "fisheye": fisheye,
    "cylinder": cylinder,
    "polar": polar,
}


def parse(text: str) -> Map:
    """'rotate:30' -> rotate(30.0).

    Raises:
      ValueError: the name is unknown, or the amount is no number or out of the map's range.
    """
    name, _, amount = text.partition(":")
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if name not in WARPS or not math.isfinite(number):
        raise ValueError(f"expected NAME:AMOUNT with one of {', '.join(WARPS)}, got {text!r}")
    return WARPS[name](number)


def _centered(
    move: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    unit: Callable[[int, int], float] = lambda height, width: 1.0,
) -> Map:
    """The map that moves (v, u), about the centre in units of unit(height, width) px."""

    def mapped(h, w, size):
        middle, length = [(n - 1) / 2 for n in size], unit(*size)
        v, u = move((h - middle[0]) / length, (w - middle[1]) / length)
        return v * length + middle[0], u * length + middle[1]

    return mapped


# Rendering.


class Warped(NamedTuple):
    """A picture of `size` px whose pixel (h, w) shows the frame's pixel warp(h, w).

    resolution and sampling say where in the image the frame's pixels are (coordinates.py); a pixel
    is the mean of supersample rows and columns of samples.
    """

    size: tuple[int, int]
    warp: Map
    resolution: int
    sampling: coordinates.Sampling = coordinates.centers
    supersample: tuple[int, int] = (1, 1)

    def samples(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Where the samples start <= i < stop of an axis lie, px: float64."""
        return (np.arange(start, stop) + 0.5) / self.supersample[axis] - 0.5

    def positions(self, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y and x of the pixels (h, w), arrays that broadcast, fractions allowed: float64."""
        moved = np.broadcast_arrays(*self.warp(h, w, self.size))
        y, x = (
            self.sampling(at, n, self.resolution) for at, n in zip(moved, self.size, strict=True)
        )
        return y, x


class Table(NamedTuple):
    """Bi-lines [M, K, R, B] at the positions (first + m) * pitch, m = 0, ..., M - 1."""

    lines: jax.Array
    first: int
    pitch: float

    def place(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entry below each position, int32, and the share of the next, float32 in [0, 1]."""
        entry = np.clip(np.nan_to_num(t / self.pitch) - self.first, 0, len(self.lines) - 1.001)
        below = np.floor(entry)
        return below.astype(np.int32), (entry - below).astype(np.float32)


def separable_frame(picture: Warped) -> render.Frame | None:
    """The picture as a frame, whose lines are exact; None if rows and columns mix.

    They do not if the warp gives i a single column and j a single row.
    """
    two = np.arange(2.0)
    i, j = picture.warp(two[:, None], two[None, :], picture.size)
    if np.shape(i) != (2, 1) or np.shape(j) != (1, 2):
        return None

    def axis(k: int) -> Callable[[int, int], np.ndarray]:
        def positions(start: int, stop: int) -> np.ndarray:
            # Tiles reach beyond the picture, where a warp need not be defined.
            n = picture.size[k]
            at, zero = np.clip(picture.samples(k, start, stop), -0.5, n - 0.5), np.zeros((1, 1))
            h, w = (at[:, None], zero) if k == 0 else (zero, at[None, :])
            t = picture.positions(h, w)[k].ravel()
            if not np.isfinite(t).all():
                raise ValueError(
                    f"the warp gives no finite position at {at[~np.isfinite(t)][0]:g}"
                    f" px of axis {k} of the {picture.size[0]}x{picture.size[1]} picture"
                )
            return t.astype(np.float32)

        return positions

    height, width = (n * k for n, k in zip(picture.size, picture.supersample, strict=True))
    return render.Frame(height, width, axis(0), axis(1))


def make_tables(
    image: biline.Image,
    picture: Warped,
    windows: Sequence[Window],
    mesh: Mesh,
    density: int = DENSITY,
) -> tuple[Table, Table]:
    """The tables of rows and columns that the windows need, on every device of the mesh.

    Raises:
      ValueError: the warp gives a position that is not finite, or needs too long a table.
    """
    pitch = 1.0 / (density * (picture.resolution - 1))
    rows, columns = (
        _make_table(image, axis, low, high, pitch, mesh)
        for axis, (low, high) in enumerate(_limits(picture, windows))
    )
    return rows, columns


def stream(
    image: biline.Image,
    picture: Warped,
    tables: tuple[Table, Table],
    windows: Sequence[Window],
    mesh: Mesh,
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields every window with its pixels, float32 [height, width, channels]; see render.stream."""
    side, threads = render.tiling(mesh).tile, render.tiling(mesh).threads
    tile = tuple(n * side for n in mesh.devices.shape)
    rows, columns = tables

    def compute_tile(i: int, j: int) -> np.ndarray:
        h, w = (
            picture.samples(axis, k * n, (k + 1) * n)
            for axis, (k, n) in enumerate(zip((i, j), tile, strict=True))
        )
        y, x = picture.positions(h[:, None], w[None, :])
        places = *rows.place(y), *columns.place(x)
        return np.asarray(tile_on(mesh)(image, rows.lines, columns.lines, *places))

    with render.worker_threads(threads) as submit:

        def submit_tiles(ys: range, xs: range) -> list[Future]:
            return [submit(compute_tile, i, j) for i, j in itertools.product(ys, xs)]

        yield from render.assemble(windows, submit_tiles, tile, picture.supersample, threads)


def interpolation_error(
    image: biline.Image,
    picture: Warped,
    tables: tuple[Table, Table],
    window: Window,
    mesh: Mesh,
) -> tuple[float, float]:
    """How far a sample of the pixels is from that of exact lines: greatest and mean, 8-bit steps.

    As many pixels as a chunk has lines, at random places of the window.
    """
    count = mesh.size * render.tiling(mesh).tile
    random = np.random.default_rng(0)
    places = (random.integers(*ends, count) for ends in zip(window[:2], window[2:], strict=True))
    h, w = places
    positions = [t.ravel() for t in picture.positions(h[:, None], w[:, None])]

    def exact(axis: int) -> np.ndarray:
        t = positions[axis].astype(np.float32)
        return np.asarray(render.lines_on(mesh)(image, t, np.full(count, axis, np.int32)))

    def interpolated(axis: int) -> np.ndarray:
        below, share = tables[axis].place(positions[axis])
        return np.asarray(
            jax.jit(jax.vmap(_between, (None, 0, 0)))(tables[axis].lines, below, share)
        )

    @jax.jit
    def pixels(rows: np.ndarray, columns: np.ndarray) -> jax.Array:
        of_all = jax.vmap(biline.pixel, (None, None, 0, 0))
        return of_all(image.pixels, image.pixel_styles, rows, columns)

    difference = pixels(interpolated(0), interpolated(1)) - pixels(exact(0), exact(1))
    steps = 127.5 * np.abs(difference)
    return float(steps.max()), float(steps.mean())


def _between(lines: jax.Array, below: jax.Array, share: jax.Array) -> jax.Array:
    """The bi-line [K, R, B] a share of the way from one entry of lines [M, K, R, B] to the next."""
    return (1.0 - share) * lines[below] + share * lines[below + 1]


def _limits(picture: Warped, windows: Sequence[Window]) -> list[tuple[float, float]]:
    """Least and greatest y, least and greatest x of the windows' samples."""
    limits = []
    samples = (
        Window(*(n * k for n, k in zip(window, picture.supersample * 2, strict=True)))
        for window in windows
    )
    # Some at a time: a window may be a whole picture.
    for y0, x0, y1, x1 in (part for window in samples for part in render.blocks(window)):
        h, w = picture.samples(0, y0, y1), picture.samples(1, x0, x1)
        both = np.stack(picture.positions(h[:, None], w[None, :]))
        if not np.isfinite(both).all():
            _, i, j = np.argwhere(~np.isfinite(both))[0]
            raise ValueError(
                f"the warp gives no finite position at pixel ({h[i]:g}, {w[j]:g}) of the "
                f"{picture.size[0]}x{picture.size[1]} picture"
            )
        limits.append((both.min(axis=(1, 2)), both.max(axis=(1, 2))))
    lows, highs = zip(*limits, strict=True)
    return list(zip(np.min(lows, axis=0), np.max(highs, axis=0), strict=True))


def _make_table(
    image: biline.Image, axis: int, low: float, high: float, pitch: float, mesh: Mesh
) -> Table:
    """The table of an axis (0: rows) from low to high, on every device."""
    span = mesh.size * render.tiling(mesh).tile
    first = math.floor(low / pitch) // span * span  # Anchored: windows share their entries.
    chunks = math.ceil((high / pitch - first + 2) / span)
    # Powers of two, so that few compiled shapes serve all pictures; what is beyond stays unused.
    length = span * 2 ** math.ceil(math.log2(chunks))
    if (needed := length * biline.line_bytes(image)) > TABLE_BYTES:
        raise ValueError(
            f"the warp reaches positions from {low:.4g} to {high:.4g}, the image being from 0 to "
            f"1: their table takes {needed / 2**20:.0f} MiB, more than {TABLE_BYTES / 2**20:.0f}"
        )
    lines = np.zeros((length, *biline.line_shape(image)), np.float32)

    def fill(start: int) -> None:
        t = ((first + np.arange(start, start + span)) * pitch).astype(np.float32)
        chunk = render.lines_on(mesh)(image, t, np.full(span, axis, np.int32))
        lines[start : start + span] = chunk

    with render.worker_threads(render.tiling(mesh).threads) as submit:
        for future in [submit(fill, chunk * span) for chunk in range(chunks)]:
            future.result()
    return Table(jax.device_put(lines, sharding.named(mesh, "image")), first, pitch)


@functools.cache
def tile_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, tables [M, K, R, B], places of rows and columns [r T, c T] -> [r T, c T, channels]."""
    specs = sharding.PARTITION_SPECS

    def pixel(image, row_table, column_table, m, f, n, g):
        row, column = _between(row_table, m, f), _between(column_table, n, g)
        return biline.pixel(image.pixels, image.pixel_styles, row, column)

    def tile(image, row_table, column_table, *places):
        of_group = jax.vmap(functools.partial(pixel, image, row_table, column_table))
        groups = [place.reshape(-1, GROUP) for place in places]
        pixels = jax.lax.map(lambda group: of_group(*group), groups)
        return pixels.reshape(*places[0].shape, -1)

    tiles = jax.shard_map(
        tile,
        mesh=mesh,
        in_specs=(*[specs["image"]] * 3, *[specs["pixels"]] * 4),
        out_specs=specs["pixels"],
    )
    return jax.jit(tiles, compiler_options=render.tiling(mesh).options)
