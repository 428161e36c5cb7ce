"""A training run, from its config to its last checkpoint: start or continue, step, report, save."""

import contextlib
import dataclasses
import math
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from creps_jax import disk, rng, sharding
from creps_jax.checkpoint import Checkpoints, check_config
from creps_jax.config import MAY_CHANGE, RunConfig, parse
from creps_jax.data.hosts import Hosts
from creps_jax.data.pipeline import BatchIterator, make_iterator
from creps_jax.data.sources import Source, open_source
from creps_jax.interop import initial
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.training import exchange, memory, phases, programs, samples
from creps_jax.training.guards import Guard
from creps_jax.training.report import Reporter, check_installed, device_line
from creps_jax.training.state import Task, TrainState, init_state
from creps_jax.training.step import train_step

# To stop: by SLURM and others, Ctrl-C, and the end of the terminal.
_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclasses.dataclass
class Run:
    """Everything of a run that is about to go on at state.step."""

    raw_config: dict[str, Any]
    config: RunConfig
    workdir: Path
    lock: IO[str] | None  # held open by process 0: no other run trains in the workdir
    task: Task
    source: Source
    batches: BatchIterator
    checkpoints: Checkpoints
    state: TrainState
    step: int
    last_saved: int | None  # step of the newest checkpoint
    guard: Guard


def compute_dtype(precision: str) -> Any:
    """The dtype of the networks' products: on a CPU float32 is faster than bfloat16."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[precision]


def make_task(config: RunConfig, label_shares: tuple[float, ...]) -> Task:
    """The networks and the recipe on all devices.

    Raises:
      ValueError: the batch does not divide among the devices.
    """
    layout, recipe = config.layout, config.recipe
    mesh = sharding.make_mesh(row=layout.row, column=layout.column)
    smallest = recipe.batch_size // recipe.path_length_batch_shrink // layout.microbatches
    if smallest % mesh.shape["data"]:
        raise ValueError(
            f"batch_size={recipe.batch_size} / recipe.path_length_batch_shrink="
            f"{recipe.path_length_batch_shrink} / layout.microbatches={layout.microbatches} must "
            f"be a multiple of the {mesh.shape['data']} devices that share the batch"
        )
    dtype = compute_dtype(config.precision)
    networks = Generator(config.generator, dtype), Discriminator(config.discriminator, dtype)
    return Task(*networks, recipe, config.augment, config.seed, label_shares, mesh, layout)


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
        workdir = disk.utf8_path(workdir).absolute()
    except ValueError as error:
        raise ValueError(f"--workdir: {error}") from error
    config = parse(raw_config)
    if config.tensorboard:
        check_installed()
    print(device_line(jnp.dtype(compute_dtype(config.precision)).name), flush=True)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir={workdir} is a file; give the folder of a run")
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as released_on_error:
        lock = None
        if jax.process_index() == 0:
            lock = released_on_error.enter_context(lock_folder(workdir))
        run = begin_or_continue(raw_config, config, workdir, lock)
        released_on_error.pop_all()  # From here on the run holds the lock.
    return run


def begin_or_continue(
    raw_config: dict[str, Any], config: RunConfig, workdir: Path, lock: IO[str] | None
) -> Run:
    """The rest of `prepare`, in the locked workdir."""
    checkpoints = Checkpoints(workdir, config.checkpoint_keep)
    last_saved = checkpoints.latest_step()
    saved = None if last_saved is None else checkpoints.config(last_saved)
    raw_config, config = with_fixed_precision(raw_config, config, saved)
    if saved is not None:
        check_config(saved, raw_config, MAY_CHANGE)
    weights = None
    if last_saved is None and config.init_from is not None:
        weights = initial.load_arrays(config.init_from)
    hosts = Hosts(jax.process_index(), jax.process_count(), exchange.gather)
    source = open_source(config.data, workdir / "data_index.json", hosts)
    counts = np.asarray(source.label_counts)
    task = make_task(config, tuple((counts / max(counts.sum(), 1)).tolist()))
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
    reported, troubles = 0, {}
    if last_saved is None:
        print(f"A new run in {workdir}: {len(source)} images.", flush=True)
        initialize = jax.jit(
            init_state, static_argnums=0, out_shardings=sharding.named(task.mesh, "state")
        )
        state, step = initialize(task), 0
        if weights is not None:
            state = with_initial_weights(state, task, weights, config.init_from)
    else:
        step = last_saved
        print(f"Continuing {workdir} from step {step} of {config.total_steps}.", flush=True)
        state, data = restore(checkpoints, step, task)
        if (data["examples"], data["fingerprint"]) != (len(source), source.fingerprint):
            raise ValueError(
                f"data.source={config.data.source!r} has changed: it has {len(source)} usable "
                f"images, the checkpoint of step {step} was made with {data['examples']}, of these "
                "or other names, sizes and labels; restore the data set, or start a new run in "
                "another --workdir"
            )
        batches.set_state(data["iterator"])
        # Checkpoints of earlier versions have neither.
        reported, troubles = data.get("reported", step), data.get("troubles", {})
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
        step,
        last_saved,
        Guard(config.patience_steps, adaptive, reported, troubles),
    )


def with_fixed_precision(
    raw_config: dict[str, Any], config: RunConfig, saved: dict[str, Any] | None
) -> tuple[dict[str, Any], RunConfig]:
    """The config whose precision, where it is 'auto', is what the run began with.

    A new run begins with what its devices suit, and its checkpoints' config says which it was.
    Those of earlier versions say 'auto', which means at every start what it means there.
    """
    if config.precision != "auto":
        return raw_config, config
    here = jnp.dtype(compute_dtype("auto")).name
    fixed = here if saved is None else saved["precision"]
    if fixed not in (here, "auto"):
        print(f"precision=auto is {here} on these devices; the run goes on in {fixed}.", flush=True)
    return {**raw_config, "precision": fixed}, dataclasses.replace(config, precision=fixed)


def with_initial_weights(
    state: TrainState, task: Task, weights: dict[str, initial.Arrays], path: str
) -> TrainState:
    """The state of a new run with the weights of another one, as far as they fit; says how far.

    Raises:
      ValueError: none of the weights from the path fits.
    """
    networks = {"G": state.generator, "D": state.discriminator, "G_ema": state.g_ema}
    taken = initial.take(weights, task.generator, task.discriminator, networks)
    count = len(jax.tree.leaves(networks))
    if len(taken.left) == count:
        raise ValueError(f"init_from={path!r}: none of its arrays fits; first: {taken.left[0]}")
    print(f"Fine-tuning {path}: {count - len(taken.left)} of {count} arrays are from it.")
    for what, names in (("keep their own start", taken.left), ("are not used", taken.unused)):
        if names:
            print(f"These {len(names)} {what}: {', '.join(names)}", flush=True)
    return state.replace(
        generator=taken.networks["G"],
        discriminator=taken.networks["D"],
        g_ema=taken.networks["G_ema"],
    )


def lock_folder(workdir: Path) -> IO[str]:
    """An open file that locks the workdir until this process ends, however it ends.

    Raises:
      ValueError: another process trains there.
    """
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
        },
        config=run.raw_config,
        good_until=run.guard.good_until,
    )
    run.last_saved = run.step


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list to which requests are added; a second one acts as usual, at once."""
    received: list[int] = []
    previous = {s: signal.getsignal(s) for s in _REQUESTS}
    if previous[signal.SIGHUP] == signal.SIG_IGN:  # By nohup: the terminal's end is none.
        del previous[signal.SIGHUP]

    def receive(number: int, frame: Any) -> None:
        received.append(number)  # No more: it may interrupt a print.
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def requests_blocked() -> Iterator[None]:
    """Threads and processes that start within never see a request to stop.

    For starting and waiting for decoding processes: a terminal or SLURM sends it to these as
    well, but stopping is this process's work.
    """
    resource_tracker.ensure_running()  # Else the first process starts it, which unblocks them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@rng.pinned()
