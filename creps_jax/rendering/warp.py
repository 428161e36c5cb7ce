"""Images under any coordinate map: rotation, shear, perspective, lenses, polar coordinates.

Where rows and columns of the picture are no longer those of the image, each pixel has a row
position y(h, w) and a column position x(h, w) of its own. Their bi-lines are interpolated from
tables (tables.py).

Notation: (h, w) pixels of the picture, (i, j) pixels of the unwarped frame of the same size, both
float64 with pixel centres at whole numbers; t a position (coordinates.py).
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline, coordinates, folded
from creps_jax.rendering import programs, render
from creps_jax.rendering.checks import is_number
from creps_jax.rendering.maps import Map, Named, broadcasts, check_map, named
from creps_jax.rendering.tables import TOLERANCE, Range, Table, between, evaluate, make_tables
from creps_jax.rendering.windows import Blocks, Window

PATCH = 16  # px; patches are decoded at a time: each pixel has K x R x B features of its own
OVERVIEW = 65  # points a side at which a map is looked at as a whole
FAR = 1e30  # positions that are looked at: float32 holds them


# Maps. All keep the centre of the picture in its place.


@named
def rotate(degrees: float) -> Map:
    """The image turned clockwise by an angle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def unturned(v, u):
        return cos * v - sin * u, sin * v + cos * u

    return _centered(unturned)


@named
def shear(slope: float) -> Map:
    """Rows pushed sideways: by `slope` px to the right per px below the centre."""
    return _centered(lambda v, u: (v, u - slope * v))


@named
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


@named
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


@named
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


@named
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
    if name not in WARPS or not is_number(number):
        raise ValueError(
            f"warp={text!r} must be NAME:AMOUNT with one of {', '.join(WARPS)} and a number that "
            "float32 can hold"
        )
    return WARPS[name](number)


