"""Images under any map, whose lines are interpolated: turned, tilted, bent by lenses.

Where rows and columns of the picture are no longer those of the image, each pixel has a row
position y(h, w) and a column position x(h, w) of its own. Their bi-lines are interpolated from
tables (tables.py).
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline
from creps_jax.rendering import programs
from creps_jax.rendering.threads import worker_threads
from creps_jax.rendering.tiles import assemble
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.warp.tables import TOLERANCE, Table, between, evaluate, make_tables
from creps_jax.rendering.warp.warped import Warped, join, overview, reach
from creps_jax.rendering.windows import Window

SAMPLES = 1024  # whose error is measured


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
    needed = join(list(itertools.starmap(reach, pictures)))
    around = join([overview(picture) for picture, _ in pictures])
    return make_tables(image, needed, around, pictures[0][0].trained, mesh, tolerance)


def stream(
    image: biline.Image,
    picture: Warped,
    tables: tuple[Table, Table],
    windows: Iterable[Window],
    mesh: Mesh,
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields every window with its pixels, float32 [height, width, channels]; see tiles.stream."""
    tiling, (rows, columns) = tiling_of(mesh), tables
    tile = tuple(n * tiling.tile for n in mesh.devices.shape)

    def compute_tile(i: int, j: int, inside: Window) -> np.ndarray:
        # Where in the image each sample of the tile is, in float64, and where in the tables.
        h, w = (
            picture.samples(axis, k * n, (k + 1) * n)
            for axis, (k, n) in enumerate(zip((i, j), tile, strict=True))
        )
        y, x = picture.positions(h[:, None], w[None, :])
        places = *rows.place(y), *columns.place(x)
        needed = programs.patches(mesh, tiling.warp_patch, inside)
        return np.asarray(tile_on(mesh)(image, rows.lines, columns.lines, *places, *needed))

    with worker_threads(tiling.threads) as submit:
        submit_tile = functools.partial(submit, compute_tile)
        yield from assemble(windows, submit_tile, tile, picture.supersample, tiling.threads)


def error(
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
    image = biline.in_dtype(image, jnp.float32)
    positions = [t.ravel() for t in picture.positions(h[:, None], w[:, None])]
    exact = [evaluate(image, axis, t, mesh) for axis, t in enumerate(positions)]
    of_each = jax.vmap(between, (None, 0, 0))
    guessed = [
        of_each(table.lines, *table.place(t)) for table, t in zip(tables, positions, strict=True)
    ]
    return 127.5 * np.abs(np.asarray(_pixels(image, *guessed)) - _pixels(image, *exact))


def sampled_error(
    image: biline.Image,
    picture: Warped,
    window: Window,
    tables: tuple[Table, Table],
    mesh: Mesh,
) -> tuple[float, float]:
    """The greatest and the mean error() of SAMPLES pixels at random places of a window."""
    random = np.random.default_rng(0)
    h, w = (
        picture.samples(axis, 0, picture.size[axis] * k)[
            random.integers(window[axis] * k, window[axis + 2] * k, SAMPLES)
        ]
        for axis, k in enumerate(picture.supersample)
    )
    steps = error(image, picture, tables, h, w, mesh)
    return float(steps.max()), float(steps.mean())


@jax.jit
def _pixels(image: biline.Image, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Pixels of rows and columns [N, K, R, B], one by one: [N, channels]."""
    return jax.vmap(biline.pixel, (None, 0, 0))(image, rows, columns)


@functools.cache
def tile_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, tables [M, K, R, B], places of rows and columns [r T, c T] -> [r T, c T, channels].

    The last arguments are of programs.patches(): the pixels of no such patch are 0.
    """
    specs, side = sharding.PARTITION_SPECS, tiling_of(mesh).warp_patch

    def pixel(image, row_table, column_table, m, f, n, g):
        row, column = between(row_table, m, f), between(column_table, n, g)
        return biline.pixel(image, row, column)

    def tile(image, row_table, column_table, m, f, n, g, down, across):
        of_patch = jax.vmap(functools.partial(pixel, image, row_table, column_table))

        def decode(i, j):
            start, size = (i * side, j * side), (side, side)
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
    return jax.jit(tiles, compiler_options=tiling_of(mesh).options)
