"""A run between its steps: how it begins or continues, what is saved of it, what is left of it."""

import contextlib
import dataclasses
import math
import os
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import disk, places, rng, sharding
from creps_jax.checkpoint import Checkpoints
from creps_jax.config import MAY_CHANGE, RunConfig, parse
from creps_jax.data.hosts import Hosts
from creps_jax.data.pipeline import BatchIterator, make_iterator
from creps_jax.data.sources import Source, open_source
from creps_jax.evaluation import evaluating, metrics
from creps_jax.evaluation.networks import Network
from creps_jax.fields import check_unchanged
from creps_jax.interop import initial
from creps_jax.progress import Progress
from creps_jax.training import exchange, memory, programs
from creps_jax.training.finetune import with_initial_weights
from creps_jax.training.guards import Guard
from creps_jax.training.report import Reporter, check_installed, device_line
from creps_jax.training.state import Task, TrainState, init_state
from creps_jax.training.task import compute_dtype, make_task, with_fixed_precision

Lock = IO[str] | places.BucketLock


@dataclasses.dataclass
class Run:
    """Everything of a run that is about to go on at state.step."""

    raw_config: dict[str, Any]
    config: RunConfig
    workdir: Path
    lock: Lock | None  # held by process 0: no other run trains in the workdir
    task: Task
    source: Source
    batches: BatchIterator
    checkpoints: Checkpoints
    state: TrainState
    step: int
    last_saved: int | None  # step of the newest checkpoint
    evaluated: int  # step of the last evaluation
    figures: dict[str, float]  # that it gave
    best: dict[str, Any] | None  # step, metric and value of the best evaluation
    guard: Guard
    networks: dict[str, Network]  # that its metrics need, by name


@rng.pinned()
def prepare(raw_config: dict[str, Any], workdir: str | os.PathLike) -> Run:
    """Check everything that a user can get wrong, and start the run or continue it.

    The cases of starting, in this order:
      1. there is no checkpoint: a new run begins;
      2. the newest undamaged checkpoint was made by another config: an error names the fields;
      3. it was made with other images: an error gives both numbers;
      4. else the run goes on from it, bit for bit.

    Raises:
      ValueError: a config field, the images or the checkpoints are not usable; it says which.
      OSError: the disk fails.
    """
    try:
        workdir = places.path(workdir)
    except ValueError as error:
        raise ValueError(f"--workdir: {error}") from error
    config = parse(raw_config)
    networks = networks_of_metrics(config)
    if config.report.tensorboard and not places.is_in_bucket(workdir):
        check_installed()
    dtype = compute_dtype(config.precision, jax.default_backend())
    print(device_line(jnp.dtype(dtype).name), flush=True)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir={workdir} is a file; give the folder of a run")
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as released_on_error:
        lock = None
        if jax.process_index() == 0:
            lock = released_on_error.enter_context(lock_folder(workdir))
        run = begin_or_continue(raw_config, config, workdir, lock, networks)
        released_on_error.pop_all()  # From here on the run holds the lock.
    return run


def networks_of_metrics(config: RunConfig) -> dict[str, Network]:
    """What the run's metrics need, by name.

    Raises:
      ValueError: evaluate.metrics names what is no metric, what cannot be had of such images, or
        what needs weights that are missing or damaged.
      OSError: the weights cannot be downloaded.
    """
    asked = config.evaluate
    if not asked.metrics:
        return {}
    told = f"evaluate.metrics={asked.metrics!r}"
    try:
        names = metrics.parse(asked.metrics)
        metrics.check_possible(names, config.generator.shape, asked.images, None)
        return evaluating.networks_by_name(metrics.networks_of(names), None, Progress(None))
    except ValueError as error:
        raise ValueError(f"{told}: {error}") from error
    except OSError as error:
        raise OSError(f"{told}: {error}") from error


def begin_or_continue(
    raw_config: dict[str, Any],
    config: RunConfig,
    workdir: Path,
    lock: Lock | None,
    networks: dict[str, Network],
) -> Run:
    """The rest of `prepare`, in the locked workdir."""
    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    last_saved = checkpoints.latest_step()
    saved = None if last_saved is None else checkpoints.config(last_saved)
    raw_config, config = with_fixed_precision(raw_config, config, saved)
    weights = None
    if saved is not None:
        if imported := checkpoints.data(last_saved).get("imported"):
            raise ValueError(
                f"{workdir} holds weights imported from {imported}, and no run: train in another "
                f"--workdir, with --config.init_from={workdir}"
            )
        check_unchanged(saved, raw_config, MAY_CHANGE)
    elif config.init_from is not None:  # Before the images are checked, which takes long.
        weights = initial.load_arrays(config.init_from)
    source, batches = open_data(config, workdir)
    counts = np.asarray(source.label_counts)
    task = make_task(config, tuple((counts / max(counts.sum(), 1)).tolist()))
    data: dict[str, Any] = {"reported": 0, "troubles": {}}
    if last_saved is None:
        print(f"A new run in {workdir}: {len(source)} images.", flush=True)
        layout = sharding.named(task.mesh, "state")
        state = jax.jit(init_state, static_argnums=0, out_shardings=layout)(task)
        if weights is not None:
            state = with_initial_weights(state, task, weights, config.init_from)
    else:
        print(f"Continuing {workdir} from step {last_saved} of {config.total_steps}.", flush=True)
        state, data = restore(checkpoints, last_saved, task)
        check_images(config, source, last_saved, data)
        batches.set_state(data["iterator"])
    adaptive = config.augment is not None and config.augment.adaptive
    return Run(
        raw_config,
        config,
        workdir,
        lock,
        task,
        source,
        batches,
        checkpoints,
        state,
        last_saved or 0,
        last_saved,
        data.get("evaluated", 0),
        data.get("figures", {}),
        data.get("best"),
        Guard(
            config.steps(config.guard.patience_kimg), adaptive, data["reported"], data["troubles"]
        ),
        networks,
    )


