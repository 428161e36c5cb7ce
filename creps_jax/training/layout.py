"""How a phase lies in memory and on the devices: strips of pixels, microbatches, constraints.

None of it changes what is computed. Notation: N batch; H, W height and width of an image.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.model import biline
from creps_jax.training.state import Task

Array = jax.Array

STRIP_PX = 4096  # of a strip at most, on a CPU: of all images, on each device


def synthesize(task: Task, variables: Any, ws: Array, y: Array, x: Array) -> Array:
    """ws [n, L, w_dim] -> images at rows y [n, H] and columns x [n, W]: [n, H, W, channels]."""
    images = task.generator.apply(variables, ws, method="images")
    rows, columns = jax.vmap(biline.row_and_column_lines, (biline.IMAGES, 0, 0))(images, y, x)
    rows = sharding.constrain(task.mesh, "row_lines", rows)
    columns = sharding.constrain(task.mesh, "column_lines", columns)
    return sharding.constrain(task.mesh, "images", in_strips(task, images, rows, columns))


def pixel_strips(task: Task, images: int, height: int, width: int) -> int:
    """In how many strips so many images of this size, px, are painted.

    On a CPU, unless the config says it, in as few as leave a device STRIP_PX pixels at a time: what
    they keep for their gradients then stays near its cores. Elsewhere whole.
    """
    if task.layout.pixel_strips is not None:
        return task.layout.pixel_strips
    if task.mesh.devices.flat[0].platform != "cpu":
        return 1
    rows = height // task.mesh.shape["row"]
    pixels = images * height * width / task.mesh.size
    fitting = (k for k in range(1, rows) if rows % k == 0 and pixels <= k * STRIP_PX)
    return next(fitting, rows)


def in_strips(task: Task, images: biline.Image, rows: Array, columns: Array) -> Array:
    """Pixels of images from the lines of their rows [n, H, ...] and columns [n, W, ...].

    Strip by strip: of their pixels nothing but the colour is kept, and where gradients are taken
    each strip is painted again.
    """

    def pixels(rows: Array) -> Array:
        return jax.vmap(biline.pixels, (biline.IMAGES, 0, 0))(images, rows, columns)

    n, height, *line = rows.shape
    strips, devices = pixel_strips(task, n, height, columns.shape[1]), task.mesh.shape["row"]
    if strips == 1:
        return pixels(rows)
    # A strip has some rows of every device, or the devices would take turns.
    rows = rows.reshape(n, devices, strips, -1, *line)
    rows = jnp.moveaxis(rows, 2, 0).reshape(strips, n, height // strips, *line)
    painted = jax.lax.map(jax.checkpoint(pixels), rows)
    _, _, _, width, channels = painted.shape
    painted = painted.reshape(strips, n, devices, -1, width, channels)
    return jnp.moveaxis(painted, 0, 2).reshape(n, height, width, channels)


def mean_gradients(
    task: Task, loss_fn: Callable[..., Any], params: Any, batch: Any, group: int | None = None
) -> tuple[Any, Any]:
    """The gradients of loss_fn(params, batch) -> (loss, others), and the others.

    All are means over the batch; so they are the means over the microbatches, of which one at a
    time is in memory. Images are judged in groups, by default those of the discriminator.
    """
    gradients = jax.grad(loss_fn, has_aux=True)
    count = task.layout.microbatches
    if count == 1:
        return gradients(params, batch)
    groups_of = min(task.discriminator.config.mbstd_group_size, task.recipe.batch_size)
    parts = microbatches(task, batch, group or groups_of)
    _, others = jax.eval_shape(loss_fn, params, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, others))
    total, _ = jax.lax.scan(
        lambda total, part: (jax.tree.map(jnp.add, total, gradients(params, part)), None),
        zeros,
        parts,
    )
    return jax.tree.map(lambda x: x / count, total)


def microbatches(task: Task, batch: Any, group: int) -> Any:
    """[N, ...] -> [microbatches, N / microbatches, ...], each with whole groups of images.

    Image i belongs to group i mod (N / group): see layers.minibatch_std.
    """
    count = task.layout.microbatches

    def split(x: Array) -> Array:
        groups = x.reshape(group, count, len(x) // (group * count), *x.shape[1:])
        return groups.swapaxes(0, 1).reshape(count, len(x) // count, *x.shape[1:])

    return sharding.constrain(task.mesh, "microbatches", jax.tree.map(split, batch))
