"""--profile: a profiler trace of some steps."""

from pathlib import Path

import jax

from creps_jax import places
from creps_jax.config import RunConfig
from creps_jax.training import phases
from creps_jax.training.loop import Action
from creps_jax.training.report import Reporter
from creps_jax.training.run import Run

UNTRACED = 10  # steps before those that are traced: the first ones are not like the others


def tracing(workdir: Path, config: RunConfig, step: int) -> Action:
    """Traces some steps of a run that is about to go on from a step: all phases are among them.

    Raises:
      ValueError: the run ends before, or its workdir is in a bucket.
    """
    if places.is_in_bucket(workdir):
        raise ValueError(f"--profile writes to a disk; --workdir={workdir} is in a bucket")
    first = step + UNTRACED
    last = first + max(phase.interval(config.recipe) for phase in phases.of_run(config.recipe))
    if last > config.total_steps:
        raise ValueError(
            f"--profile traces steps {first} to {last}, but the run ends at step "
            f"{config.total_steps}: give a larger total_kimg"
        )
    is_writer = jax.process_index() == 0
    if is_writer:
        print(f"Tracing steps {first} to {last} into {workdir}/plugins/profile.", flush=True)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's calls would fill it before its first step is over.

    def trace(run: Run, _: Reporter) -> None:
        if run.step == first and is_writer:
            jax.profiler.start_trace(workdir, profiler_options=options)
        elif run.step == last and is_writer:
            for device in jax.local_devices():  # The steps before are done when this is.
                jax.device_put(0, device).block_until_ready()
            jax.profiler.stop_trace()

    return Action(1, trace)