def check(warp: str | Map, size: tuple[int, int]) -> Map:
    """The map that a warp is, or that its name stands for.

    Raises:
      ValueError: it is neither, or no function from (h, w, size) to two arrays that broadcast.
    """
    if isinstance(warp, str):
        return parse(warp)
    if not isinstance(warp, Named):
        check_map(warp, size)
    return warp


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

    trained, the height and width of the training images, and sampling say where in the image the
    frame's pixels are (coordinates.py); a pixel is the mean of supersample rows and columns of
    samples.
    """

    size: tuple[int, int]
    warp: Map
    trained: tuple[int, int]
    sampling: coordinates.Sampling = coordinates.centers
    supersample: tuple[int, int] = (1, 1)

    def samples(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Where the samples start <= i < stop of an axis lie, px: float64.

        Beyond the picture, where tiles reach and a warp need not be defined, they are at its edge.
        """
        at = (np.arange(start, stop) + 0.5) / self.supersample[axis] - 0.5
        return np.clip(at, -0.5, self.size[axis] - 0.5)

    def positions(self, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y and x of the pixels (h, w), arrays that broadcast, fractions allowed: float64."""
        shape = np.broadcast_shapes(h.shape, w.shape)
        with np.errstate(all="ignore"):  # What is not finite is found where it matters.
            moved = [np.broadcast_to(at, shape) for at in self.warp(h, w, self.size)]
            y, x = (
                self.sampling(at.astype(np.float64), n, r)
                for at, n, r in zip(moved, self.size, self.trained, strict=True)
            )
        return y, x


def separable_frame(picture: Warped) -> render.Frame | None:
    """The picture as a frame, whose lines are exact; None if rows and columns mix.

    They do not if what the warp gives for i broadcasts to a column, and j to a row.
    """
    h, w = (np.linspace(0, n - 1, 2) for n in picture.size)
    with np.errstate(all="ignore"):
        i, j = picture.warp(h[:, None], w[None, :], picture.size)
    if not (broadcasts(np.shape(i), (2, 1)) and broadcasts(np.shape(j), (1, 2))):
        return None

    def axis(k: int) -> Callable[[int, int], np.ndarray]:
        def positions(start: int, stop: int) -> np.ndarray:
            at, zero = picture.samples(k, start, stop), np.zeros((1, 1))
            h, w = (at[:, None], zero) if k == 0 else (zero, at[None, :])
            with np.errstate(over="ignore"):
                t = picture.positions(h, w)[k].ravel().astype(np.float32)
            if not np.isfinite(t).all():
                raise ValueError(
                    f"the warp gives no finite position at {at[~np.isfinite(t)][0]:g}"
                    f" px of axis {k} of the {picture.size[0]}x{picture.size[1]} picture"
                )
            return t

        return positions

    height, width = (n * k for n, k in zip(picture.size, picture.supersample, strict=True))
    return render.Frame(height, width, axis(0), axis(1))


def tables(
    image: biline.Image,
    pictures: Sequence[tuple[Warped, Window]],
    mesh: Mesh,
    tolerance: float = TOLERANCE,
) -> tuple[Table, Table]:
    """The tables that windows of some pictures of one image need, on every device of the mesh.

    Args:
      tolerance: of make_tables().

    Raises:
      ValueError: a warp gives a position that is not finite, or needs too long a table.
    """
    needed = _join(list(itertools.starmap(_reach, pictures)))
    around = _join([_overview(picture) for picture, _ in pictures])
    return make_tables(image, needed, around, pictures[0][0].trained, mesh, tolerance)


def stream(
    image: biline.Image,
    picture: Warped,
    tables: tuple[Table, Table],
    windows: Iterable[Window],
    mesh: Mesh,
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields every window with its pixels, float32 [height, width, channels]; see render.stream."""
    side, threads = programs.tiling(mesh).tile, programs.tiling(mesh).threads
    tile = tuple(n * side for n in mesh.devices.shape)
    rows, columns = tables

    def compute_tile(i: int, j: int, inside: Window) -> np.ndarray:
        h, w = (
            picture.samples(axis, k * n, (k + 1) * n)
            for axis, (k, n) in enumerate(zip((i, j), tile, strict=True))
        )
        y, x = picture.positions(h[:, None], w[None, :])
        places = *rows.place(y), *columns.place(x)
        needed = programs.patches(mesh, PATCH, inside)
        return np.asarray(tile_on(mesh)(image, rows.lines, columns.lines, *places, *needed))

    with render.worker_threads(threads) as submit:
        submit_tile = functools.partial(submit, compute_tile)
        yield from render.assemble(windows, submit_tile, tile, picture.supersample, threads)


def interpolation_error(
    image: biline.Image,
    picture: Warped,
    tables: tuple[Table, Table],
    h: np.ndarray,
    w: np.ndarray,
    mesh: Mesh,
) -> np.ndarray:
    """How far pixels (h [N], w [N]) are from those of exact lines: 8-bit steps [N, channels].

    All is computed in float32: bfloat16 would add its rounding.
    """
    image = folded.in_float32(image)
    positions = [t.ravel() for t in picture.positions(h[:, None], w[:, None])]
    exact = [evaluate(image, axis, t, mesh) for axis, t in enumerate(positions)]
    of_each = jax.vmap(between, (None, 0, 0))
    guessed = [
        of_each(table.lines, *table.place(t)) for table, t in zip(tables, positions, strict=True)
    ]
    return 127.5 * np.abs(np.asarray(_pixels(image, *guessed)) - _pixels(image, *exact))


@jax.jit
def _pixels(image: biline.Image, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Pixels of rows and columns [N, K, R, B], one by one: [N, channels]."""
    return jax.vmap(biline.pixel, (None, 0, 0))(image, rows, columns)


def _reach(picture: Warped, window: Window) -> tuple[Range, Range]:
    """The positions y and x of all samples of a window."""
    lows, highs = [], []
    samples = Window(*(n * k for n, k in zip(window, picture.supersample * 2, strict=True)))
    # Some at a time: a window may be a whole picture.
    for y0, x0, y1, x1 in Blocks(samples):
        h, w = picture.samples(0, y0, y1), picture.samples(1, x0, x1)
        both = np.stack(picture.positions(h[:, None], w[None, :]))
        if not np.isfinite(both).all():
            _, i, j = np.argwhere(~np.isfinite(both))[0]
            raise ValueError(
                f"the warp gives no finite position at pixel ({h[i]:g}, {w[j]:g}) of the "
                f"{picture.size[0]}x{picture.size[1]} picture"
            )
        lows.append(both.min(axis=(1, 2)))
        highs.append(both.max(axis=(1, 2)))
    y, x = map(Range, np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist())
    return y, x


def _overview(picture: Warped) -> tuple[Range, Range]:
    """About the positions y and x of a whole picture, whatever window is asked for.

    Those of the image, 0 to 1, are always among them.
    """
    h, w = (np.linspace(0, n - 1, OVERVIEW) for n in picture.size)
    both = picture.positions(h[:, None], w[None, :])
    y, x = (
        Range(float(t.min(initial=0.0)), float(t.max(initial=1.0)))
        for t in (np.clip(t[np.isfinite(t)], -FAR, FAR) for t in both)
    )
    return y, x


def _join(ranges: Sequence[tuple[Range, Range]]) -> tuple[Range, Range]:
    """The least ranges of y and of x that hold all the given."""
    y, x = (
        Range(min(part.low for part in parts), max(part.high for part in parts))
        for parts in zip(*ranges, strict=True)
    )
    return y, x


@functools.cache
def tile_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, tables [M, K, R, B], places of rows and columns [r T, c T] -> [r T, c T, channels].

    The last arguments are of programs.patches(): the pixels of no such patch are 0.
    """
    specs = sharding.PARTITION_SPECS

    def pixel(image, row_table, column_table, m, f, n, g):
        row, column = between(row_table, m, f), between(column_table, n, g)
        return biline.pixel(image, row, column)

    def tile(image, row_table, column_table, m, f, n, g, down, across):
        of_patch = jax.vmap(functools.partial(pixel, image, row_table, column_table))

        def decode(i, j):
            start, size = (i * PATCH, j * PATCH), (PATCH, PATCH)
            places = [jax.lax.dynamic_slice(place, start, size).ravel() for place in (m, f, n, g)]
            return of_patch(*places).reshape(*size, -1)

        return programs.in_patches(decode, m.shape, down[0], across[0])

    tiles = jax.shard_map(
        tile,
        mesh=mesh,
        in_specs=(*[specs["image"]] * 3, *[specs["pixels"]] * 4, specs["rows"], specs["columns"]),
        out_specs=specs["pixels"],
        check_vma=False,  # Loops of as many steps as each device needs.
    )
    return jax.jit(tiles, compiler_options=programs.tiling(mesh).options)
