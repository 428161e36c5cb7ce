"""The discriminator: StyleGAN2's residual network, conditional by projection.

Shapes: images [N, H, W, channels] in [-1, 1], H = h 2^k, W = w 2^k; c [N, num_classes],
one-hot, num_classes may be 0; logits [N]. Feature maps are NHWC; the epilogue flattens H, W, C.
"""

import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from creps_jax.config import DiscriminatorConfig
from creps_jax.model import layers, ops
from creps_jax.model.layers import Array, Initials, Parameters


def init_block(fan_in: int, fan_out: int) -> Initials:
    """Two 3x3 convolutions and the 1x1 skip, which has no bias."""
    return {
        "conv_0": layers.init_conv(3, fan_in, fan_in),
        "conv_1": layers.init_conv(3, fan_in, fan_out),
        "skip": {"weight": layers.Initial((1, 1, fan_in, fan_out), std=1.0)},
    }


def init_discriminator(config: DiscriminatorConfig) -> Initials:
    """From-RGB, blocks 4 * 2^k, ..., 16, 8, the epilogue at h x w, and the class mapping."""
    down, width = config.channels[::-1], config.channels[0]
    initials = {
        "from_rgb": layers.init_conv(1, config.image_channels, down[0]),
        "blocks": [init_block(i, o) for i, o in itertools.pairwise(down)],
        "conv": layers.init_conv(3, width + 1, width),
        "fc": layers.init_linear(math.prod(config.base) * width, width),
        "out": layers.init_linear(width, width if config.num_classes else 1),
    }
    if config.num_classes:
        initials["embed"] = layers.init_linear(config.num_classes, width)
        initials["mapping"] = layers.init_mapping_stack(config.mapping_layers, width, width)
    return initials


def apply_block(p: Parameters, x: Array) -> Array:
    """[N, h, w, C] -> [N, h/2, w/2, C']: residual block, both branches times sqrt(1/2)."""
    half = math.sqrt(0.5)
    skip = layers.conv(p["skip"]["weight"], ops.blur(x, padding=1, stride=2)) * half
    x = layers.activate(p["conv_0"], layers.conv(p["conv_0"]["weight"], x))
    x = ops.blur(x, padding=2)
    x = layers.conv(p["conv_1"]["weight"], x, stride=2, padding="VALID")
    return skip + layers.activate(p["conv_1"], x, gain=half)


def outside_slope(params: Any) -> Any:
    """Which parameters d logits / d images does not depend on, a tree of bools: the last bias."""
    last = (jax.tree_util.DictKey("out"), jax.tree_util.DictKey("bias"))
    return jax.tree_util.tree_map_with_path(lambda path, _: path == last, params)


class Discriminator(nn.Module):
    """images, c -> logits. dtype: what it is computed in, but for what ops.FLOAT32 lists."""

    config: DiscriminatorConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.p = {
            name: self.param(name, layers.initializer(initials))
            for name, initials in init_discriminator(self.config).items()
        }

    def create(self) -> None:
        """Computes nothing with the variables, which setup makes: init's `method="create"`."""

    def __call__(self, images: Array, c: Array, kinds: int = 1) -> Array:
        """images [N, H, W, channels], c [N, num_classes] -> logits [N].

        Args:
          kinds: so many kinds of images, N / kinds of each, take turns. A group of the minibatch
            statistics is every (N / group size)th image, so that all of one group are of one kind.
        """
        inner = ("from_rgb", "blocks", "conv", "fc")
        p = ops.in_dtype({name: self.p[name] for name in inner}, self.dtype)
        x = layers.activate(p["from_rgb"], layers.conv(p["from_rgb"]["weight"], images))
        for block in p["blocks"]:
            x = apply_block(block, x)
        x = layers.minibatch_std(x, min(self.config.mbstd_group_size, len(x) // kinds))
        x = layers.activate(p["conv"], layers.conv(p["conv"]["weight"], x))
        x = jax.vmap(functools.partial(layers.linear, p["fc"]))(x.reshape(x.shape[0], -1))
        with ops.in_float32("logits"):
            return jax.vmap(self.judge)(ops.lrelu(x).astype(jnp.float32), c)

    def judge(self, x: Array, c: Array) -> Array:
        """The logit [] of ONE image from its features [width] and c [num_classes]."""
        x = layers.linear(self.p["out"], x)
        if not self.config.num_classes:
            return x[0]
        # The class map has no z: its input is the normalised embedding alone.
        embedding = layers.normalize(layers.linear(self.p["embed"], c))
        class_map = layers.mapping_stack(self.p["mapping"], embedding)
        return jnp.sum(x * class_map) / math.sqrt(x.shape[0])
