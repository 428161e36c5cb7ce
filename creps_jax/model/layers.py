"""The layers of both networks, as functions of one vector or one batch of feature maps.

Parameters are plain dicts: a linear layer is {'weight': [I, O], 'bias': [O]}, a modulated one has
in addition 'affine', the linear layer that makes its style. Vector layers take ONE vector [I];
callers vmap them over whatever else there is. Feature maps are NHWC, filters HWIO. A layer computes
in the dtype of its parameters: see ops.py.

Notation: x input, w latent, s style, d demodulation, I fan-in, O fan-out.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from creps_jax.model import convolution
from creps_jax.model.ops import CLIP, in_float32, limited, lrelu, product, shift

Array = jax.Array
Parameters = dict[str, Any]
Initials = dict[str, Any]  # Like Parameters, with an Initial in the place of each array.


class Initial(NamedTuple):
    """How an array starts: constant, or normal(0, std)."""

    shape: tuple[int, ...]
    std: float = 0.0
    constant: float = 0.0


def initialize(key: Array, initials: Any) -> Any:
    """Arrays for a tree of Initials, all from one draw: compiling many draws takes long."""
    leaves, tree = jax.tree.flatten(initials, is_leaf=lambda x: isinstance(x, Initial))
    sizes = [math.prod(leaf.shape) if leaf.std else 0 for leaf in leaves]
    normal = jax.random.normal(key, (sum(sizes),))
    arrays, start = [], 0
    for leaf, size in zip(leaves, sizes, strict=True):
        if leaf.std:
            drawn = normal[start : start + size].reshape(leaf.shape)
            arrays.append(leaf.std * drawn)
        else:
            arrays.append(jnp.full(leaf.shape, leaf.constant, jnp.float32))
        start += size
    return jax.tree.unflatten(tree, arrays)


def initializer(initials: Any) -> Callable[[Array], Any]:
    """What Flax asks of a parameter: key -> arrays."""
    return lambda key: initialize(key, initials)


def variable_shapes(network: nn.Module) -> dict[str, Any]:
    """The variables of a generator or discriminator, jax.ShapeDtypeStructs in place of arrays."""
    return jax.eval_shape(functools.partial(network.init, method="create"), jax.random.key(0))


def normalize(x: Array) -> Array:
    """x [C] divided by its root mean square: x / sqrt(mean(x^2) + 1e-8)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x)) + 1e-8)


# Equalised linear: y = x @ (weight * lr / sqrt(I)) + bias * lr.


def init_linear(fan_in: int, fan_out: int, lr: float = 1.0, bias: float = 0.0) -> Initials:
    """Stored weight ~ normal(0, 1) / lr, stored bias = its initial value."""
    return {
        "weight": Initial((fan_in, fan_out), std=1.0 / lr),
        "bias": Initial((fan_out,), constant=bias),
    }


def linear(p: Parameters, x: Array, lr: float = 1.0) -> Array:
    """Equalised linear layer: [I] -> [O]."""
    weight = p["weight"] * (lr / math.sqrt(p["weight"].shape[0]))
    return shift(product(x, weight), p["bias"] * lr)


# Mapping networks: a stack of equalised linear layers with lrelu and a small learning rate.

MAPPING_LR = 0.01


def init_mapping_stack(count: int, fan_in: int, width: int) -> list[Initials]:
    """The layers of a mapping network: fan_in -> width -> ... -> width."""
    fans = [fan_in] + [width] * (count - 1)
    return [init_linear(fan, width, MAPPING_LR) for fan in fans]


def mapping_stack(stack: list[Parameters], x: Array) -> Array:
    """[fan_in] -> [width]: equalised linear + lrelu, learning-rate multiplier 0.01."""
    for p in stack:
        x = lrelu(linear(p, x, MAPPING_LR))
    return x


# Modulated linear: W'[i,o] = weight[i,o] s[i]; W'[:,o] /= sqrt(sum_i W'[i,o]^2 + 1e-8).
# Scaling the input by s and the output by d lets a batch share one matrix product.


class Style(NamedTuple):
    """What a latent does to a modulated layer: s [I] scales its input, d [O] its output."""

    scale: Array
    demodulation: Array


def init_modulated(fan_in: int, fan_out: int, w_dim: int) -> Initials:
    """Stored weight ~ normal(0, 1), bias 0; the affine layer's bias starts at 1."""
    return {**init_linear(fan_in, fan_out), "affine": init_linear(w_dim, fan_in, bias=1.0)}


def style(p: Parameters, w: Array) -> Style:
    """w [w_dim] -> s = affine(w), d = 1 / sqrt(sum_i (weight[i,o] s[i])^2 + 1e-8)."""
    with in_float32("styles"):
        scale = linear(p["affine"], w)
        power = product(jnp.square(scale), jnp.square(p["weight"]))
        return Style(scale, jax.lax.rsqrt(power + 1e-8))


def modulated(p: Parameters, style: Style | None, x: Array) -> Array:
    """Modulated linear layer with lrelu and clipping: [I] -> [O]; style None: it is in p."""
    if style is None:
        return lrelu(shift(product(x, p["weight"]), p["bias"]), limit=CLIP)
    y = product(x * style.scale, p["weight"]) * style.demodulation
    return lrelu(shift(y, p["bias"]), limit=CLIP)


def projection_style(p: Parameters, w: Array) -> Array:
    """The style of a to-bi-line or to-RGB layer: s = affine(w) / sqrt(I), [I]."""
    with in_float32("styles"):
        return linear(p["affine"], w) / math.sqrt(p["weight"].shape[0])


def projection(p: Parameters, scale: Array | None, x: Array) -> Array:
    """To-bi-line or to-RGB: modulated without demodulation or activation, clipped: [I] -> [O].

    scale None: it is in p.
    """
    return limited(shift(product(x if scale is None else x * scale, p["weight"]), p["bias"]))


# Convolutions of the discriminator.


def init_conv(size: int, fan_in: int, fan_out: int) -> Initials:
    """A size x size filter ~ normal(0, 1) and a bias of 0."""
    return {
        "weight": Initial((size, size, fan_in, fan_out), std=1.0),
        "bias": Initial((fan_out,)),
    }


def conv(weight: Array, x: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """Equalised convolution without bias: x * (weight / sqrt(I kh kw)), NHWC."""
    gain = 1.0 / math.sqrt(math.prod(weight.shape[:3]))
    return convolution.convolve(x.astype(weight.dtype), weight * gain, stride, padding)


def activate(p: Parameters, x: Array, gain: float = 1.0) -> Array:
    """lrelu(x + bias) * gain, clipped to +-256 * gain, NHWC."""
    return lrelu(shift(x, p["bias"]), gain, CLIP * gain)


def minibatch_std(x: Array, group_size: int) -> Array:
    """Append the minibatch standard deviation as a channel: [N, H, W, C] -> [N, H, W, C + 1].

    Sample i belongs to group {i mod (N / G) + k N / G}, G = min(group_size, N). The standard
    deviation over the group (1e-8 inside the root) is averaged over channels and pixels.
    """
    n, h, w, c = x.shape
    group = min(group_size, n)
    groups = x.astype(jnp.float32).reshape(group, n // group, h, w, c)
    deviation = groups - groups.mean(axis=0, keepdims=True)
    std = jnp.sqrt(jnp.square(deviation).mean(axis=0) + 1e-8).mean(axis=(1, 2, 3))
    feature = jnp.tile(std, group)[:, None, None, None].astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(feature, (n, h, w, 1))], axis=-1)
