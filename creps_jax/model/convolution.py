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

import functools
from typing import NamedTuple

import jax
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


def convolve(x: Array, w: Array, stride: int, padding: str) -> Array:
    """The correlation of maps with a filter: every stride-th of [N, H, W, I] -> [N, H', W', O]."""
    return _convolve.bind(x, w, form=Form(stride, padding, x.shape[1:3], w.shape[:2]))


def _plain_convolve(x: Array, w: Array, *, form: Form) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        (form.stride, form.stride),
        form.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision_of(w.dtype),
    )


def _plain_input_gradient(u: Array, w: Array, *, form: Form) -> Array:
    x = jax.ShapeDtypeStruct((len(u), *form.size, w.shape[2]), u.dtype)
    return jax.linear_transpose(functools.partial(_plain_convolve, w=w, form=form), x)(u)[0]


def _plain_filter_gradient(x: Array, u: Array, *, form: Form) -> Array:
    w = jax.ShapeDtypeStruct((*form.kernel, x.shape[3], u.shape[3]), x.dtype)
    return jax.linear_transpose(functools.partial(_plain_convolve, x, form=form), w)(u)[0]


_convolve = primitive("convolve", _plain_convolve)
_input_gradient = primitive("input_gradient", _plain_input_gradient)
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
