"""The generator: latent -> w -> lines -> pixels. Flax modules that hold the parameters.

Variables: 'params', learnt; 'constants', the Fourier frequencies, drawn once and frozen;
'statistics', the running mean of w that truncation pulls towards.

Shapes: z [N, z_dim]; c [N, num_classes], one-hot, num_classes may be 0; w [N, w_dim];
ws [N, num_ws, w_dim]; y [H] and x [W], positions (coordinates.py); images [N, H, W, channels].
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from creps_jax.config import GeneratorConfig
from creps_jax.model import biline, layers
from creps_jax.model.layers import Array, Initials

Variables = dict[str, Any]


class Mapping(nn.Module):
    """z, c -> w, and the running mean of w."""

    config: GeneratorConfig

    def setup(self):
        config = self.config
        fan_in = config.z_dim
        if config.num_classes:
            fan_in += config.w_dim
            embed = layers.init_linear(config.num_classes, config.w_dim)
            self.embed = self.param("embed", layers.initializer(embed))
        stack = layers.init_mapping_stack(config.mapping_layers, fan_in, config.w_dim)
        self.stack = self.param("layers", layers.initializer(stack))
        self.w_avg = self.variable("statistics", "w_avg", jnp.zeros, (config.w_dim,), jnp.float32)

    def __call__(self, z: Array, c: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> w [N, w_dim]."""

        def one(z: Array, c: Array) -> Array:
            x = layers.normalize(z)
            if self.config.num_classes:
                x = jnp.concatenate([x, layers.normalize(layers.linear(self.embed, c))])
            return layers.mapping_stack(self.stack, x)

        return jax.vmap(one)(z, c)

    def truncate(self, w: Array, psi: float, cutoff: int | None) -> Array:
        """w [N, w_dim] -> ws [N, num_ws, w_dim]: w_avg + psi (w - w_avg) in the first cutoff."""
        ws = repeat_w(w, self.config.num_ws)
        mean = self.w_avg.value[None, None, :]
        truncated = mean + psi * (ws - mean)
        layer = jnp.arange(self.config.num_ws)[None, :, None]
        return jnp.where(layer < (self.config.num_ws if cutoff is None else cutoff), truncated, ws)


def repeat_w(w: Array, num_ws: int) -> Array:
    """One latent for every layer: [N, w_dim] -> [N, num_ws, w_dim]."""
    return jnp.repeat(w[:, None, :], num_ws, axis=1)


def init_modulated_block(
    fan_in: int, width: int, out_name: str, fan_out: int, w_dim: int
) -> Initials:
    """Two modulated layers fan_in -> width -> width and a projection to fan_out."""
    return {
        "layer_0": layers.init_modulated(fan_in, width, w_dim),
        "layer_1": layers.init_modulated(width, width, w_dim),
        out_name: layers.init_modulated(width, fan_out, w_dim),
    }


def init_lines(config: GeneratorConfig) -> Initials:
    """The Fourier encoding (weight [C, 2R]), block 4, and blocks 8, ..., 4 * 2^k."""
    width, table = config.channels[0], (config.channels[0], 2 * config.thickness)
    return {
        "encoding": {
            "weight": layers.Initial(table, std=1.0),
            "affine": layers.init_linear(config.w_dim, table[0] * table[1], bias=1.0),
        },
        "block_4": layers.init_modulated(width, width, config.w_dim),
        "blocks": [
            init_modulated_block(fan_in, width, "to_biline", config.biline_channels, config.w_dim)
            for fan_in, width in itertools.pairwise(config.channels)
        ],
    }


