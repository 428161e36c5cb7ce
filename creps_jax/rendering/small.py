"""Small pictures, many at a time: each lies within one tile, and devices share out whole pictures.

Alone, a picture of 32 px takes several times as long in calls, threads and lines without pixels as
in its numbers. Here one program folds the weights of one image after the other and computes the
parts of lines and the patches that are needed. Products have the shapes that they have in
tiles.stream(), so that pixels are the same bit for bit.

Notation as in tiles.py; n devices.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import rng, sharding
from creps_jax.model import folded
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import programs
from creps_jax.rendering.frame import Frame
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.rounds import MANY, each
from creps_jax.rendering.tiles import paste, places
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.windows import Window

MANY_BYTES = 2**25  # of weights that pictures painted at a time may take together

Place = tuple[int, int, Window]  # of tiles.places()


def place(window: Window, supersample: tuple[int, int], mesh: Mesh) -> Place | None:
    """The one tile of a device that a window lies in; None if there are several."""
    side = tiling_of(mesh).tile
    first, *others = itertools.islice(places(window, (side, side), supersample), 2)
    return None if others else first


def at_a_time(variables: Variables, mesh: Mesh) -> int:
    """Pictures that the devices are best asked for at a time.

    Few of wide networks, whose pictures take long, so that the work can soon be stopped.
    """
    weights = sum(array.nbytes for array in jax.tree.leaves(variables))
    return mesh.size * min(MANY, max(1, MANY_BYTES // weights))


@functools.cache
def pictures_on(mesh: Mesh, generator: Generator, dtype: Any) -> Callable[..., jax.Array]:
    """variables, y and x as [2, T], inside [2, 2], counts [1, n], ws [MANY, n, num_ws, w_dim].

    -> pixels [MANY, n, T, T, channels], 0 from a device's count on and but for the patches that
    hold what is `inside`: first and last + 1 of the rows, then of the columns. Products in dtype.
    """
    specs, tiling = sharding.PARTITION_SPECS, tiling_of(mesh)

    def picture(variables, t, inside, w):
        # Stages are kept apart as tiles.stream() keeps them: fused, they might round otherwise.
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


def stream(
    generator: Generator,
    variables: Variables,
    dtype: Any,
    ws: np.ndarray,
    plan: Plan,
    mesh: Mesh,
) -> Iterator[np.ndarray]:
    """Yields the window of each of N images: float32 [height, width, channels], about [-1, 1].

    Args:
      variables: on every device of the mesh.
      dtype: of the products.
      ws: float32 [N, num_ws, w_dim].
      plan: whose window has a place(), and whose lines are exact.
    """
    frame, most = plan.frame(), MANY * mesh.size
    for start in range(0, len(ws), most):
        some = ws[start : start + most]
        yield from _paint(generator, variables, dtype, some, frame, plan, mesh)


@rng.pinned()
def _paint(
    generator: Generator,
    variables: Variables,
    dtype: Any,
    ws: np.ndarray,
    frame: Frame,
    plan: Plan,
    mesh: Mesh,
) -> list[np.ndarray]:
    """The windows of at most n MANY images."""
    side, n = tiling_of(mesh).tile, mesh.size
    # The positions of the one tile's rows and columns, and which of them are in the window.
    i, j, inside = place(plan.window, plan.supersample, mesh)
    t = np.stack([frame.y(i * side, (i + 1) * side), frame.x(j * side, (j + 1) * side)])
    needed = np.array([inside[::2], inside[1::2]], np.int32)
    # Dealt out in turn, so that no device has two pictures more than another.
    dealt = np.resize(ws, (MANY, n, *ws.shape[1:]))
    counts = -(-(len(ws) - np.arange(n, dtype=np.int32)[None]) // n)
    tiles = np.asarray(pictures_on(mesh, generator, dtype)(variables, t, needed, counts, dealt))
    tiles = tiles.reshape(MANY * n, *tiles.shape[2:])[: len(ws)]
    return [
        paste(plan.window, [((i, j, inside), pixels)], (side, side), plan.supersample)
        for pixels in tiles
    ]
