"""How a phase lies in memory and on the devices: images, strips of pixels, microbatches.

None of it changes what is computed. Notation: N batch; H, W height and width of an image.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.model import biline
from creps_jax.model.folded import fold_pixels
from creps_jax.training.state import Task

Array = jax.Array

# What a device paints at a time, at most, px of all its images; where it is not listed, all.
STRIP_PX = {"cpu": 2**12, "tpu": 2**16}


def synthesize(task: Task, variables: Any, ws: Array, y: Array, x: Array) -> Array:
    """ws [n, L, w_dim] -> images at rows y [n, H] and columns x [n, W]: [n, H, W, channels].

    Each device paints its rows and columns of its images on its own.
    """
    images = task.generator.apply(variables, ws, method="images")
    whole, of_images, of_y, of_x, pixels = (
        sharding.PARTITION_SPECS[kind] for kind in ("state", "batch", "y", "x", "images")
    )
    on_devices = jax.shard_map(
        functools.partial(paint_images, task),
        mesh=task.mesh,
        in_specs=(biline.Image(whole, whole, of_images, whole, of_images), of_y, of_x),
        out_specs=pixels,
        check_vma=False,  # Our own operations do not know of it.
    )
    return on_devices(images, y, x)


def paint_images(task: Task, images: biline.Image, y: Array, x: Array) -> Array:
    """What one device paints of images: rows y [n, h], columns x [n, w] -> [n, h, w, channels].

    Lines of all images at once, which makes their products large, and then the pixels.
    """
    (count, height), width = y.shape, x.shape[1]
    one_by_one, dtype = is_one_by_one(task), task.generator.dtype
    strips = pixel_strips(task, height, width * (1 if one_by_one else count))
    computed = biline.in_dtype(images, dtype)
    of_images = jax.vmap(biline.row_and_column_lines, (biline.IMAGES, 0, 0))
    rows, columns = of_images(computed, y, x)
    if not one_by_one:
        each = functools.partial(paint_pixels, strips=strips)
        return jax.vmap(each, (biline.IMAGES, 0, 0))(computed, rows, columns)

    def one(of_image: tuple[Any, Array, Array]) -> Array:
        pixel_styles, rows, columns = of_image
        # With its styles in its weights no gradient of theirs is a sum over pixels.
        image = fold_pixels(images._replace(pixel_styles=pixel_styles), dtype)
        return paint_pixels(image, rows, columns, strips)

    return jax.lax.map(one, (images.pixel_styles, rows, columns))


def is_one_by_one(task: Task) -> bool:
    """Whether a device paints pixels image after image: unless the config says it, on a CPU.

    What an image keeps for its gradients then stays near a CPU's cores.
    """
    return task.layout.pixel_strips is None and is_on_cpus(task)


def is_on_cpus(task: Task) -> bool:
    """Whether the task's devices are CPUs, simulated ones included."""
    return platform_of(task) == "cpu"


def platform_of(task: Task) -> str:
    """Of the task's devices, all of one kind: cpu, gpu or tpu."""
    return task.mesh.devices.flat[0].platform


def is_judged_at_once(task: Task) -> bool:
    """Whether the discriminator judges fakes and reals in one pass: unless it is on a CPU.

    With few images a TPU cuts their maps into pieces, which takes twice the time; a CPU takes a
    tenth more of it for more images.
    """
    return not is_on_cpus(task)


def pixel_strips(task: Task, height: int, width: int) -> int:
    """In how many strips a device paints so many px; 0: all at once.

    The config says it, or they are as few as leave it STRIP_PX pixels at a time: what it keeps of
    these for their gradients stays near its cores.
    """
    if task.layout.pixel_strips is not None:
        return task.layout.pixel_strips if task.layout.pixel_strips > 1 else 0
    most = STRIP_PX.get(platform_of(task), math.inf)
    fitting = (k for k in range(1, height) if height % k == 0 and height * width <= k * most)
    strips = next(fitting, height)
    return strips if strips > 1 or is_on_cpus(task) else 0


def paint_pixels(image: biline.Image, rows: Array, columns: Array, strips: int) -> Array:
    """The pixels where rows [H, K, R, B] and columns [W, K, R, B] cross: [H, W, channels].

    Strip by strip: of a strip's pixels nothing but the colour is kept, and where gradients are
    taken it is painted again. strips 0: all at once.
    """

    def pixels(rows: Array) -> Array:
        return biline.pixels(image, rows, columns)

    if not strips:
        return pixels(rows)
    parts = rows.reshape(strips, len(rows) // strips, *rows.shape[1:])
    painted = jax.lax.map(jax.checkpoint(pixels), parts)
    return painted.reshape(len(rows), *painted.shape[2:])


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