class Lines(nn.Module):
    """ws, positions -> bi-lines. The equations are biline.line's."""

    config: GeneratorConfig
    dtype: Any

    def setup(self):
        config = self.config
        self.p = {
            name: self.param(name, layers.initializer(initials))
            for name, initials in init_lines(config).items()
        }
        frequencies = (config.channels[0] // 2, config.thickness)
        self.freqs = self.variable(
            "constants",
            "freqs",
            lambda: config.bandwidth * jax.random.normal(self.make_rng("params"), frequencies),
        )

    def __call__(self, ws: Array, t: Array, axis: Array) -> Array:
        """ws [N, num_ws, w_dim], t [L], axis [L] (0: row, 1: column) -> [N, L, K, R, B]."""

        def one_image(w: Array) -> Array:
            styles = biline.line_styles(self.p, w)
            line = jax.vmap(biline.line, (None, None, None, 0, 0))
            return line(layers.cast(self.p, self.dtype), styles, self.freqs.value, axis, t)

        return jax.vmap(one_image)(ws)


def init_pixels(config: GeneratorConfig) -> Initials:
    """Decoders of blocks 16, ..., 4 * 2^k and the last one, the linear RGB, the refinement.

    A decoder is B -> 2B -> 4B -> 2B -> B; the refinement B -> 4B -> 4B and 4B -> 2B -> 2B.
    """
    width, channels, w_dim = config.biline_channels, config.image_channels, config.w_dim
    widths = (width, 2 * width, 4 * width, 2 * width, width)
    return {
        "decoders": [
            [layers.init_linear(i, o) for i, o in itertools.pairwise(widths)]
            for _ in config.channels[1:]
        ],
        "rgb": layers.init_linear(width, channels),
        "refine": [
            init_modulated_block(width, 4 * width, "to_rgb", channels, w_dim),
            init_modulated_block(4 * width, 2 * width, "to_rgb", channels, w_dim),
        ],
    }


class Pixels(nn.Module):
    """ws, rows, columns -> image. The equations are biline.pixel's."""

    config: GeneratorConfig
    dtype: Any

    def setup(self):
        self.p = {
            name: self.param(name, layers.initializer(initials))
            for name, initials in init_pixels(self.config).items()
        }

    def __call__(self, ws: Array, rows: Array, columns: Array) -> Array:
        """rows [N, H, K, R, B], columns [N, W, K, R, B] -> [N, H, W, channels]."""

        def one_image(w: Array, rows: Array, columns: Array) -> Array:
            styles = biline.pixel_styles(self.p, w)
            of_row = jax.vmap(biline.pixel, (None, None, None, 0))
            of_image = jax.vmap(of_row, (None, None, 0, None))
            return of_image(layers.cast(self.p, self.dtype), styles, rows, columns)

        return jax.vmap(one_image)(ws, rows, columns)


class Generator(nn.Module):
    """The whole generator; every stage can be applied on its own (`method=`).

    dtype: of the factors of the products of lines and pixels; sums, positions, phases, styles and
    the mapping are float32 always.
    """

    config: GeneratorConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.mapping = Mapping(self.config)
        self.lines = Lines(self.config, self.dtype)
        self.pixels = Pixels(self.config, self.dtype)

    def map(self, z: Array, c: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> w [N, w_dim]."""
        return self.mapping(z, c)

    def truncate(self, w: Array, psi: float, cutoff: int | None = None) -> Array:
        """w [N, w_dim] -> ws [N, num_ws, w_dim], pulled towards the mean latent by psi."""
        return self.mapping.truncate(w, psi, cutoff)

    def row_lines(self, ws: Array, y: Array) -> Array:
        """Bi-lines of rows at positions y [H]: [N, H, K, R, B]."""
        return self.lines(ws, y, jnp.zeros(y.shape, jnp.int32))

    def column_lines(self, ws: Array, x: Array) -> Array:
        """Bi-lines of columns at positions x [W]: [N, W, K, R, B]."""
        return self.lines(ws, x, jnp.ones(x.shape, jnp.int32))

    def compose(self, ws: Array, rows: Array, columns: Array) -> Array:
        """Image from the bi-lines of its rows and columns: [N, H, W, channels]."""
        return self.pixels(ws, rows, columns)

    def fold(self, w: Array, dtype: Any = jnp.float32) -> biline.Image:
        """The image of w [num_ws, w_dim]: what biline.image_lines and image_pixels take."""
        return biline.fold(self.lines.p, self.pixels.p, self.lines.freqs.value, w, dtype)

    def row_and_column_lines(self, ws: Array, y: Array, x: Array) -> tuple[Array, Array]:
        """Both in one pass, which is half the program and has products twice as large."""
        axis = (jnp.arange(len(y) + len(x)) >= len(y)).astype(jnp.int32)
        lines = self.lines(ws, jnp.concatenate([y, x]), axis)
        return lines[:, : len(y)], lines[:, len(y) :]

    def synthesize(self, ws: Array, y: Array, x: Array) -> Array:
        """Image at rows y [H] and columns x [W]: [N, H, W, channels], about [-1, 1]."""
        return self.pixels(ws, *self.row_and_column_lines(ws, y, x))

    def __call__(self, z: Array, c: Array, y: Array, x: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> image [N, H, W, channels] at y [H], x [W]."""
        return self.synthesize(repeat_w(self.map(z, c), self.config.num_ws), y, x)
