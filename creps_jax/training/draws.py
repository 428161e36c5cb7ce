"""Every random number of a training step, as a function of (seed, step).

Notation: N batch, n = N / shrink. A name is that of a stream: each has numbers of its own.
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


class Streams(NamedTuple):
    """The random numbers of one step, by name."""

    task: Task
    step: Array  # int32 []
    p: Array | None  # float32 [], of each augmentation; None: images are not augmented

    def key(self, name: str) -> Array:
        """The key of one stream."""
        return rng.stream(rng.root(self.task.seed), name, self.step)

    def latents(self, name: str, shrink: int = 1) -> Latents:
        """z, normal(0, 1), and labels as often as the data set has them."""
        config, count = self.task.generator.config, self.task.recipe.batch_size // shrink
        z = jax.random.normal(self.key(f"{name}_z"), (count, config.z_dim))
        if not config.num_classes:
            return Latents(z, jnp.zeros((count, 0), jnp.float32))
        label = jax.random.choice(
            self.key(f"{name}_label"),
            config.num_classes,
            (count,),
            p=jnp.asarray(self.task.label_shares, jnp.float32),
        )
        return Latents(z, jax.nn.one_hot(label, config.num_classes))

    def noise(self, name: str, shrink: int = 1) -> Array:
        """normal(0, 1) like images, [n, H, W, channels]."""
        config, count = self.task.generator.config, self.task.recipe.batch_size // shrink
        shape = (count, *config.shape, config.image_channels)
        return jax.random.normal(self.key(f"{name}_noise"), shape)

    def amounts(self, name: str) -> Amounts | None:
        """How each of N images is augmented; None: not at all."""
        if self.p is None:
            return None
        return augment.draw(self.key(f"augment_{name}"), self.task.recipe.batch_size, self.p)
