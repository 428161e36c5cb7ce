"""The compiled programs of a training step, one for each phase, and what they cost."""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.training import memory, phases, step
from creps_jax.training.phases import Batch
from creps_jax.training.state import Task, TrainState, init_state


@functools.cache
def abstract_state(task: Task) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    layout = sharding.named(task.mesh, "state")
    shapes = jax.eval_shape(lambda: init_state(task))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout), shapes)


@functools.cache
def abstract_inputs(task: Task) -> tuple[TrainState, dict[str, Any], Batch, dict[str, Any]]:
    """The state, the pipeline's batch, and what `prepare` makes of it: shapes and shardings."""
    config = task.generator.config
    shape = (task.recipe.batch_size, *config.shape, config.image_channels)
    state = abstract_state(task)
    images = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    }
    p = state.augment and state.augment.p
    layout = sharding.named(task.mesh, "batch")
    images, batch, draws = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout),
        (images, *jax.eval_shape(step.prepare, task, state.step, p, images)),
    )
    return state, images, batch, draws


class Call(NamedTuple):
    """One program of the step, and what it is called with after the task."""

    name: str
    every: int  # steps from one time to the next
    function: Any
    inputs: tuple[Any, ...]


def calls(
    task: Task, state: TrainState, images: dict[str, Any], batch: Batch, draws: dict[str, Any]
) -> Iterator[Call]:
    """The programs that there ever are, in their order; inputs are arrays or their shapes."""
    p = state.augment and state.augment.p
    yield Call("prepare", 1, step.prepare, (state.step, p, images))
    for phase in phases.of_run(task.recipe):
        run = phases.program(phase, task.mesh, task.deterministic)
        inputs = phase.arguments(state, batch, draws)
        yield Call(phase.name, phase.interval(task.recipe), run, inputs)


class Program(NamedTuple):
    """One phase, compiled; JAX runs this very program when the phase is called."""

    name: str
    every: int
    flops: float  # XLA's estimate, on each device; of a loop it counts one turn
    temporary_bytes: int  # on each device


def compiled(task: Task) -> Iterator[Program]:
    """Compiles the phases one by one, which can take minutes; a process does it once."""
    for call in calls(task, *abstract_inputs(task)):
        yield _compiled(task, call.name)


@functools.cache
def _compiled(task: Task, name: str) -> Program:
    # By name: the shapes that the phase is called with follow from the task.
    (call,) = (call for call in calls(task, *abstract_inputs(task)) if call.name == name)
    return program_of(call, compile_call(task, call))


def compile_call(task: Task, call: Call) -> jax.stages.Compiled:
    """The program, compiled for the task's devices.

    Raises:
      MemoryError: the compiler finds that they have less memory than it needs.
    """
    try:
        return call.function.lower(task, *call.inputs).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        why = str(error).splitlines()[0].rstrip(".")
        raise MemoryError(f"{call.name} does not fit ({why}): {_remedy(task)}") from error


def program_of(call: Call, executable: jax.stages.Compiled) -> Program:
    """What a compiled program costs."""
    flops = executable.cost_analysis().get("flops", 0.0)
    temporary = executable.memory_analysis().temp_size_in_bytes
    return Program(call.name, call.every, flops, temporary)


def held_bytes(task: Task) -> int:
    """Of the state, a batch and its draws, on each device: what is there during all phases."""
    arrays = jax.tree.leaves(abstract_inputs(task))
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)


def compile_step(task: Task) -> str:
    """Compiles all phases, before the first step; returns a line on their time and memory.

    Raises:
      MemoryError: a device has less memory than the step needs.
    """
    started = time.perf_counter()
    line = memory_line(task, list(compiled(task)), memory.limit_bytes())
    return f"Compiled the step in {time.perf_counter() - started:.0f} s: {line}"


def memory_line(task: Task, programs: list[Program], limit_bytes: int) -> str:
    """How much memory a step takes of a device that has so much, as a sentence.

    Raises:
      MemoryError: a device has less.
    """
    largest = max(programs, key=lambda program: program.temporary_bytes)
    needed = held_bytes(task) + largest.temporary_bytes
    sizes = f"{memory.size(needed)} of the device's {memory.size(limit_bytes)}"
    if needed > limit_bytes:
        raise MemoryError(
            f"a step needs about {sizes} (XLA's estimate, for {largest.name}): {_remedy(task)}"
        )
    return f"it takes about {sizes}, most for {largest.name}."


def _remedy(task: Task) -> str:
    batch_size, parts = task.recipe.batch_size, task.layout.microbatches
    strips = task.layout.pixel_strips or 1
    return (
        f"share a batch of batch_size={batch_size} among more devices, or raise "
        f"layout.microbatches={parts}, layout.pixel_strips={strips} or layout.row={task.layout.row}"
    )
