"""The generator: latent -> w -> lines -> pixels. Flax modules that hold the parameters.

Variables: 'params', learnt; 'constants', the Fourier frequencies, drawn once and frozen;
'statistics', the running mean of w that truncation pulls towards.

Shapes: z [N, z_dim]; c [N, num_classes], one-hot, num_classes may be 0; w [N, w_dim];
ws [N, num_ws, w_dim]; y [H] and x [W], positions (coordinates.py); images [N, H, W, channels].
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from creps_jax.config import GeneratorConfig
from creps_jax.model import biline, layers
from creps_jax.model.layers import Array, Parameters

Variables = dict[str, Any]


class Mapping(nn.Module):
    """z, c -> w, and the running mean of w."""

    config: GeneratorConfig

    def setup(self):
        config = self.config
        fan_in = config.z_dim
        if config.num_classes:
            fan_in += config.w_dim
            self.embed = self.param("embed", layers.init_linear, config.num_classes, config.w_dim)
        self.stack = self.param(
            "layers", layers.init_mapping_stack, config.mapping_layers, fan_in, config.w_dim
        )
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


def init_encoding(key: Array, channels: int, thickness: int, w_dim: int) -> Parameters:
    """The Fourier encoding's weight [C, 2R] ~ normal(0, 1) and its affine layer."""
    weight_key, affine_key = jax.random.split(key)
    return {
        "weight": jax.random.normal(weight_key, (channels, 2 * thickness)),
        "affine": layers.init_linear(affine_key, w_dim, channels * 2 * thickness, bias=1.0),
    }


def init_modulated_block(
    key: Array, fan_in: int, width: int, out_name: str, fan_out: int, w_dim: int
) -> Parameters:
    """Two modulated layers fan_in -> width -> width and a projection to fan_out."""
    key_0, key_1, key_out = jax.random.split(key, 3)
    return {
        "layer_0": layers.init_modulated(key_0, fan_in, width, w_dim),
        "layer_1": layers.init_modulated(key_1, width, width, w_dim),
        out_name: layers.init_modulated(key_out, width, fan_out, w_dim),
    }


def init_line_blocks(key: Array, config: GeneratorConfig) -> list[Parameters]:
    """Blocks 8, 16, ..., resolution."""
    keys = jax.random.split(key, len(config.channels) - 1)
    return [
        init_modulated_block(k, fan_in, width, "to_biline", config.biline_channels, config.w_dim)
        for k, fan_in, width in zip(keys, config.channels[:-1], config.channels[1:], strict=True)
    ]


class Lines(nn.Module):
    """ws, positions -> bi-lines. The equations are biline.line's."""

    config: GeneratorConfig

    def setup(self):
        config = self.config
        width = config.channels[0]
        self.p = {
            "encoding": self.param(
                "encoding", init_encoding, width, config.thickness, config.w_dim
            ),
            "block_4": self.param("block_4", layers.init_modulated, width, width, config.w_dim),
            "blocks": self.param("blocks", init_line_blocks, config),
        }
        self.freqs = self.variable(
            "constants",
            "freqs",
            lambda: (
                config.bandwidth
                * jax.random.normal(self.make_rng("params"), (width // 2, config.thickness))
            ),
        )

    def __call__(self, ws: Array, t: Array, axis: int) -> Array:
        """ws [N, num_ws, w_dim], t [L] -> [N, L, K, R, B]; axis 0: rows, 1: columns."""

        def one_image(w: Array) -> Array:
            styles = biline.line_styles(self.p, w)
            line = jax.vmap(biline.line, (None, None, None, None, 0))
            return line(self.p, styles, self.freqs.value, axis, t)

        return jax.vmap(one_image)(ws)


def init_decoders(key: Array, count: int, width: int) -> list[list[Parameters]]:
    """Decoders of blocks 16, ..., resolution and the last one: B -> 2B -> 4B -> 2B -> B."""
    widths = [width, 2 * width, 4 * width, 2 * width, width]
    return [
        [
            layers.init_linear(k, i, o)
            for k, i, o in zip(jax.random.split(key, 4), widths[:-1], widths[1:], strict=True)
        ]
        for key in jax.random.split(key, count)
    ]


def init_refine(key: Array, width: int, channels: int, w_dim: int) -> list[Parameters]:
    """The two refinement blocks: B -> 4B -> 4B and 4B -> 2B -> 2B, each with a to-RGB layer."""
    key_0, key_1 = jax.random.split(key)
    return [
        init_modulated_block(key_0, width, 4 * width, "to_rgb", channels, w_dim),
        init_modulated_block(key_1, 4 * width, 2 * width, "to_rgb", channels, w_dim),
    ]


class Pixels(nn.Module):
    """ws, rows, columns -> image. The equations are biline.pixel's."""

    config: GeneratorConfig

    def setup(self):
        config = self.config
        width = config.biline_channels
        self.p = {
            "decoders": self.param("decoders", init_decoders, len(config.channels) - 1, width),
            "rgb": self.param("rgb", layers.init_linear, width, config.image_channels),
            "refine": self.param("refine", init_refine, width, config.image_channels, config.w_dim),
        }

    def __call__(self, ws: Array, rows: Array, columns: Array) -> Array:
        """rows [N, H, K, R, B], columns [N, W, K, R, B] -> [N, H, W, channels]."""

        def one_image(w: Array, rows: Array, columns: Array) -> Array:
            styles = biline.pixel_styles(self.p, w)
            of_row = jax.vmap(biline.pixel, (None, None, None, 0))
            of_image = jax.vmap(of_row, (None, None, 0, None))
            return of_image(self.p, styles, rows, columns)

        return jax.vmap(one_image)(ws, rows, columns)


class Generator(nn.Module):
    """The whole generator; every stage can be applied on its own (`method=`)."""

    config: GeneratorConfig

    def setup(self):
        self.mapping = Mapping(self.config)
        self.lines = Lines(self.config)
        self.pixels = Pixels(self.config)

    def map(self, z: Array, c: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> w [N, w_dim]."""
        return self.mapping(z, c)

    def truncate(self, w: Array, psi: float, cutoff: int | None = None) -> Array:
        """w [N, w_dim] -> ws [N, num_ws, w_dim], pulled towards the mean latent by psi."""
        return self.mapping.truncate(w, psi, cutoff)

    def row_lines(self, ws: Array, y: Array) -> Array:
        """Bi-lines of rows at positions y [H]: [N, H, K, R, B]."""
        return self.lines(ws, y, 0)

    def column_lines(self, ws: Array, x: Array) -> Array:
        """Bi-lines of columns at positions x [W]: [N, W, K, R, B]."""
        return self.lines(ws, x, 1)

    def compose(self, ws: Array, rows: Array, columns: Array) -> Array:
        """Image from the bi-lines of its rows and columns: [N, H, W, channels]."""
        return self.pixels(ws, rows, columns)

    def synthesize(self, ws: Array, y: Array, x: Array) -> Array:
        """Image at rows y [H] and columns x [W]: [N, H, W, channels], about [-1, 1]."""
        return self.pixels(ws, self.row_lines(ws, y), self.column_lines(ws, x))

    def __call__(self, z: Array, c: Array, y: Array, x: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> image [N, H, W, channels] at y [H], x [W]."""
        return self.synthesize(repeat_w(self.map(z, c), self.config.num_ws), y, x)
