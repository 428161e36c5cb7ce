"""Every random number of a training step, as a function of (seed, step).

Notation: N batch, n = N / shrink. A name is that of a stream: each has numbers of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from creps_jax import rng
from creps_jax.model import coordinates
from creps_jax.training import augment
from creps_jax.training.augment import Amounts
from creps_jax.training.state import Task

Array = jax.Array


class Fakes(NamedTuple):
    """What one phase's fakes are: latents z [n, z_dim] with labels c, one-hot [n, classes].

    y [n, H] and x [n, W] are the positions of their rows and columns: see coordinates.py.
    """

    z: Array
    c: Array
    y: Array
    x: Array


def training_grid(shape: tuple[int, int], count: int) -> tuple[Array, Array]:
    """Positions of the rows [count, H] and columns [count, W] of whole images, the same in each."""
    y, x = (jnp.broadcast_to(coordinates.training_positions(side), (count, side)) for side in shape)
    return y, x


class Streams(NamedTuple):
    """The random numbers of one step, by name."""

    task: Task
    step: Array  # int32 []
    p: Array | None  # float32 [], of each augmentation; None: images are not augmented

    def key(self, name: str) -> Array:
        """The key of one stream."""
        return rng.stream(rng.root(self.task.seed), name, self.step)

    def fakes(self, name: str, shrink: int = 1) -> Fakes:
        """z, normal(0, 1), labels as often as the data set has them, and whole images' grids."""
        config, count = self.task.generator.config, self.task.recipe.batch_size // shrink
        z = jax.random.normal(self.key(f"{name}_z"), (count, config.z_dim))
        y, x = training_grid(config.shape, count)
        if not config.num_classes:
            return Fakes(z, jnp.zeros((count, 0), jnp.float32), y, x)
        label = jax.random.choice(
            self.key(f"{name}_label"),
            config.num_classes,
            (count,),
            p=jnp.asarray(self.task.label_shares, jnp.float32),
        )
        return Fakes(z, jax.nn.one_hot(label, config.num_classes), y, x)

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
