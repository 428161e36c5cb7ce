"""Small pictures, many at a time: each lies within one tile, and devices share out whole pictures.

Alone, a picture of 32 px takes several times as long in calls, threads and lines without pixels as
in its numbers. Here one program folds the weights of one image after the other and computes the
parts of lines and the patches that are needed. Products have the shapes that they have in
render.stream(), so that pixels are the same bit for bit.

Notation as in render.py; n devices.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import folded
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import programs, render
from creps_jax.rendering.rounds import MANY, each
from creps_jax.rendering.windows import Window

Place = tuple[int, int, Window]  # of render.places()


def place(window: Window, supersample: tuple[int, int], mesh: Mesh) -> Place | None:
    """The one tile of a device that a window lies in; None if there are several."""
    side = programs.tiling(mesh).tile
    first, *others = itertools.islice(render.places(window, (side, side), supersample), 2)
    return None if others else first


@functools.cache
def pictures_on(mesh: Mesh, generator: Generator, dtype: Any) -> Callable[..., jax.Array]:
    """variables, y and x as [2, T], inside [2, 2], counts [1, n], ws [MANY, n, num_ws, w_dim].

    -> pixels [MANY, n, T, T, channels], 0 from a device's count on and but for the patches that
    hold what is `inside`: first and last + 1 of the rows, then of the columns. Products in dtype.
    """
    specs, tiling = sharding.PARTITION_SPECS, programs.tiling(mesh)

    def picture(variables, t, inside, w):
        # Stages are kept apart as render.stream() keeps them: fused, they might round otherwise.
        image = folded.fold(generator.apply(variables, w, method="image"), dtype)
        image = jax.lax.optimization_barrier(image)
        axes = jnp.broadcast_to(jnp.arange(2)[:, None], t.shape)
        lines = functools.partial(programs.in_parts, tiling, image)
        # In a loop, as its body takes seconds to compile.
        both = jax.lax.map(lambda axis: lines(*axis), (inside, t, axes))
        rows, columns = jax.lax.optimization_barrier(both)
        side = tiling.patch
        patches = [(start // side, (stop + side - 1) // side) for start, stop in inside]
        return programs.decoded(image, rows, columns, side, *patches)

    def pictures(variables, t, inside, counts, ws):
        one = functools.partial(picture, variables, t, inside)
        return each(one, counts[0, 0], ws[:, 0])[:, None]

    whole, split = specs["image"], specs["pictures"]
    program = jax.shard_map(
        pictures,
        mesh=mesh,
        in_specs=(whole, whole, whole, split, split),
        out_specs=split,
        check_vma=False,  # Loops of as many steps as each device needs.
    )
    return jax.jit(program, compiler_options=tiling.options)


def paint(
    generator: Generator,
    variables: Variables,
    dtype: Any,
    ws: np.ndarray,
    frame: render.Frame,
    window: Window,
    supersample: tuple[int, int],
    mesh: Mesh,
) -> np.ndarray:
    """The window of each of N images: float32 [N, height, width, channels], about [-1, 1].

    Args:
      variables: on every device of the mesh.
      dtype: of the products.
      ws: float32 [N, num_ws, w_dim], at most n MANY of them.
      frame, supersample: of render.stream().
      window: that has a place().
    """
    side, n = programs.tiling(mesh).tile, mesh.size
    i, j, inside = place(window, supersample, mesh)
    t = np.stack([frame.y(i * side, (i + 1) * side), frame.x(j * side, (j + 1) * side)])
    # Dealt out in turn, so that no device has two pictures more than another.
    dealt = np.resize(ws, (MANY, n, *ws.shape[1:]))
    counts = -(-(len(ws) - np.arange(n, dtype=np.int32)[None]) // n)
    needed = np.array([inside[::2], inside[1::2]], np.int32)
    tiles = np.asarray(pictures_on(mesh, generator, dtype)(variables, t, needed, counts, dealt))
    tiles = tiles.reshape(MANY * n, *tiles.shape[2:])[: len(ws)]
    tile = (side, side)
    return np.stack(
        [render.paste(window, [((i, j, inside), pixels)], tile, supersample) for pixels in tiles]
    )