def train(run: Run, after_step: Callable[[int], Any] | None = None) -> bool:
    """Train to the end, or to a request to stop; either way the last state is saved.

    After each step `after_step`, if given, is called with the number of finished ones.

    Returns whether the end was reached. A request to one of several processes stops all of them
    at the same step, which JAX agrees on.

    Raises:
      MemoryError: the devices have less memory than a step needs.
      OSError: the disk fails, or is full; what was saved before is still there.
      Diverged: the run is not worth going on with; the last good checkpoint is kept, and named.
    """
    config = run.config
    blocked = requests_blocked if config.data.workers else contextlib.nullcontext
    reporter = Reporter(run.workdir, run.raw_config, config, run.step, run.guard)
    begun = run.step
    # Of several processes, JAX takes the requests.
    requests = stop_requests() if jax.process_count() == 1 else contextlib.nullcontext([])
    lock = run.lock or contextlib.nullcontext()
    with requests as received, lock, contextlib.closing(run.batches), run.checkpoints, reporter:
        if run.step == 0 and jax.process_index() == 0:
            reporter.image("reals", 0, samples.reals(run.source, config.data.shape))
        if run.step < config.total_steps:
            with reporter.pause():
                print(programs.compile_step(run.task), flush=True)
        while True:
            # Counted from where this start began, as JAX does.
            stop = bool(received) or multihost_utils.reached_preemption_sync_point(run.step - begun)
            ended = run.step >= config.total_steps or stop
            if run.step % config.grid_steps == 0 or run.step >= config.total_steps:
                with reporter.pause():
                    reporter.image("fakes", run.step, samples.fakes(run.task, run.state.g_ema))
            if run.step != run.last_saved and (run.step % config.checkpoint_steps == 0 or ended):
                with reporter.pause():
                    reporter.check_losses(run.step)
                    save(run)
            if ended:
                break
            with reporter.waiting_for_data(), blocked():
                batch = to_devices(run.task, next(run.batches))
            with jax.transfer_guard("disallow"):
                due = phases.due(run.task.recipe, run.step)
                run.state, metrics = train_step(run.task, due, run.state, batch)
            run.step += 1
            run.checkpoints.check()
            reporter.step(run.step, metrics)
            if after_step:
                with reporter.pause():
                    after_step(run.step)
    done = f"{run.step} of {config.total_steps} steps"
    finished = run.step >= config.total_steps
    stopped = f"Stopped after {done}; the same command continues."
    print(f"Finished: {done}." if finished else stopped, flush=True)
    return finished


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


def to_devices(task: Task, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A batch of this process's share, laid out over all devices."""
    layout = sharding.named(task.mesh, "batch")
    return {
        name: jax.make_array_from_process_local_data(layout, array) for name, array in batch.items()
    }
