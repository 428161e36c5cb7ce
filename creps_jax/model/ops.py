"""The operations of lines, pixels and feature maps, and the one policy of their precision.

Networks have a compute dtype, float32 or bfloat16. All that is computed many times is in it:
products and convolutions, whose results are in it too (an accelerator's matrix unit adds up in
float32 inside), activations, modulations and blurs, and the gradients of all of these. FLOAT32
lists what is in float32 whatever the compute dtype is.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from creps_jax.model.primitives import pointwise, primitive

Array = jax.Array

FLOAT32 = {
    "parameters": "an update is far smaller than bfloat16's steps; the optimiser's, too",
    "positions": "neighbours differ by 2^-20 of an image; so are the phases of its waves",
    "mapping": "all pixels hang on w, and truncation on its mean w_avg",
    "styles": "a demodulation is one over the root of a sum of squares; once an image",
    "running sums": "of the lines over blocks and of the colour over layers: errors would add up",
    "statistics": "of a minibatch, of gradients and of signs: means of many numbers",
    "augmentation": "of images, which have more levels than bfloat16; positions again",
    "logits": "few numbers, of which the losses are differences",
}

CLIP = 256.0  # Activations of modulated and convolutional layers stay within +-CLIP.


def in_float32(name: str) -> contextlib.AbstractContextManager[None]:
    """Around products that FLOAT32 lists under a name: programs and traces show it."""
    assert name in FLOAT32, name
    return jax.named_scope(name)


def in_dtype(tree: Any, dtype: Any) -> Any:
    """The tree with all its arrays in dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def precision_of(dtype: Any) -> jax.lax.Precision:
    """Accelerators multiply float32 numbers in fewer bits unless told not to."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


# A vector operation is vmapped over positions that share its weights. As primitives with a batching
# rule, two of them stay one operation over all positions, whose gradients are single sums: as
# custom_vjp each position would have a gradient of its own.


def product(x: Array, weight: Array) -> Array:
    """x [..., I] @ weight [I, O]: [..., O], all in the weight's dtype."""
    return _product.bind(x.astype(weight.dtype), weight)


def _plain_product(x: Array, weight: Array) -> Array:
    return jax.lax.dot_general(
        x, weight, (((x.ndim - 1,), (0,)), ((), ())), precision=precision_of(weight.dtype)
    )


def _plain_outer(x: Array, c: Array) -> Array:
    """The sum over all positions of x [..., I] times c [..., O]: [I, O]."""
    # Over one axis: a CPU copies what it sums over several.
    x, c = (a.reshape(-1, a.shape[-1]) for a in (x, c))
    return jax.lax.dot_general(x, c, (((0,), (0,)), ((), ())), precision=precision_of(x.dtype))


def _over_positions(operation: Primitive, plain: Callable[..., Array]) -> Any:
    """A batching rule: positions that share the last argument are one more axis of the first."""

    def batched(arrays: Any, axes: Any) -> tuple[Array, int]:
        (x, shared), (axis, of_shared) = arrays, axes
        if of_shared is None:
            return operation.bind(jnp.moveaxis(x, axis, 0), shared), 0
        return jax.vmap(plain, axes)(*arrays), 0

    return batched


_product = primitive("product", _plain_product)
_outer = primitive("outer", _plain_outer)
batching.primitive_batchers[_product] = _over_positions(_product, _plain_product)
ad.defbilinear(_product, lambda c, x, w: _product.bind(c, w.T), lambda c, x, w: _outer.bind(x, c))
ad.defbilinear(_outer, lambda u, x, c: _product.bind(c, u.T), lambda u, x, c: _product.bind(x, u))


def shift(x: Array, bias: Array) -> Array:
    """x [..., O] + bias [O]."""
    return _shift.bind(x, bias)


def _plain_shift(x: Array, bias: Array) -> Array:
    return x + jax.lax.broadcast_in_dim(bias, x.shape, (x.ndim - 1,))


def _plain_total(c: Array) -> Array:
    return c.sum(axis=range(c.ndim - 1))


def _total_by_product(c: Array) -> Array:
    """The same, by a product with ones: on a CPU up to 20 times as fast as XLA's sum."""
    c = c.reshape(-1, c.shape[-1])
    return _plain_product(jnp.ones((1, len(c)), c.dtype), c)[0]


def _transposed_shift(c: Array, x: Any, bias: Any) -> tuple[Any, Any]:
    def of(arg: Any, gradient: Callable[[Array], Array]) -> Any:
        return gradient(c) if ad.is_undefined_primal(arg) else None

    return of(x, lambda c: c), of(bias, _total.bind)


_shift = primitive("shift", _plain_shift)
_total = primitive("total", _plain_total, cpu=_total_by_product)
batching.primitive_batchers[_shift] = _over_positions(_shift, _plain_shift)
# Both are linear.
ad.deflinear2(_shift, _transposed_shift)
ad.deflinear2(_total, lambda c, x: [jax.lax.broadcast_in_dim(c, x.aval.shape, (x.aval.ndim - 1,))])


def lrelu(x: Array, gain: float = 1.0, limit: float = math.inf) -> Array:
    """leaky_relu(x, 0.2) * sqrt(2) * gain, within +-limit; sqrt(2) keeps a normal input's variance.

    Its derivative is taken from its result, which the next layer keeps anyway: so no gradient
    needs x, and an activation is in memory once.
    """
    return _lrelu.bind(x, gain=gain, limit=limit)


