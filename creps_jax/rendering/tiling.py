"""How the work is cut for a kind of device: what a CPU's caches, or many cores, like best.

All that is chosen by what devices hold and not by the maths is here, for images and for warps.
"""

import functools
from typing import Any, NamedTuple

from jax.sharding import Mesh

from creps_jax import machine, sharding


class Tiling(NamedTuple):
    """How one kind of device is kept busy."""

    tile: int  # px; T: pixels of a tile are T x T, positions of a chunk of lines T.
    patch: int  # px; of a tile, patch x patch pixels are decoded at a time.
    warp_patch: int  # px; the same of a warp: each pixel has K x R x B features of its own.
    lines: int  # of a chunk, so many are computed at a time, at least.
    threads: int  # tiles under way at a time, each on its own thread.
    options: dict[str, Any]  # of XLA, for these functions alone.

    def lines_at_a_time(self, blocks: int) -> int:
        """How many lines of a chunk are computed at a time, by a network of so many blocks."""
        # A frame of the training images' size needs no more; where that is small, networks are so
        # narrow that their products are no slower for it.
        return min(max(self.lines, 4 << blocks), self.tile)


@functools.cache
def tiling_of(mesh: Mesh) -> Tiling:
    """The tiling of the mesh's devices."""
    options = sharding.compiler_options(mesh)
    if mesh.devices.flat[0].platform == "cpu":
        return Tiling(
            tile=128,
            # Small: what lies between the lines and the pixels of a patch stays in a core's cache.
            patch=8,
            warp_patch=16,
            lines=32,
            # A tile a core beats a product split over all: each keeps its own cache.
            threads=max(1, machine.cores() // mesh.size),
            options=options | {"xla_cpu_multi_thread_eigen": False},
        )
    return Tiling(tile=512, patch=512, warp_patch=16, lines=512, threads=4, options=options)
