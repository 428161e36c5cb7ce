"""The generator as three StableHLO programs, which need JAX alone, on CPUs, GPUs and TPUs.

    mapping(z [n, z_dim], c [n, num_classes], psi []) -> ws [n, num_ws, w_dim]
    lines(ws, t [l], axis [l]) -> [n, l, K, R, B]      axis, int32: 0 for rows, 1 for columns
    pixels(ws, rows [n, h, K, R, B], columns [n, w, K, R, B]) -> [n, h, w, channels]

n, l, h and w are any. All are float32, positions t as model/coordinates.py has them, images about
[-1, 1]. The weights are in the programs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from creps_jax.model import biline
from creps_jax.model.generator import Generator, Variables

PLATFORMS = ("cpu", "cuda", "tpu")


Function = Callable[..., jax.Array]


def functions(generator: Generator, variables: Variables) -> dict[str, Function]:
    """What the programs compute, by name."""

    def mapping(z: jax.Array, c: jax.Array, psi: jax.Array) -> jax.Array:
        w = generator.apply(variables, z, c, method="map")
        return generator.apply(variables, w, psi, method="truncate")

    def images(ws: jax.Array) -> biline.Image:
        return generator.apply(variables, ws, method="images")

    def lines(ws: jax.Array, t: jax.Array, axis: jax.Array) -> jax.Array:
        return jax.vmap(biline.lines, (biline.IMAGES, None, None))(images(ws), t, axis)

    def pixels(ws: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
        return jax.vmap(biline.pixels, (biline.IMAGES, 0, 0))(images(ws), rows, columns)

    return {"mapping": mapping, "lines": lines, "pixels": pixels}


def programs(generator: Generator, variables: Variables) -> dict[str, bytes]:
    """The programs of a generator by name, as jax.export.deserialize reads them."""
    config = generator.config
    n, length, h, w = export.symbolic_shape("n, l, h, w")
    biline_shape = len(config.channels) - 1, config.thickness, config.biline_channels

    def floats(*shape: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    ws = floats(n, config.num_ws, config.w_dim)
    inputs = {
        "mapping": (floats(n, config.z_dim), floats(n, config.num_classes), floats()),
        "lines": (ws, floats(length), jax.ShapeDtypeStruct((length,), jnp.int32)),
        "pixels": (ws, floats(n, h, *biline_shape), floats(n, w, *biline_shape)),
    }
    return {
        name: bytes(
            export.export(jax.jit(function), platforms=PLATFORMS)(*inputs[name]).serialize()
        )
        for name, function in functions(generator, variables).items()
    }
