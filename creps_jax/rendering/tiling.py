"""How the work is cut for a kind of device: what a CPU's caches, or many cores, like best."""

import functools
from typing import Any, NamedTuple

from jax.sharding import Mesh

from creps_jax import machine, sharding


class Tiling(NamedTuple):
    """How one kind of device is kept busy."""

    tile: int  # px; T: pixels of a tile are T x T, positions of a chunk of lines T.
    patch: int  # px; of a tile, patch x patch pixels are decoded at a time.
    lines: int  # of a chunk, so many are computed at a time, at least.
    threads: int  # tiles under way at a time, each on its own thread.
    options: dict[str, Any]  # of XLA, for these functions alone.


@functools.cache
def tiling_of(mesh: Mesh) -> Tiling:
    """The tiling of the mesh's devices."""
    if mesh.devices.flat[0].platform == "cpu":
        # A tile a core beats a product split over all: each keeps its own cache.
        options = sharding.compiler_options(mesh) | {"xla_cpu_multi_thread_eigen": False}
        return Tiling(128, 8, 32, max(1, machine.cores() // mesh.size), options)
    return Tiling(512, 512, 512, 4, sharding.compiler_options(mesh))
