"""The discriminator: StyleGAN2's residual network, conditional by projection.

Shapes: images [N, r, r, channels] in [-1, 1]; c [N, num_classes], one-hot, num_classes may be 0;
logits [N]. Feature maps are NHWC; the epilogue flattens H, W, C.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from creps_jax.config import DiscriminatorConfig
from creps_jax.model import layers
from creps_jax.model.layers import Array, Parameters


def init_block(key: Array, fan_in: int, fan_out: int) -> Parameters:
    """Two 3x3 convolutions and the 1x1 skip, which has no bias."""
    key_0, key_1, key_skip = jax.random.split(key, 3)
    return {
        "conv_0": layers.init_conv(key_0, 3, fan_in, fan_in),
        "conv_1": layers.init_conv(key_1, 3, fan_in, fan_out),
        "skip": {"weight": jax.random.normal(key_skip, (1, 1, fan_in, fan_out))},
    }


def init_blocks(key: Array, channels: tuple[int, ...]) -> list[Parameters]:
    """Blocks resolution, ..., 16, 8; channels are those of resolutions 4, 8, ..., resolution."""
    down = channels[::-1]
    keys = jax.random.split(key, len(down) - 1)
    return [init_block(k, i, o) for k, i, o in zip(keys, down[:-1], down[1:], strict=True)]


def apply_block(p: Parameters, x: Array) -> Array:
    """[N, h, w, C] -> [N, h/2, w/2, C']: residual block, both branches times sqrt(1/2)."""
    half = math.sqrt(0.5)
    skip = layers.conv(p["skip"]["weight"], layers.blur(x, padding=1, stride=2)) * half
    x = layers.activate(p["conv_0"], layers.conv(p["conv_0"]["weight"], x))
    x = layers.blur(x, padding=2)
    x = layers.conv(p["conv_1"]["weight"], x, stride=2, padding="VALID")
    return skip + layers.activate(p["conv_1"], x, gain=half)


class Discriminator(nn.Module):
    """images, c -> logits."""

    config: DiscriminatorConfig

    def setup(self):
        config = self.config
        top, width = config.channels[-1], config.channels[0]
        self.from_rgb = self.param("from_rgb", layers.init_conv, 1, config.image_channels, top)
        self.blocks = self.param("blocks", init_blocks, config.channels)
        self.conv = self.param("conv", layers.init_conv, 3, width + 1, width)
        self.fc = self.param("fc", layers.init_linear, 4 * 4 * width, width)
        self.out = self.param("out", layers.init_linear, width, width if config.num_classes else 1)
        if config.num_classes:
            self.embed = self.param("embed", layers.init_linear, config.num_classes, width)
            self.mapping = self.param(
                "mapping", layers.init_mapping_stack, config.mapping_layers, width, width
            )

    def __call__(self, images: Array, c: Array) -> Array:
        """images [N, r, r, channels], c [N, num_classes] -> logits [N]."""
        x = layers.activate(self.from_rgb, layers.conv(self.from_rgb["weight"], images))
        for block in self.blocks:
            x = apply_block(block, x)
        x = layers.minibatch_std(x, self.config.mbstd_group_size)
        x = layers.activate(self.conv, layers.conv(self.conv["weight"], x))
        return jax.vmap(self.judge)(x.reshape(x.shape[0], -1), c)

    def judge(self, features: Array, c: Array) -> Array:
        """Epilogue of ONE image: features [4 * 4 * width], c [num_classes] -> logit []."""
        x = layers.lrelu(layers.linear(self.fc, features))
        x = layers.linear(self.out, x)
        if not self.config.num_classes:
            return x[0]
        # The class map has no z: its input is the normalised embedding alone.
        embedding = layers.normalize(layers.linear(self.embed, c))
        class_map = layers.mapping_stack(self.mapping, embedding)
        return jnp.sum(x * class_map) / math.sqrt(x.shape[0])
