"""What the devices of a mesh compute of a picture: its folded weights, lines and tiles of pixels.

Compiled once each, whatever the size. Notation as in tiles.py.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline, folded
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering.tiling import Tiling, tiling_of
from creps_jax.rendering.windows import Window


@functools.cache
def lines_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, t [n T], axis [n T] -> bi-lines [n T, K, R, B], split over the n devices."""
    image, positions = (sharding.PARTITION_SPECS[kind] for kind in ("image", "positions"))
    lines = jax.shard_map(
        lambda image, *t: in_parts(tiling_of(mesh), image, (0, tiling_of(mesh).tile), *t),
        mesh=mesh,
        in_specs=(image, positions, positions),
        out_specs=positions,
        check_vma=False,  # Its loop begins with zeros.
    )
    return jax.jit(lines, compiler_options=tiling_of(mesh).options)


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
    side = tiling.lines_at_a_time(len(image.lines["blocks"]))
    start, stop = needed

    def part(k: jax.Array, lines: jax.Array) -> jax.Array:
        some = (jax.lax.dynamic_slice_in_dim(each, k * side, side) for each in (t, axis))
        computed = biline.lines(image, *some).astype(jnp.float32)
        return jax.lax.dynamic_update_slice_in_dim(lines, computed, k * side, 0)

    lines = jnp.zeros((len(t), *biline.line_shape(image)), jnp.float32)
    return jax.lax.fori_loop(start // side, (stop + side - 1) // side, part, lines)


@functools.cache
def tile_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, rows [r T, K, R, B], columns [c T, K, R, B], *patches() -> [r T, c T, channels].

    The pixels of no such patch are 0.
    """
    specs, side = sharding.PARTITION_SPECS, tiling_of(mesh).patch

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
    return jax.jit(tiles, compiler_options=tiling_of(mesh).options)


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
        return biline.pixels(image, row, column)

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
        tile = tiling_of(mesh).tile
        corners = np.arange(devices) * tile
        edges = start, stop + side - 1  # The last patch counts, too.
        first, last = (np.clip(edge - corners, 0, tile) // side for edge in edges)
        return np.stack([first, last], axis=1).astype(np.int32)

    down, across = mesh.devices.shape
    if inside is None:
        inside = Window(0, 0, *(n * tiling_of(mesh).tile for n in mesh.devices.shape))
    return of_axis(inside.y0, inside.y1, down), of_axis(inside.x0, inside.x1, across)


@functools.partial(jax.jit, static_argnames=("generator", "dtype"))
def fold(generator: Generator, variables: Variables, ws: jax.Array, dtype: Any) -> biline.Image:
    """The image of ws [num_ws, w_dim], its products in dtype."""
    return folded.fold(generator.apply(variables, ws, method="image"), dtype)
