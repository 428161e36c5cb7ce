"""Perceptual path length (Karras et al., https://arxiv.org/abs/1812.04948, section 4.1), in pixels.

How fast an image changes on the way from one latent to another. Theirs is the squared distance of
features of two images that are 1e-4 of the way apart; here pixels take the features' place, and a
derivative, by forward differentiation, that of the difference: in float32 two images so near differ
by little more than rounding.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import rng
from creps_jax.evaluation.consistency.pictures import cross
from creps_jax.model import coordinates
from creps_jax.model.generator import Generator, Variables

Array = jax.Array


def path_length(paint: Callable[[Array], Array], start: Array, end: Array, t: Array) -> Array:
    """The mean of (d paint(start + t (end - start)) / dt)^2 over all that paint gives: []."""
    way = end - start
    _, change = jax.jvp(paint, (start + t * way,), (way,))
    return jnp.square(change).mean()


@rng.pinned()
def ppl(generator: Generator, variables: Variables, ws: np.ndarray, seed: int) -> np.ndarray:
    """path_length() from each of ws [N, num_ws, w_dim] to the next, the first being the last's.

    Images are of the training size; t is uniform in [0, 1).

    Raises:
      ValueError: there are fewer than two latents.
    """
    if len(ws) < 2:
        raise ValueError(f"a path needs two latents at least, got {len(ws)}")
    t = np.random.default_rng(seed).random(len(ws), np.float32)
    lengths = map(functools.partial(_length, generator, variables), ws, np.roll(ws, -1, axis=0), t)
    return np.array([float(length) for length in lengths])


@functools.partial(jax.jit, static_argnames="generator")
def _length(
    generator: Generator, variables: Variables, start: Array, end: Array, t: Array
) -> Array:
    y, x = map(coordinates.training_positions, generator.config.shape)

    def paint(w: Array) -> Array:
        return cross(generator.apply(variables, w, method="image"), y, x)

    return path_length(paint, start, end, t)
