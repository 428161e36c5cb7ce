"""What a run would be: its config, its networks' sizes and its step's memory and FLOPs."""

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.config import parse
from creps_jax.training import step
from creps_jax.training.loop import abstract_state, make_task
from creps_jax.training.state import Task


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(x.size for x in jax.tree.leaves(tree))


def phases(task: Task) -> Iterator[tuple[str, int, Any]]:
    """Name, interval in steps and lowered program of each phase."""
    config, recipe = task.generator.config, task.recipe
    shape = (recipe.batch_size, *config.shape, config.image_channels)
    state = abstract_state(task)
    images = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    }
    layout = sharding.named(task.mesh, "batch")
    p = state.augment and state.augment.p
    images, batch, draws = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout),
        (images, *jax.eval_shape(step.prepare, task, state.step, p, images)),
    )
    seen = draws.augmentation
    due = step.phases_of(task, 0)  # At step 0 all are due that ever are.
    yield "prepare", 1, step.prepare.lower(task, state.step, p, images)
    yield "G main", 1, step.g_main.lower(task, state, draws.g_main, seen.g_main)
    if due.path_length:
        lowered = step.g_path_length.lower(task, state, draws.path_length, draws.noise)
        yield "G path length", recipe.path_length_interval, lowered
    of_images = (seen.d_main_fakes, seen.d_main_reals)
    yield "D main", 1, step.d_main.lower(task, state, batch, draws.d_main, *of_images)
    if due.r1:
        yield "D R1", recipe.r1_interval, step.d_r1.lower(task, state, batch, seen.d_r1)
    yield "finish", 1, step.finish.lower(task, state)


def describe(raw_config: dict[str, Any]) -> Iterator[str]:
    """Everything that can be known of a run before it starts, a line as soon as it is known.

    Raises:
      ValueError: a config field is wrong; it is named.
    """
    config = parse(raw_config)
    classes = config.generator.num_classes
    task = make_task(config, (1.0 / max(classes, 1),) * classes)
    state = abstract_state(task)
    yield json.dumps(raw_config, indent=2)
    yield f"generator      {count(state.generator['params']):>12,} parameters"
    yield f"discriminator  {count(state.discriminator['params']):>12,} parameters"
    yield f"G's channels   {' '.join(map(str, config.generator.channels))}, of blocks 4, 8, ..."
    yield f"G's average    {config.recipe.ema_kimg:>12,g} kimg of half-life"
    yield f"steps          {config.total_steps:>12,} of {config.recipe.batch_size} images"
    yield f"state          {4 * count(state) / 2**20:>12,.0f} MiB"
    yield "phase           every   temporary MiB    GFLOP   (compiling takes minutes)"
    total = 0.0
    for name, every, lowered in phases(task):
        program = lowered.compile()
        flops = program.cost_analysis().get("flops", 0.0)
        total += flops / every
        temporary = program.memory_analysis().temp_size_in_bytes / 2**20
        yield f"{name:<14} {every:>6} {temporary:>15,.1f} {flops / 1e9:>8,.4g}"
    yield f"a step on average {total / 1e9:,.4g} GFLOP"