def _plain_lrelu(x: Array, *, gain: float, limit: float) -> Array:
    return _scaled(jax.lax.max(x, 0.2 * x), gain, limit)


def _lrelu_by_selection(x: Array, *, gain: float, limit: float) -> Array:
    # By its defaults XLA fuses maxima on CPUs, and keeps up to 3.5 times as much in memory for it.
    return _scaled(jax.lax.select(x >= 0.0, x, 0.2 * x), gain, limit)


def _scaled(x: Array, gain: float, limit: float) -> Array:
    y = x * (math.sqrt(2.0) * gain)
    return y if limit == math.inf else limited(y, limit)


def _plain_lrelu_slope(t: Array, y: Array, *, gain: float, limit: float) -> Array:
    """t times the slope of lrelu where its result is y."""
    above, below = (jax.lax.full_like(y, k * math.sqrt(2.0) * gain) for k in (1.0, 0.2))
    slope = jax.lax.select(y >= 0.0, above, below)
    if limit != math.inf:
        slope = jax.lax.select(jax.lax.abs(y) < limit, slope, jax.lax.full_like(y, 0.0))
    return t * slope


_lrelu = pointwise("lrelu", _plain_lrelu, 1, cpu=_lrelu_by_selection)
_lrelu_slope = pointwise("lrelu_slope", _plain_lrelu_slope, 2)


def _transposed_slope(c: Array, t: Any, y: Array, **settings: Any) -> tuple[Any, None]:
    return c if isinstance(c, ad.Zero) else _lrelu_slope.bind(c, y, **settings), None


ad.defjvp2(_lrelu, lambda t, y, x, **settings: _lrelu_slope.bind(t, y, **settings))
# It is linear in t, and in y it is flat.
ad.defjvp(_lrelu_slope, lambda g, t, y, **settings: _lrelu_slope.bind(g, y, **settings), None)
ad.primitive_transposes[_lrelu_slope] = _transposed_slope


def limited(x: Array, limit: float = CLIP) -> Array:
    """x within +-limit."""
    bound = np.asarray(limit, x.dtype)  # A Python number would take JAX's default dtype.
    return jax.lax.clamp(-bound, x, bound)


def blur(x: Array, padding: int, stride: int = 1) -> Array:
    """Zero-pad both sides, filter with outer([1, 3, 3, 1]) / 64, keep every stride-th: NHWC."""
    return _blur.bind(x, padding=padding, stride=stride)


TAPS = (0.125, 0.375, 0.375, 0.125)


def blur_by_sums(x: Array, *, padding: int, stride: int) -> Array:
    """The blur of maps [N, h, w, C] as two sums of shifted slices: [N, p, q, C]."""
    sides = (padding, padding, 0)
    x = jax.lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), sides, sides, (0, 0, 0)))
    for axis in (1, 2):
        last = x.shape[axis] - 3
        x = sum(
            tap * jax.lax.slice_in_dim(x, k, k + last, stride, axis) for k, tap in enumerate(TAPS)
        )
    return x


def blur_by_convolutions(x: Array, *, padding: int, stride: int) -> Array:
    """The same as a convolution down the columns and one along the rows.

    Of groups of 128 channels, as wide as a TPU's matrix unit, in which each channel goes to itself
    alone: 128 times the multiplications, but on a TPU sums of slices take longer, as do depthwise
    convolutions and products with banded matrices.
    """
    channels = x.shape[3]
    group = math.gcd(channels, 128)
    to_itself = np.tile(np.eye(group), channels // group)
    for shape in (4, 1), (1, 4):
        x = jax.lax.conv_general_dilated(
            x,
            jnp.asarray(np.reshape(TAPS, (*shape, 1, 1)) * to_itself, x.dtype),
            [stride if side > 1 else 1 for side in shape],
            [(padding, padding) if side > 1 else (0, 0) for side in shape],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels // group,
            precision=precision_of(x.dtype),
        )
    return x


def blur_transposed_by_sums(c: Array, *, size: tuple[int, int], padding: int, stride: int) -> Array:
    """c [N, p, q, C], the gradient of a blur's result -> that of its maps [N, *size, C].

    Taps are symmetric, so it is a blur too, of maps with stride - 1 zeros between their pixels.
    """
    edges = [
        (3 - padding, side + padding - 1 - (count - 1) * stride, stride - 1)
        for side, count in zip(size, c.shape[1:3], strict=True)
    ]
    apart = jax.lax.pad(c, np.zeros((), c.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    return blur_by_sums(apart, padding=0, stride=1)


def blur_transposed_by_convolutions(c: Array, *, size: tuple[int, int], **settings: Any) -> Array:
    """The same, of blur_by_convolutions."""
    x = jax.ShapeDtypeStruct((len(c), *size, c.shape[3]), c.dtype)
    return jax.linear_transpose(functools.partial(blur_by_convolutions, **settings), x)(c)[0]


_blur = primitive("blur", blur_by_sums, tpu=blur_by_convolutions)
_blur_transposed = primitive(
    "blur_transposed", blur_transposed_by_sums, tpu=blur_transposed_by_convolutions
)
# It is linear.
ad.deflinear2(
    _blur,
    lambda c, x, **settings: [_blur_transposed.bind(c, size=x.aval.shape[1:3], **settings)],
)
ad.deflinear2(_blur_transposed, lambda c, x, size, **settings: [_blur.bind(c, **settings)])
