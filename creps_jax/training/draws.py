"""Every random number of a training step, as a function of (seed, step).

Notation: N batch, h N / path_length_batch_shrink.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from creps_jax import rng
from creps_jax.training import augment
from creps_jax.training.augment import Amounts
from creps_jax.training.state import Task

Array = jax.Array


class Latents(NamedTuple):
    """One phase's latents z [n, z_dim] and their labels c, one-hot [n, classes]."""

    z: Array
    c: Array


class Augmentation(NamedTuple):
    """How the images that D sees in each phase are augmented; N amounts each, None: not at all."""

    g_main: Amounts | None = None
    d_main_fakes: Amounts | None = None
    d_main_reals: Amounts | None = None
    d_r1: Amounts | None = None


class Draws(NamedTuple):
    """Every random number of one step."""

    g_main: Latents  # N
    path_length: Latents  # h
    noise: Array  # normal(0, 1), [h, H, W, channels]
    d_main: Latents  # N
    augmentation: Augmentation


def draw(task: Task, step: Array, p: Array | None = None) -> Draws:
    """The random numbers of a step: a function of the seed, the step and the augmentation's p.

    p None: there is no augmentation.
    """
    config, recipe = task.generator.config, task.recipe
    root = rng.root(task.seed)

    def latents(name: str, count: int) -> Latents:
        z = jax.random.normal(rng.stream(root, f"{name}_z", step), (count, config.z_dim))
        if not config.num_classes:
            return Latents(z, jnp.zeros((count, 0), jnp.float32))
        label = jax.random.choice(
            rng.stream(root, f"{name}_label", step),
            config.num_classes,
            (count,),
            p=jnp.asarray(task.label_shares, jnp.float32),
        )
        return Latents(z, jax.nn.one_hot(label, config.num_classes))

    def augmentation() -> Augmentation:
        if p is None:
            return Augmentation()
        keys = [rng.stream(root, f"augment_{name}", step) for name in Augmentation._fields]
        return Augmentation(*(augment.draw(key, recipe.batch_size, p) for key in keys))

    half = recipe.batch_size // recipe.path_length_batch_shrink
    shape = (half, *config.shape, config.image_channels)
    return Draws(
        g_main=latents("g_main", recipe.batch_size),
        path_length=latents("path_length", half),
        noise=jax.random.normal(rng.stream(root, "path_length_noise", step), shape),
        d_main=latents("d_main", recipe.batch_size),
        augmentation=augmentation(),
    )
