"""Operations of our own that JAX can trace, compile and batch; what uses them gives derivatives."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

Array = jax.Array


def primitive(name: str, plain: Callable[..., Array], **on: Callable[..., Array]) -> Primitive:
    """The operation that a function of arrays computes; its other arguments have names.

    Args:
      on: platform -> what computes the same, faster there; 'cpu' or 'tpu'.
    """
    operation = Primitive(name)
    operation.def_impl(plain)

    @operation.def_abstract_eval
    def shaped(*arrays: Any, **settings: Any) -> jax.core.ShapedArray:
        result = jax.eval_shape(functools.partial(plain, **settings), *arrays)
        return jax.core.ShapedArray(result.shape, result.dtype)

    def batched(arrays: Any, axes: Any, **settings: Any) -> tuple[Array, int]:
        return jax.vmap(functools.partial(plain, **settings), axes)(*arrays), 0

    batching.primitive_batchers[operation] = batched
    mlir.register_lowering(operation, mlir.lower_fun(plain, multiple_results=False))
    for platform, faster in on.items():
        lowered = mlir.lower_fun(faster, multiple_results=False)
        mlir.register_lowering(operation, lowered, platform=platform)
    return operation


def pointwise(
    name: str, plain: Callable[..., Array], count: int, **on: Callable[..., Array]
) -> Primitive:
    """The same of so many arrays of one shape and dtype, which the result has too."""
    operation = primitive(name, plain, **on)
    operation.def_abstract_eval(lambda x, *_, **settings: jax.core.ShapedArray(x.shape, x.dtype))
    # Batched it is the same operation, so that its derivatives are.
    define = batching.defvectorized if count == 1 else batching.defbroadcasting
    define(operation)
    return operation
