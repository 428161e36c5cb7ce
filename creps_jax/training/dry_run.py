"""What a run would be: its config, its networks' sizes and its step's memory and FLOPs."""

import json
from collections.abc import Iterator
from typing import Any

import jax

from creps_jax.config import parse
from creps_jax.training import programs
from creps_jax.training.task import make_task


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(x.size for x in jax.tree.leaves(tree))


def describe(raw_config: dict[str, Any]) -> Iterator[str]:
    """Everything that can be known of a run before it starts, a line as soon as it is known.

    Raises:
      ValueError: a config field is wrong; it is named.
      MemoryError: a device has less memory than the step needs.
    """
    config = parse(raw_config)
    classes = config.generator.num_classes
    task = make_task(config, (1.0 / max(classes, 1),) * classes)
    state = programs.abstract_state(task)
    yield json.dumps(raw_config, indent=2)
    yield f"generator      {count(state.generator['params']):>12,} parameters"
    yield f"discriminator  {count(state.discriminator['params']):>12,} parameters"
    yield f"G's channels   {' '.join(map(str, config.generator.channels))}, of blocks 4, 8, ..."
    yield f"G's average    {config.recipe.ema_kimg:>12,g} kimg of half-life"
    yield f"steps          {config.total_steps:>12,} of {config.recipe.batch_size} images"
    yield f"state, a batch {programs.held_bytes(task) / 2**20:>12,.0f} MiB on each device"
    yield "phase           every   temporary MiB    GFLOP   (compiling takes minutes)"
    total, phases = 0.0, []
    for phase in programs.compiled(task):
        phases.append(phase)
        name, every, flops, temporary = phase
        total += flops / every
        yield f"{name:<14} {every:>6} {temporary / 2**20:>15,.1f} {flops / 1e9:>8,.4g}"
    yield f"a step on average {total / 1e9:,.4g} GFLOP; {programs.memory_line(task, phases)}"
