"""The composition of a row with a column and its derivatives.

Of a row's and a column's features, and whatever u has the shape of the result,

    T(row, column, u) = sum over r, b of u[b] * row[r, b] * column[r, b]

is linear in each, so its partial derivatives are bilinear: those of row and column are alike.

    compose(row, column)  dT/du    [B]
    spread(u, column)     dT/drow  [R, B]

A derivative of one of the two is one of the two: of all orders. All arguments have one dtype.

Vmapped over positions these stay one operation each, whose arguments have axes of positions before
the last ones, [..., R, B] and [..., B], all of them the same number of axes: of 1 where an argument
is shared. A gradient of what is shared is one sum over all positions that share it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from creps_jax.model.ops import precision_of
from creps_jax.model.primitives import primitive

Array = jax.Array


def compose(row: Array, column: Array) -> Array:
    """sum_r row[r,b] * column[r,b], [R, B] x2 -> [B]."""
    return _compose.bind(row, column)


def compose_by_sums(row: Array, column: Array) -> Array:
    """The same of many positions: [..., R, B] x2 -> [..., B]."""
    # On a CPU a product of so small contractions is slower than the sum it stands for.
    return jnp.sum(row * column, axis=-2)


def spread_by_sums(u: Array, other: Array, *, shape: tuple[int, ...]) -> Array:
    """Of u [..., B] * other [..., R, B] the sum over the axes that are of 1 in shape."""
    parts = jnp.expand_dims(u, -2) * other
    shared = [axis for axis, side in enumerate(shape) if side < parts.shape[axis]]
    return parts.sum(shared, keepdims=True)


def compose_by_products(row: Array, column: Array) -> Array:
    """The same; where rows cross columns, as products of matrices, one for each b."""
    positions = jnp.broadcast_shapes(row.shape[:-2], column.shape[:-2])
    if len({row.shape[:-2], column.shape[:-2], positions}) < 3:
        return compose_by_sums(row, column)
    return _contract(row, "rb", column, "rb", (*positions, row.shape[-1]), "b")


def spread_by_products(u: Array, other: Array, *, shape: tuple[int, ...]) -> Array:
    """The same; where it is a sum over positions, as products of matrices, one for each b."""
    if len({u.shape[:-1], other.shape[:-2], shape[:-2]}) < 3:
        return spread_by_sums(u, other, shape=shape)
    return _contract(u, "b", other, "rb", shape, "rb")


def _contract(
    x: Array, of_x: str, y: Array, of_y: str, shape: tuple[int, ...], of_result: str
) -> Array:
    """jnp.einsum of x and y with these last axes and, before them, axes of positions."""

    def names(shape: tuple[int, ...], last: str) -> str:
        positions = zip("ijklmnop", shape[: -len(last)], strict=False)
        return "".join(name for name, side in positions if side != 1) + last

    def squeezed(x: Array, last: str) -> Array:
        return x.reshape([n for n in x.shape[: -len(last)] if n != 1] + [*x.shape[-len(last) :]])

    sums = f"{names(x.shape, of_x)},{names(y.shape, of_y)}->{names(shape, of_result)}"
    x, y = squeezed(x, of_x), squeezed(y, of_y)
    return jnp.einsum(sums, x, y, precision=precision_of(x.dtype)).reshape(shape)


_compose = primitive("compose", compose_by_sums, tpu=compose_by_products)
_spread = primitive("spread", spread_by_sums, tpu=spread_by_products)

# Of each, the derivatives with respect to its two factors, given c like its result.
ad.defbilinear(
    _compose,
    lambda c, row, column: _spread.bind(c, column, shape=row.aval.shape),
    lambda c, row, column: _spread.bind(c, row, shape=column.aval.shape),
)
ad.defbilinear(
    _spread,
    lambda c, u, other, shape: _compose.bind(c, other),
    lambda c, u, other, shape: _spread.bind(u, c, shape=other.aval.shape),
)


def _batched(
    operation: Primitive, arrays: Any, axes: Any, shape: tuple[int, ...] | None = None
) -> tuple[Array, int]:
    """A batching rule: one more axis of positions."""
    count = next(x.shape[k] for x, k in zip(arrays, axes, strict=True) if k is not None)
    settings = {} if shape is None else {"shape": (count, *shape)}
    with_axis = [
        x[None] if k is None else jnp.moveaxis(x, k, 0) for x, k in zip(arrays, axes, strict=True)
    ]
    return operation.bind(*with_axis, **settings), 0


for _operation in _compose, _spread:
    batching.primitive_batchers[_operation] = functools.partial(_batched, _operation)
