"""The convolution of feature maps and all its derivatives.

Of maps x, a filter w and whatever u has the shape of the result,

    T(x, w, u) = sum over n, p, q, o of u[n, p, q, o] * convolve(x, w)[n, p, q, o]

is linear in each, so it has three partial derivatives, each of them bilinear:

    convolve(x, w)        dT/du  [N, H', W', O]
    input_gradient(u, w)  dT/dx  [N, H, W, I]
    filter_gradient(x, u) dT/dw  [kh, kw, I, O]

A derivative of one of the three is another one of them: of all orders, forward and reverse. JAX's
own rules derive R1 through a strided convolution from maps with zeros between their pixels, which
takes five times as long at church.py's widths on a CPU.

Maps are NHWC [N, H, W, I], filters HWIO [kh, kw, I, O]; all three have one dtype.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from creps_jax.model.ops import precision_of
from creps_jax.model.primitives import primitive

Array = jax.Array


class Form(NamedTuple):
    """What is fixed of T besides the shapes of two of its arguments."""

    stride: int
    padding: str  # 'SAME' or 'VALID'
    size: tuple[int, int]  # H and W
    kernel: tuple[int, int]  # kh and kw

    @property
    def edges(self) -> Sequence[tuple[int, int]]:
        """Zeros before and after the rows and the columns of x."""
        strides = self.stride, self.stride
        return jax.lax.padtype_to_pads(self.size, self.kernel, strides, self.padding)


def convolve(x: Array, w: Array, stride: int, padding: str) -> Array:
    """The correlation of maps with a filter: every stride-th of [N, H, W, I] -> [N, H', W', O]."""
    return _convolve.bind(x, w, form=Form(stride, padding, x.shape[1:3], w.shape[:2]))


def _plain_convolve(x: Array, w: Array, *, form: Form) -> Array:
    return _correlate(x, w, form.edges, stride=form.stride)


def _plain_input_gradient(u: Array, w: Array, *, form: Form) -> Array:
    """Of maps with stride - 1 zeros between their pixels, with the filter turned about."""
    turned = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    edges = [
        (k - 1 - before, k - 1 - after + (n + before + after - k) % form.stride)
        for n, k, (before, after) in zip(form.size, form.kernel, form.edges, strict=True)
    ]
    return _correlate(u, turned, edges, between_x=form.stride)


def _input_gradient_by_phases(u: Array, w: Array, *, form: Form) -> Array:
    """The same without zeros, which a CPU would multiply by: every stride-th pixel at a time.

    Pixel stride m + a of the padded x meets every stride-th tap of the filter, from the a-th.
    """
    stride = form.stride
    if stride == 1 or min(form.kernel) < stride:
        return _plain_input_gradient(u, w, form=form)
    (height, width), ((top, _), (left, _)) = form.size, form.edges
    counts = -(-(top + height) // stride), -(-(left + width) // stride)

    def phase(a: int, b: int) -> Array:
        taps = jnp.flip(w[a::stride, b::stride], (0, 1)).swapaxes(2, 3)
        sides = zip(taps.shape[:2], counts, u.shape[1:3], strict=True)
        return _correlate(u, taps, [(k - 1, wanted - have) for k, wanted, have in sides])

    rows = [jnp.stack([phase(a, b) for b in range(stride)], 3) for a in range(stride)]
    padded = jnp.stack(rows, 2).reshape(len(u), *(n * stride for n in counts), w.shape[2])
    return padded[:, top : top + height, left : left + width]


def _plain_filter_gradient(x: Array, u: Array, *, form: Form) -> Array:
    """Of x's channels as images with u as their filter; examples are the channels."""
    edges = [
        (before, after - (n + before + after - k) % form.stride)
        for n, k, (before, after) in zip(form.size, form.kernel, form.edges, strict=True)
    ]
    x, u = x.transpose(3, 1, 2, 0), u.transpose(1, 2, 0, 3)
    return _correlate(x, u, edges, between_w=form.stride).transpose(1, 2, 0, 3)


def _correlate(
    x: Array,
    w: Array,
    edges: Sequence[tuple[int, int]],
    stride: int = 1,
    between_x: int = 1,
    between_w: int = 1,
) -> Array:
    """Of maps and a filter whose pixels are so far apart, with so many zeros around the maps.

    All three are one operation in this order of axes: within a loop XLA has no other that is fast
    on a CPU; by JAX's own transposition of `convolve` it took up to 70 times as long.
    """
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        edges,
        (between_x, between_x),
        (between_w, between_w),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision_of(w.dtype),
    )


_convolve = primitive("convolve", _plain_convolve)
_input_gradient = primitive("input_gradient", _plain_input_gradient, cpu=_input_gradient_by_phases)
_filter_gradient = primitive("filter_gradient", _plain_filter_gradient)

# Of each, the derivatives with respect to its two factors, given c like its result.
ad.defbilinear(
    _convolve,
    lambda c, x, w, form: _input_gradient.bind(c, w, form=form),
    lambda c, x, w, form: _filter_gradient.bind(x, c, form=form),
)
ad.defbilinear(
    _input_gradient,
    lambda c, u, w, form: _convolve.bind(c, w, form=form),
    lambda c, u, w, form: _filter_gradient.bind(c, u, form=form),
)
ad.defbilinear(
    _filter_gradient,
    lambda c, x, u, form: _input_gradient.bind(u, c, form=form),
    lambda c, x, u, form: _convolve.bind(x, c, form=form),
)
