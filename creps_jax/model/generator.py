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
from creps_jax.model import biline, layers, ops
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

        with ops.in_float32("mapping"):
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
    """The parameters of biline.lines, and the frequencies."""

    config: GeneratorConfig

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
    """The parameters of biline.pixels."""

    config: GeneratorConfig

    def setup(self):
        self.p = {
            name: self.param(name, layers.initializer(initials))
            for name, initials in init_pixels(self.config).items()
        }


def outside_slope(params: Any) -> Any:
    """Which parameters d image / d w does not depend on, a tree of bools: biases of the colour."""

    def is_outside(path: tuple[Any, ...], _: Array) -> bool:
        *_, layer, name = (str(getattr(entry, "key", "")) for entry in path)
        return name == "bias" and layer in ("rgb", "to_rgb")

    return jax.tree_util.tree_map_with_path(is_outside, params)


class Generator(nn.Module):
    """The whole generator; every stage can be applied on its own (`method=`).

    dtype: what lines and pixels are computed in, but for what ops.FLOAT32 lists.
    """

    config: GeneratorConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.mapping = Mapping(self.config)
        self.lines = Lines(self.config)
        self.pixels = Pixels(self.config)

    def create(self) -> None:
        """Makes all variables and computes nothing with them: init's `method="create"`."""
        _ = self.mapping.stack, self.lines.p, self.pixels.p

    def map(self, z: Array, c: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> w [N, w_dim]."""
        return self.mapping(z, c)

    def truncate(self, w: Array, psi: float, cutoff: int | None = None) -> Array:
        """w [N, w_dim] -> ws [N, num_ws, w_dim], pulled towards the mean latent by psi."""
        return self.mapping.truncate(w, psi, cutoff)

    def image(self, w: Array) -> biline.Image:
        """The image of w [num_ws, w_dim], all in float32: what biline.lines and pixels take."""
        return biline.image(self.lines.freqs.value, self.lines.p, self.pixels.p, w)

    def images(self, ws: Array) -> biline.Image:
        """The images of ws [N, num_ws, w_dim], in float32, to be vmapped over biline.IMAGES."""
        return jax.vmap(self.image, out_axes=biline.IMAGES)(ws)

    def synthesize(self, ws: Array, y: Array, x: Array) -> Array:
        """Images at rows y [H] and columns x [W]: [N, H, W, channels], about [-1, 1]."""

        def one(image: biline.Image) -> Array:
            return biline.pixels(image, *biline.row_and_column_lines(image, y, x))

        images = biline.in_dtype(self.images(ws), self.dtype)
        return jax.vmap(one, (biline.IMAGES,))(images)

    def __call__(self, z: Array, c: Array, y: Array, x: Array) -> Array:
        """z [N, z_dim], c [N, num_classes] -> image [N, H, W, channels] at y [H], x [W]."""
        return self.synthesize(repeat_w(self.map(z, c), self.config.num_ws), y, x)
