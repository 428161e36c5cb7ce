"""Image grids of a run: some of its reals, and fakes from fixed latents."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import rng, sharding
from creps_jax.training.draws import Fakes, training_grid
from creps_jax.training.phases import paint
from creps_jax.training.state import Task

GRID_PX = (1024, 2048)  # About the height and width of a grid.


def grid_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of images of this height and width, px: from 2 x 2 to 4 x 8."""
    return tuple(
        min(most, max(2, px // side)) for side, px, most in zip(shape, GRID_PX, (4, 8), strict=True)
    )


def tile(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """[rows * columns, h, w, c] -> one picture [rows * h, columns * w, c]."""
    (rows, columns), (_, h, w, c) = shape, images.shape
    return images.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def reals(source: Any, shape: tuple[int, int]) -> np.ndarray:
    """Images spread over the source, the middle of larger ones: uint8 [rows * h, columns * w, c].

    Args:
      source: its images [h', w', c] are no smaller than the shape.
      shape: h and w, px.
    """
    rows, columns = grid_shape(shape)
    chosen = np.linspace(0, len(source) - 1, rows * columns).astype(int)
    return tile(
        np.stack([_middle(source[int(i)]["image"], shape) for i in chosen]), (rows, columns)
    )


def _middle(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The window [*shape, c] in the middle of an image [h', w', c]."""
    (h, w), (height, width, _) = shape, image.shape
    y, x = (height - h) // 2, (width - w) // 2
    return image[y : y + h, x : x + w]


@functools.partial(jax.jit, static_argnums=0)
def _fakes(task: Task, variables: Any) -> jax.Array:
    rows, columns = grid_shape(task.generator.config.shape)
    config, count = task.generator.config, rows * columns
    z = jax.random.normal(rng.stream(rng.root(task.seed), "grid_z", 0), (count, config.z_dim))
    classes = config.num_classes
    c = jax.nn.one_hot(jnp.arange(count) % max(classes, 1), classes)

    def one(fake: Fakes) -> jax.Array:
        batch_of_one = jax.tree.map(lambda x: x[None, :], fake)
        images, _ = paint(task, variables, batch_of_one)
        return jnp.clip(images[0] * 127.5 + 128.0, min=0.0, max=255.0).astype(jnp.uint8)

    # One after the other: memory does not grow with the grid.
    images = jax.lax.map(one, Fakes(z, c, *training_grid(config.shape, count)))
    return sharding.constrain(task.mesh, "state", images)  # Whole in every process.


def fakes(task: Task, variables: Any) -> np.ndarray:
    """The generator's images of the run's fixed latents: uint8 [rows * h, columns * w, c]."""
    images = np.asarray(_fakes(task, variables))
    return tile(images, grid_shape(task.generator.config.shape))