def open_data(config: RunConfig, workdir: Path) -> tuple[Source, BatchIterator]:
    """The images, and this process's share of their batches from the first on.

    Raises:
      ValueError, OSError: they are not usable, or there is no room to hand them over.
    """
    hosts = Hosts(jax.process_index(), jax.process_count(), exchange.gather)
    source = open_source(config.data, workdir / "data_index.json", hosts)
    image_bytes = math.prod(config.data.shape) * config.data.image_channels
    share = config.recipe.batch_size // jax.process_count()
    memory.check_shared(config.data.workers, share * image_bytes)
    batches = make_iterator(
        source,
        config.data,
        config.recipe.batch_size,
        config.seed,
        jax.process_index(),
        jax.process_count(),
    )
    return source, batches


def check_images(config: RunConfig, source: Source, step: int, data: dict[str, Any]) -> None:
    """Raises ValueError if the checkpoint of a step, its data given, was made with other images."""
    if (data["examples"], data["fingerprint"]) != (len(source), source.fingerprint):
        raise ValueError(
            f"data.source={config.data.source!r} has changed: it has {len(source)} usable "
            f"images, the checkpoint of step {step} was made with {data['examples']}, of these "
            "or other names, sizes and labels; restore the data set, or start a new run in "
            "another --workdir"
        )


def lock_folder(workdir: Path) -> Lock:
    """What locks the workdir until it is closed or this process ends, however it ends.

    Raises:
      ValueError: another process trains there.
    """
    if places.is_in_bucket(workdir):
        return places.BucketLock(workdir)
    with contextlib.ExitStack() as closed_on_error:
        lock = closed_on_error.enter_context((workdir / "lock").open("w"))
        if not disk.lock(lock):
            raise ValueError(
                f"another process is training in --workdir={workdir}; wait for it, stop it, or "
                "give another --workdir"
            )
        closed_on_error.pop_all()
    return lock


def restore(checkpoints: Checkpoints, step: int, task: Task) -> tuple[TrainState, dict[str, Any]]:
    """The state that `save` saved, and what it saved of the data."""
    target = programs.abstract_state(task)
    tree, ema, data = checkpoints.restore(step, without_ema(target), target.g_ema)
    return target.replace(**(tree | {"g_ema": ema})), data


def without_ema(state: TrainState) -> dict[str, Any]:
    """The state's fields but what this run has none of; the EMA, saved beside them, is None."""
    return {
        k: v for k, v in vars(state.replace(g_ema=None)).items() if k == "g_ema" or v is not None
    }


def save(run: Run) -> None:
    """Everything the next step depends on; called before its batch is fetched."""
    run.checkpoints.save(
        run.step,
        state=without_ema(run.state),
        ema=run.state.g_ema,
        data={
            "iterator": run.batches.get_state(),
            "examples": len(run.source),
            "fingerprint": run.source.fingerprint,
            "reported": run.guard.reported,
            "troubles": run.guard.since,
            "evaluated": run.evaluated,
            "figures": run.figures,
            "best": run.best,
        },
        config=run.raw_config,
        good_until=run.guard.good_until,
        best=run.best and run.best["step"],
    )
    run.last_saved = run.step


def keep(run: Run, reporter: Reporter) -> None:
    """Saves the run, unless it has not trained since."""
    if run.step != run.last_saved:
        reporter.check_losses(run.step)
        save(run)


def what_is_left(run: Run) -> str:
    """What a run that has diverged leaves to go on from, as a sentence."""
    good = run.checkpoints.folder(run.guard.good_until)
    if good is None:
        return "The run has stopped; no checkpoint is from before."
    if good.name == "0":
        return "The run has stopped; only the checkpoint of its first weights is from before."
    return (
        f"The run has stopped. Its checkpoint of step {good.name} is from before and kept: a new "
        f"run, in another --workdir, starts from its weights with --config.init_from={good}"
    )
