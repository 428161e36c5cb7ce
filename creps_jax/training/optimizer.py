"""Adam as both networks use it, and the parameters that a phase leaves alone."""

from typing import Any, NamedTuple

import jax
import optax

from creps_jax.config import RecipeConfig
from creps_jax.model import discriminator, generator
from creps_jax.model.ops import limited

Array = jax.Array


class LazyAdam(NamedTuple):
    """Adam shared by the main and the regularisation phases of one network.

    Parameters that the regularisation does not depend on take no step in its phases: not their
    second moment, nor their step count. They have an Adam of their own, left out there; their
    gradients being zero, the update that remains for them is zero too.
    """

    main: optax.GradientTransformation
    regularization: optax.GradientTransformation

    def update(self, params: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        """A main phase: (params, state) after one step."""
        return _apply(self.main, params, gradients, state)

    def regularize(self, params: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        """A regularisation phase: (params, state) after one step."""
        every, main_only = state
        params, every = _apply(self.regularization, params, gradients, every)
        return params, (every, main_only)


@jax.jit  # Traced once for all arrays of one shape.
def _finite(g: Array) -> Array:
    """g with 0 in the place of NaN and +-1e5 in that of infinities."""
    finite = jax.lax.select(g == g, limited(g, 1e5), jax.lax.full_like(g, 0.0))
    return jax.lax.select(jax.lax.is_finite(g), g, finite)


def _apply(
    transform: optax.GradientTransformation, params: Any, gradients: Any, state: Any
) -> tuple[Any, Any]:
    gradients = jax.tree.map(_finite, gradients)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes weak and strong types.
        updates, state = transform.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def lazy_adam(recipe: RecipeConfig, interval: int, main_only: Any) -> LazyAdam:
    """Adam with lr * k, b1 = 0, b2^k, k = interval / (interval + 1); main_only: tree of bools.

    With b1 = 0 the first moment is the gradient: only the second one is kept.
    """
    k = interval / (interval + 1)
    adam = optax.chain(
        optax.scale_by_rms(recipe.adam_b2**k, eps=1e-8, eps_in_sqrt=False, bias_correction=True),
        optax.scale_by_learning_rate(recipe.learning_rate * k),
    )
    every = optax.masked(adam, jax.tree.map(lambda flag: not flag, main_only))
    return LazyAdam(optax.chain(every, optax.masked(adam, main_only)), every)


def generator_optimizer(recipe: RecipeConfig, params: Any) -> LazyAdam:
    """The generator's, whose regularisation is the path length."""
    return lazy_adam(recipe, recipe.path_length_interval, generator.outside_slope(params))


def discriminator_optimizer(recipe: RecipeConfig, params: Any) -> LazyAdam:
    """The discriminator's, whose regularisation is R1."""
    return lazy_adam(recipe, recipe.r1_interval, discriminator.outside_slope(params))


def with_frozen_layers(params: Any, count: int) -> Any:
    """The discriminator's parameters, the first layers' without gradients (Mo et al. 2020).

    Layers in the order from the image on: from-RGB, then two convolutions and the skip of each
    block. Without gradients Adam leaves them as they are.
    """
    if not count:
        return params
    order = [("from_rgb",)] + [
        ("blocks", i, layer)
        for i in range(len(params["blocks"]))
        for layer in ("conv_0", "conv_1", "skip")
    ]
    frozen = set(order[:count])

    def stop(path: tuple[Any, ...], leaf: Array) -> Array:
        keys = tuple(getattr(entry, "key", getattr(entry, "idx", None)) for entry in path)
        return jax.lax.stop_gradient(leaf) if keys[:-1] in frozen else leaf

    return jax.tree_util.tree_map_with_path(stop, params)
