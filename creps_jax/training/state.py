"""What a training run carries from step to step, and how it begins."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from creps_jax import rng
from creps_jax.config import AugmentConfig, LayoutConfig, RecipeConfig
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator

Array = jax.Array


class Task(NamedTuple):
    """What does not change during a run; hashable, a static argument of the step."""

    generator: Generator
    discriminator: Discriminator
    recipe: RecipeConfig
    augment: AugmentConfig | None  # None: no augmentation
    seed: int
    label_shares: tuple[float, ...]  # how often each class occurs in the data set
    mesh: Mesh  # the devices
    layout: LayoutConfig


@flax.struct.dataclass
class AugmentState:
    """The strength of the augmentation, and what has been seen since it was adjusted last."""

    p: Array  # float32 [], probability of each operation
    signs: Array  # float32 [], sum of the signs of D's logits of reals
    count: Array  # float32 [], number of them


@flax.struct.dataclass
class TrainState:
    """All arrays of a run; a checkpoint of it continues the run bit for bit."""

    step: Array  # int32 [], steps done
    generator: Any  # variables of the generator: params, constants, statistics
    discriminator: Any  # variables of the discriminator: params
    g_ema: Any  # moving average of the generator's variables: what is rendered
    g_optimizer: Any
    d_optimizer: Any
    path_length_mean: Array  # float32 []
    augment: AugmentState | None  # None: no augmentation


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


def _finite(g: Array) -> Array:
    """g with 0 in the place of NaN and +-1e5 in that of infinities."""
    sign = (g > 0).astype(g.dtype) - (g < 0).astype(g.dtype)
    return jax.lax.select(jax.lax.is_finite(g), g, 1e5 * sign)


def _apply(
    transform: optax.GradientTransformation, params: Any, gradients: Any, state: Any
) -> tuple[Any, Any]:
    gradients = jax.tree.map(_finite, gradients)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes weak and strong types.
        updates, state = transform.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def lazy_adam(recipe: RecipeConfig, interval: int, main_only: Any) -> LazyAdam:
    """Adam with lr * k, b1 = 0, b2^k, k = interval / (interval + 1); main_only: tree of bools."""
    k = interval / (interval + 1)
    adam = optax.adam(recipe.learning_rate * k, b1=0.0, b2=recipe.adam_b2**k, eps=1e-8)
    every = optax.masked(adam, jax.tree.map(lambda flag: not flag, main_only))
    return LazyAdam(optax.chain(every, optax.masked(adam, main_only)), every)


def _names(path: tuple[Any, ...]) -> list[str]:
    return [str(getattr(entry, "key", getattr(entry, "idx", None))) for entry in path]


def generator_optimizer(recipe: RecipeConfig, params: Any) -> LazyAdam:
    """The path length does not depend on the biases that are added to the colour itself."""

    def main_only(path: tuple[Any, ...], _: Any) -> bool:
        names = _names(path)
        return names[-1] == "bias" and names[-2] in ("rgb", "to_rgb")

    mask = jax.tree_util.tree_map_with_path(main_only, params)
    return lazy_adam(recipe, recipe.path_length_interval, mask)


def discriminator_optimizer(recipe: RecipeConfig, params: Any) -> LazyAdam:
    """R1, a gradient with respect to the image, does not depend on the last layer's bias."""
    mask = jax.tree_util.tree_map_with_path(
        lambda path, _: _names(path)[-2:] == ["out", "bias"], params
    )
    return lazy_adam(recipe, recipe.r1_interval, mask)


def begin(task: Task, generator: Any, discriminator: Any) -> TrainState:
    """The state before the first step, from the networks' variables."""
    g_optimizer = generator_optimizer(task.recipe, generator["params"])
    d_optimizer = discriminator_optimizer(task.recipe, discriminator["params"])
    zero = jnp.zeros((), jnp.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        # A copy: the state is donated to each step, and no buffer can be donated twice.
        g_ema=jax.tree.map(jnp.copy, generator),
        g_optimizer=g_optimizer.main.init(generator["params"]),
        d_optimizer=d_optimizer.main.init(discriminator["params"]),
        path_length_mean=zero,
        augment=task.augment and AugmentState(zero + task.augment.p, zero, zero),
    )


def init_state(task: Task) -> TrainState:
    """The state of a new run: a function of the task's seed alone."""
    root = rng.root(task.seed)
    g, d = task.generator.config, task.discriminator.config
    grid = jnp.zeros((1,), jnp.float32)
    generator = task.generator.init(
        rng.stream(root, "init_generator", 0),
        jnp.zeros((1, g.z_dim)),
        jnp.zeros((1, g.num_classes)),
        grid,
        grid,
    )
    discriminator = task.discriminator.init(
        rng.stream(root, "init_discriminator", 0),
        jnp.zeros((1, *d.shape, d.image_channels)),
        jnp.zeros((1, d.num_classes)),
    )
    return begin(task, generator, discriminator)
