"""Image grids of a run: some of its reals, and fakes from fixed latents."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import rng, sharding
from creps_jax.config import GeneratorConfig
from creps_jax.training.draws import Fakes, training_grid
from creps_jax.training.layout import paint_images
from creps_jax.training.phases import map_latents
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


@functools.partial(jax.jit, static_argnums=(0, 1))
def grid_fakes(config: GeneratorConfig, seed: int) -> Fakes:
    """The fakes of a run's grid: its fixed latents, of one class after the other."""
    count = math.prod(grid_shape(config.shape))
    z = jax.random.normal(rng.stream(rng.root(seed), "grid_z", 0), (count, config.z_dim))
    classes = config.num_classes
    c = jax.nn.one_hot(jnp.arange(count) % max(classes, 1), classes)
    return Fakes(z, c, *training_grid(config.shape, count))


def paint_each(task: Task, variables: Any, fakes: Fakes) -> jax.Array:
    """Images of n fakes, each painted alone: float32 [n, H, W, channels], n / devices on a device.

    Those of a device come one after the other: memory does not grow with n, and an image is the
    same numbers on any number of devices.
    """

    def one(variables: Any, fake: Fakes) -> jax.Array:
        fakes = jax.tree.map(lambda x: x[None, :], fake)
        ws, _ = map_latents(task, variables, fakes)
        images = task.generator.apply(variables, ws, method="images")
        return paint_images(task, images, fakes.y, fakes.x)[0]

    def some(variables: Any, fakes: Fakes) -> jax.Array:
        return jax.lax.map(functools.partial(one, variables), fakes)

    whole, split = (sharding.PARTITION_SPECS[kind] for kind in ("state", "grid"))
    paint_some = jax.shard_map(some, mesh=task.mesh, in_specs=(whole, split), out_specs=split)
    return paint_some(variables, fakes)


def paint_grid(task: Task, variables: Any, fakes: Fakes) -> jax.Array:
    """Images of n fakes: uint8 [n, H, W, channels], all on every device."""
    images = paint_each(task, variables, fakes)
    images = jnp.clip(images * 127.5 + 128.0, min=0.0, max=255.0).astype(jnp.uint8)
    return sharding.constrain(task.mesh, "state", images)


@functools.cache
def program(mesh: Mesh, deterministic: bool) -> Any:
    """paint_grid, compiled for the task's mesh."""
    options = sharding.compiler_options(mesh, deterministic)
    return jax.jit(paint_grid, static_argnums=0, compiler_options=options)


def dealt(task: Task) -> Fakes:
    """The grid's fakes, and the first ones again where the devices do not divide them."""
    # Drawn apart: in one program with the images their rounding would depend on the devices.
    fakes = jax.device_get(grid_fakes(task.generator.config, task.seed))
    each = -(-len(fakes.z) // task.mesh.size)
    return jax.tree.map(lambda x: np.resize(x, (each * task.mesh.size, *x.shape[1:])), fakes)


def fakes(task: Task, variables: Any) -> np.ndarray:
    """The generator's images of the run's fixed latents: uint8 [rows * h, columns * w, c]."""
    rows, columns = grid_shape(task.generator.config.shape)
    paint = program(task.mesh, task.deterministic)
    images = np.asarray(paint(task, variables, dealt(task)))
    return tile(images[: rows * columns], (rows, columns))
