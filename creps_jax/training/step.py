"""One training step: what it works on, and its phases one after the other.

A step is the pure function `train_step(task, due, state, batch) -> (state, metrics)`. It is
compiled phase by phase: a plain step and a regularised one share the programs of the phases that
both have, and none is compiled twice.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.training import phases
from creps_jax.training.draws import Streams
from creps_jax.training.phases import Batch, Metrics, Phase
from creps_jax.training.state import Task, TrainState

Array = jax.Array


def train_step(
    task: Task, due: tuple[Phase, ...], state: TrainState, batch: dict[str, Array]
) -> tuple[TrainState, Metrics]:
    """One step on a batch of the pipeline: {'image': uint8 [N, H, W, channels], 'label': [N]}.

    The state is donated. Metrics are float32 scalars; those of a regularisation are there when its
    phase is due.
    """
    p = state.augment and state.augment.p
    return update(task, due, state, *prepare(task, state.step, p, batch))


def update(
    task: Task, due: tuple[Phase, ...], state: TrainState, batch: Batch, draws: dict[str, Any]
) -> tuple[TrainState, Metrics]:
    """One step with its random numbers given, by the names of the phases."""
    metrics: Metrics = {}
    for phase in due:
        state, more = phase(task, state, batch, draws)
        metrics |= more
    return state, metrics


@functools.partial(jax.jit, static_argnums=0)
def prepare(
    task: Task, step: Array, p: Array | None, batch: dict[str, Array]
) -> tuple[Batch, dict[str, Any]]:
    """What a step works on: scaled images, one-hot labels, and the random numbers of each phase."""
    images = batch["image"].astype(jnp.float32) / 127.5 - 1.0
    labels = jax.nn.one_hot(batch["label"], task.generator.config.num_classes)
    inputs = Batch(images, labels), draw(task, step, p)
    return sharding.constrain(task.mesh, "batch", inputs)


def draw(task: Task, step: Array, p: Array | None) -> dict[str, Any]:
    """The random numbers of a step, by phase: a function of the seed, the step and p."""
    streams = Streams(task, step, p)
    return {phase.name: phase.draws(streams) for phase in phases.of_run(task.recipe)}
