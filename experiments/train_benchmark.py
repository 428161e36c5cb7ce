"""Training speed of a config, phase by phase, and the machine's own rate.

    python -m experiments.train_benchmark --config=configs/church.py --config.batch_size=4 \\
      --out=experiments/train_benchmark/church.csv

Every phase of the step is timed on its own, in turn with a 2048^3 float32 matrix product. Prints
and writes, for each: how often it comes, seconds a kimg (thousand images), GFLOP/s, their share of
the product's, and the temporary memory. 'augment' is part of the phases above it, 'data' goes on
beside them. Procedural images stand in for the config's data set, unless it has classes.
With --also_by_default each phase has a second row: compiled with XLA's default options.
"""

import contextlib
import csv
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from jax.sharding import Mesh
from ml_collections import config_flags

from creps_jax import sharding
from creps_jax.training import loop, memory, phases, programs, step
from creps_jax.training.augment import Amounts, augment
from creps_jax.training.phases import Phase
from creps_jax.training.run import Run, prepare
from creps_jax.training.state import Task

COLUMNS = (
    "phase",
    "every",
    "sec_per_kimg",
    "gflops_per_sec",
    "share_of_matmul",
    "temporary_mib",
)

_CONFIG = config_flags.DEFINE_config_file("config", "configs/demo.py", "Config of the run.")
_OUT = flags.DEFINE_string("out", None, "CSV to write.")
_ALSO_BY_DEFAULT = flags.DEFINE_bool("also_by_default", False, "Time XLA's defaults too.")
_ROUNDS = flags.DEFINE_integer("rounds", 6, "How often each phase is timed; medians are told.")


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call, results ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def times_of(rounds: int, *functions: Callable[[], Any]) -> list[list[float]]:
    """Wall times of each function's calls, in turns, after a first one, which may compile."""
    for function in functions:
        function()
    turns = [[seconds(function) for function in functions] for _ in range(rounds)]
    return [list(times) for times in zip(*turns, strict=True)]


def matmul_flops_per_sec() -> float:
    """FLOP/s of a 2048^3 float32 matrix product, best of 5."""
    a = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    return 2 * 2048**3 / min(seconds(lambda: product(a, a)) for _ in range(5))


def whole_flops(task: Task) -> dict[str, float]:
    """FLOPs of each phase, before XLA optimises it; without loops, which are counted once."""
    plain = task._replace(layout=task.layout.__class__(pixel_strips=1))
    lowered = {
        call.name: call.function.lower(plain, *call.inputs)
        for call in programs.calls(plain, *programs.abstract_inputs(plain))
    }
    return {name: x.cost_analysis().get("flops", 0.0) for name, x in lowered.items()}


def augmenting(mesh: Mesh, images: jax.Array, amounts: Amounts) -> Callable[[], Any]:
    """What ADA adds to a step: G main's fakes, forward and back, and D main's two batches."""

    @functools.partial(jax.jit, compiler_options=sharding.compiler_options(mesh))
    def run(images: jax.Array) -> Any:
        seen, pullback = jax.vjp(lambda x: augment(x, amounts), images)
        return pullback(seen), augment(images[::-1], amounts), augment(images + 1.0, amounts)

    return functools.partial(run, images)


def measure(run: Run, rounds: int) -> Iterator[dict[str, Any]]:
    """A row of the table for each phase, as soon as it is timed."""
    task, state = run.task, run.state
    images = loop.to_devices(task, next(run.batches))
    p = state.augment and state.augment.p
    at = jax.tree.map(jnp.copy, (state.step, p))  # The state is donated below.
    prepare = functools.partial(step.prepare, task, *at, images)
    batch, draws = prepare()
    temporaries = {p.name: p.temporary_bytes for p in programs.compiled(task)}
    flops = whole_flops(task)

    def row(name: str, every: int, times: list[float]) -> dict[str, Any]:
        time_sec = statistics.median(times)
        timed = {"sec_per_kimg": 1000 * time_sec / task.recipe.batch_size / every}
        if name in flops:
            rate = flops[name] / time_sec
            timed["gflops_per_sec"] = rate / 1e9
            timed["share_of_matmul"] = rate / matmul_flops_per_sec()
            timed["temporary_mib"] = temporaries[name] / 2**20
        return {"phase": name, "every": every, **timed}

    def once(phase: Phase) -> Any:
        nonlocal state
        state, metrics = phase(task, state, batch, draws)
        return metrics

    yield (timed := row("prepare", 1, *times_of(rounds, prepare)))
    total = timed["sec_per_kimg"]
    for phase in phases.of_run(task.recipe):
        name, every = phase.name, phase.interval(task.recipe)
        functions = [functools.partial(once, phase)]
        if _ALSO_BY_DEFAULT.value:
            by_default = jax.jit(phases.on_fields(phase), static_argnums=0)
            inputs = phase.arguments(jax.tree.map(jnp.copy, state), batch, draws)
            functions.append(functools.partial(by_default, task, *inputs))
        times, *others = times_of(rounds, *functions)
        yield (timed := row(name, every, times))
        total += timed["sec_per_kimg"]
        yield from (row(f"{name} by default", every, times) for times in others)
    yield {"phase": "step", "every": 1, "sec_per_kimg": total}
    if task.augment:
        augmented = augmenting(task.mesh, batch.images, draws["D main"][-1])
        yield row("augment", 1, *times_of(rounds, augmented))
    for _ in range(len(run.source) // task.recipe.batch_size):  # Fill the cache of a small set.
        next(run.batches)
    yield row("data", 1, *times_of(rounds, lambda: next(run.batches)))


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # As a run; JAX and Orbax tell much.
    jax.config.update("jax_default_matmul_precision", "highest")  # As a run.
    config = _CONFIG.value
    with config.unlocked():
        config.init_from = None
        if not config.num_classes:
            config.data.source = "procedural:64"
    with contextlib.ExitStack() as stack:
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            run = prepare(config.to_dict(), workdir)
        except (ValueError, OSError) as error:
            sys.exit(f"Error: {error}")
        stack.callback(run.checkpoints.close)
        stack.callback(run.batches.close)
        writers = [csv.writer(sys.stdout, delimiter="\t")]
        if _OUT.value:
            Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(_OUT.value, "w", newline="", buffering=1))
            writers.append(csv.writer(file, lineterminator="\n"))
        for writer in writers:
            writer.writerow(COLUMNS)
        for row in measure(run, _ROUNDS.value):
            for writer in writers:
                writer.writerow(
                    f"{x:.4g}" if isinstance(x := row.get(name, ""), float) else x
                    for name in COLUMNS
                )
            sys.stdout.flush()
        print(f"peak memory {memory.size(memory.peak_bytes())}")


if __name__ == "__main__":
    app.run(main)
