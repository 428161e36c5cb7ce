"""A training run, step by step, and what is done every so often between two steps."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from creps_jax import rng, sharding
from creps_jax.training import determinism, figures, phases, programs, samples, snapshots
from creps_jax.training.report import Reporter
from creps_jax.training.requests import requests_blocked, stop_requests
from creps_jax.training.run import Run, keep
from creps_jax.training.state import Task
from creps_jax.training.step import train_step


class Action(NamedTuple):
    """What is done every so often between two steps, from before the first to after the last."""

    every: int  # steps
    do: Callable[[Run, Reporter], Any]
    at_stop: bool = False  # Also where the run stops before its end.

    def is_due(self, run: Run, stopped: bool) -> bool:
        """Whether it is done before the next step, or instead of it."""
        if run.step % self.every == 0 or run.step >= run.config.total_steps:
            return True
        return stopped and self.at_stop


def draw_grid(run: Run, reporter: Reporter) -> None:
    """Writes a grid of fakes."""
    reporter.image("fakes", run.step, samples.fakes(run.task, run.state.g_ema))


@rng.pinned()
def train(run: Run, more: Sequence[Action] = ()) -> bool:
    """Train to the end, or to a request to stop; either way the last state is saved.

    Between two steps come the actions that are due: `more`, evaluating, saving.

    Returns whether the end was reached. A request to one of several processes stops all of them
    at the same step, which JAX agrees on.

    Raises:
      MemoryError: the devices have less memory than a step needs.
      OSError: the disk fails, or is full; what was saved before is still there.
      Diverged: the run is not worth going on with; the last good checkpoint is kept, and named.
    """
    config, begun = run.config, run.step
    blocked = requests_blocked if config.data.workers else contextlib.nullcontext
    reporter = Reporter(run.workdir, run.raw_config, config, run.step, run.guard)
    # Of several processes, JAX takes the requests.
    requests = stop_requests() if jax.process_count() == 1 else contextlib.nullcontext([])
    lock = run.lock or contextlib.nullcontext()
    with requests as received, lock, contextlib.closing(run.batches), run.checkpoints, reporter:
        evaluations = config.steps(config.evaluate.every_kimg)
        measure = figures.measuring(run, lambda: bool(received))
        actions = (
            *more,
            *([Action(evaluations, measure)] if measure else []),
            *([Action(evaluations, snapshots.take)] if run.task.recipe.power_averages else []),
            Action(config.steps(config.report.grid_every_kimg), draw_grid),
            Action(config.steps(config.checkpoint.every_kimg), keep, at_stop=True),
        )
        if run.step == 0 and jax.process_index() == 0:
            reporter.image("reals", 0, samples.reals(run.source, config.data.shape))
        if run.step < config.total_steps:
            with reporter.pause():
                if sharding.is_on_gpus(run.task.mesh):
                    found = determinism.of_step(run.task)
                    print(determinism.line(found, config.deterministic), flush=True)
                print(programs.compile_step(run.task), flush=True)
        while True:
            # Counted from where this start began, as JAX does.
            stopped = bool(received) or multihost_utils.reached_preemption_sync_point(
                run.step - begun
            )
            for action in actions:
                stopped = stopped or bool(received)  # Meanwhile: it is saved then, at this step.
                if action.is_due(run, stopped):
                    with reporter.pause():
                        action.do(run, reporter)
            if stopped or run.step >= config.total_steps:
                break
            with reporter.waiting_for_data(), blocked():
                batch = to_devices(run.task, next(run.batches))
            with jax.transfer_guard("disallow"):
                due = phases.due(run.task.recipe, run.step)
                run.state, metrics = train_step(run.task, due, run.state, batch)
            run.step += 1
            run.checkpoints.check()
            reporter.step(run.step, metrics)
    done = f"{run.step} of {config.total_steps} steps"
    finished = run.step >= config.total_steps
    stopped_text = f"Stopped after {done}; the same command continues."
    print(f"Finished: {done}." if finished else stopped_text, flush=True)
    return finished


def to_devices(task: Task, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A batch of this process's share, laid out over all devices."""
    layout = sharding.named(task.mesh, "batch")
    return {
        name: jax.make_array_from_process_local_data(layout, array) for name, array in batch.items()
    }
