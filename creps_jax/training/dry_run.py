"""What a run would be: its config, its networks' sizes and its step's memory, FLOPs and time."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from creps_jax.config import parse
from creps_jax.training import hlo, memory, programs
from creps_jax.training.state import Task
from creps_jax.training.task import make_task
from creps_jax.training.topology import Topology, find


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(x.size for x in jax.tree.leaves(tree))


def describe(raw_config: dict[str, Any], topology_name: str | None = None) -> Iterator[str]:
    """Everything that can be known of a run before it starts, a line as soon as it is known.

    Args:
      topology_name: of a TPU pod that the run is for, see topology.py; None: of these devices.

    Raises:
      ValueError: a config field is wrong; it is named. Or there is no such topology.
      MemoryError: a device has less memory than the step needs.
    """
    config = parse(raw_config)
    classes = config.generator.num_classes
    topology = None if topology_name is None else find(topology_name)
    devices = topology.devices if topology else None
    task = make_task(config, (1.0 / max(classes, 1),) * classes, devices)
    state = programs.abstract_state(task)
    yield json.dumps(raw_config, indent=2)
    yield f"generator      {count(state.generator['params']):>12,} parameters"
    yield f"discriminator  {count(state.discriminator['params']):>12,} parameters"
    yield f"G's channels   {' '.join(map(str, config.generator.channels))}, of blocks 4, 8, ..."
    yield f"G's average    {config.recipe.ema_kimg:>12,g} kimg of half-life"
    yield f"steps          {config.total_steps:>12,} of {config.recipe.batch_size} images"
    yield f"state, a batch {programs.held_bytes(task) / 2**20:>12,.0f} MiB on each device"
    yield from _estimates(task, topology) if topology else _costs(task)


def _costs(task: Task) -> Iterator[str]:
    """Of the phases on this process's devices."""
    yield "phase           every   temporary MiB    GFLOP   (compiling takes minutes)"
    total, phases = 0.0, []
    for phase in programs.compiled(task):
        phases.append(phase)
        name, every, flops, temporary = phase
        total += flops / every
        yield f"{name:<14} {every:>6} {temporary / 2**20:>15,.1f} {flops / 1e9:>8,.4g}"
    line = programs.memory_line(task, phases, memory.limit_bytes())
    yield f"a step on average {total / 1e9:,.4g} GFLOP; {line}"


class Estimate(NamedTuple):
    """One phase, compiled for a pod's devices: what the compiler says of it."""

    program: programs.Program
    operations: list[hlo.Operation]
    compile_sec: float

    @property
    def cycles(self) -> int:
        """Of a device; what it takes for collectives is not in them."""
        return hlo.cycles(self.operations)


def estimate(task: Task, call: programs.Call) -> Estimate:
    """Compiles a phase for the task's devices, which need not be there.

    Raises:
      MemoryError: a device has less memory than it needs.
    """
    started = time.perf_counter()
    executable = programs.compile_call(task, call)
    compile_sec = time.perf_counter() - started
    operations = hlo.operations(executable.as_text())
    return Estimate(programs.program_of(call, executable), operations, compile_sec)


def _estimates(task: Task, topology: Topology) -> Iterator[str]:
    """Of the phases on the devices of a pod that is not there."""
    device = topology.devices[0].device_kind
    yield (
        f"{topology.name}: {len(topology.devices)} x {device} of "
        f"{memory.size(topology.memory_bytes)} at {topology.clock_mhz:,} MHz. Of each, the "
        "compiler's estimates (compiling takes minutes):"
    )
    phases = []
    for call in programs.calls(task, *programs.abstract_inputs(task)):
        phases.append(phase := estimate(task, call))
        name, every, flops, temporary = phase.program
        yield (
            f"{name:<14} every {every:>2}: {phase.cycles:>13,} cycles, {flops / 1e9:>7,.4g} GFLOP, "
            f"{memory.size(temporary):>8} temporary; {_collectives(phase)}; "
            f"compiled in {phase.compile_sec:.0f} s"
        )
    line = programs.memory_line(task, [p.program for p in phases], topology.memory_bytes)
    cycles = sum(phase.cycles / phase.program.every for phase in phases)
    sec, images = cycles / (topology.clock_mhz * 1e6), task.recipe.batch_size
    yield f"a step: {line}"
    yield (
        f"a step on average {sec * 1000:,.1f} ms, {images / sec:,.0f} images/s, "
        f"{sec * 1000 / images:,.3g} s/kimg, if collectives and data cost nothing: by the "
        "compiler's estimate, not measured"
    )


def _collectives(phase: Estimate) -> str:
    """'3 all-reduce of 1.5 MiB', in all."""
    told = []
    for kind, found in hlo.collectives(phase.operations).items():
        times, sent_bytes = hlo.amount(found)
        told.append(f"{times} {kind} of {sent_bytes / 2**20:,.3g} MiB")
    return ", ".join(told) or "no collectives"
