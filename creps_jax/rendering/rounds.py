"""Many of a kind by one compiled program, one after the other: each gets the numbers it has alone.

Side by side, in products of another shape, they would round otherwise; alone, each costs a call.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

MANY = 8  # at a time


def each(
    function: Callable[[jax.Array], jax.Array], count: jax.Array, rows: jax.Array
) -> jax.Array:
    """function(row) of the first `count` of rows [N, ...], and zeros in the place of the rest."""

    def one(i: jax.Array, results: jax.Array) -> jax.Array:
        return results.at[i].set(function(rows[i]))

    result = jax.eval_shape(function, rows[0])
    return jax.lax.fori_loop(0, count, one, jnp.zeros((len(rows), *result.shape), result.dtype))


def in_rounds(function: Callable[[int, np.ndarray], jax.Array], rows: np.ndarray) -> np.ndarray:
    """function(count, some [MANY, ...]) of all rows [N, ...], of which the first `count` count."""
    results = []
    for start in range(0, len(rows), MANY):
        some = rows[start : start + MANY]
        filled = np.resize(some, (MANY, *some.shape[1:]))
        results.append(np.asarray(function(len(some), filled))[: len(some)])
    return np.concatenate(results)
