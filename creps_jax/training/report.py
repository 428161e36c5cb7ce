"""What a run tells: progress lines, metrics.jsonl, TensorBoard events and image grids.

The only file that imports clu's writers, which bring TensorFlow.
"""

import collections
import concurrent.futures
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from PIL import Image

from creps_jax import disk, places
from creps_jax.config import RunConfig
from creps_jax.fields import flatten
from creps_jax.training import memory
from creps_jax.training.guards import Guard, check_finite

_log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
_NEEDED = ("clu", "tensorboard", "tensorflow")  # to write TensorBoard's events


def check_installed() -> None:
    """Raises ValueError, which says what to install, if events could not be written later."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"training needs {', '.join(missing)}: pip install 'creps-jax[train]', or give "
            "--config.report.tensorboard=False"
        )


def device_line(dtype: str) -> str:
    """Device, the products' dtype and versions, and why it is no accelerator if it is not."""
    devices = jax.devices()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("creps-jax", "jax", "flax", "optax", "orbax-checkpoint")
    )
    line = f"Device: {len(devices)} x {devices[0].device_kind}, {dtype}; {versions}"
    return line if jax.default_backend() != "cpu" else f"{line}. {_why_cpu()}"


def _why_cpu() -> str:
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return f"On the CPU because JAX_PLATFORMS={platforms} is set."
    if Path("/dev/nvidia0").exists():
        plugins = (f"jax_cuda{version}_plugin" for version in (12, 13))
        if not any(map(importlib.util.find_spec, plugins)):
            return "On the CPU: there is an NVIDIA GPU; pip install 'creps-jax[cuda]' to use it."
        return "On the CPU: JAX could not start the NVIDIA GPU; its warnings above say why."
    if Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists():
        return "On the CPU: this looks like a TPU host; pip install 'creps-jax[tpu]' to use it."
    return "On the CPU: this machine shows no NVIDIA GPU and no TPU."


def duration(seconds: float) -> str:
    """1d 02h, 3h 04m, 5m 06s or 7s."""
    seconds = round(seconds)
    for unit, size, smaller, divisor in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // divisor:02d}{smaller}"
    return f"{seconds // 60}m {seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


class Events:
    """TensorBoard's events, written in the background: first, TensorFlow takes seconds to import.

    A context manager: leaving it waits until all is written.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a new file of events in a folder."""
        # TensorFlow only writes files here; what it tells of devices and products is beside it.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # That is JAX's own default.
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        if os.path.expanduser("~") == "~":  # No home: Keras, a part of it, would make that folder.
            os.environ.setdefault("KERAS_HOME", os.devnull)
        self._folder = folder
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "events")
        self._writer = self._thread.submit(self._open)
        self._pending = collections.deque([self._writer])

    def write(self, call: Callable[[Any], None]) -> None:
        """Lets clu's writer be called in the background.

        Raises:
          OSError: an earlier call could not write.
        """
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._call, call))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pending.append(self._thread.submit(self._call, lambda writer: writer.close()))
        self._thread.shutdown()
        if kind is None:  # Else an error is on its way already.
            for done in self._pending:
                done.result()

    def _open(self) -> Any:
        import tensorflow as tf
        from clu import metric_writers

        for kind in ("GPU", "TPU"):  # The accelerator's memory is JAX's.
            tf.config.set_visible_devices([], kind)
        return metric_writers.SummaryWriter(str(self._folder))

    def _call(self, call: Callable[[Any], None]) -> None:
        writer = self._writer.result()
        import tensorflow as tf

        try:
            call(writer)
            writer.flush()
        except tf.errors.OpError as error:
            raise OSError(f"{self._folder}: TensorBoard's events: {error.message}") from error


class Reporter:
    """Collects the metrics of steps and reports their means; a context manager.

    Of several processes, only process 0 writes.
    """

    def __init__(
        self, workdir: Path, raw_config: dict[str, Any], config: RunConfig, step: int, guard: Guard
    ):
        self._workdir, self._config, self._guard = workdir, config, guard
        self._collected: list[dict[str, jax.Array]] = []
        self._timed_from = step
        self.evaluation_sec = 0.0  # What the last evaluation took.
        self._start_interval()
        self._writes = jax.process_index() == 0
        self._events: Events | None = None  # Where none are wanted, or to come.
        self._closed_at_exit = contextlib.ExitStack()
        if not self._writes:
            return
        text = f"{json.dumps(raw_config, indent=2)}\n"
        places.write_whole(workdir / "config.json", text.encode())
        forget_after(workdir / METRICS, step)
        self._metrics_file = places.open_to_append(workdir / METRICS)
        self._closed_at_exit.enter_context(self._metrics_file)
        if config.report.tensorboard and places.is_in_bucket(workdir):
            print(f"No TensorBoard events in a bucket: {METRICS} has the numbers.", flush=True)
        elif config.report.tensorboard and step < config.total_steps:
            self._events = self._closed_at_exit.enter_context(Events(workdir))
            if step == 0:
                self._events.write(lambda writer: writer.write_hparams(_readable(raw_config)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._closed_at_exit.__exit__(*exception)

    def _start_interval(self) -> None:
        self._started = time.perf_counter()
        self._waited_sec = self._paused_sec = 0.0

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Around what waits for the next batch."""
        started = time.perf_counter()
        yield
        self._waited_sec += time.perf_counter() - started

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is not training and does not count in its rate."""
        started = time.perf_counter()
        yield
        self._paused_sec += time.perf_counter() - started

    def step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Take the metrics of the step that was just started; report when it is time.

        Raises:
          Diverged: a loss is not finite, or a trouble has lasted too long.
        """
        self._collected.append(metrics)
        if len(self._collected) > 1:
            jax.block_until_ready(self._collected[-2])  # At most one step ahead of the device.
        every = self._config.steps(self._config.report.every_kimg)
        if step % every == 0 or step == self._config.total_steps:
            self._report(step)

    def check_losses(self, step: int) -> None:
        """Raises Diverged if a loss since the last report is not finite."""
        check_finite(mean_metrics(jax.device_get(self._collected)), step)

    def _report(self, step: int) -> None:
        scalars = mean_metrics(jax.device_get(self._collected))
        self._collected = []
        images = (step - self._timed_from) * self._config.recipe.batch_size
        kimg = step * self._config.recipe.batch_size / 1000
        seconds = time.perf_counter() - self._started - self._paused_sec
        scalars |= {
            "time/images_per_sec": images / seconds,
            "time/sec_per_kimg": 1000 * seconds / images,
            "time/data_share": self._waited_sec / seconds,
            "memory/peak_mib": memory.peak_bytes() / 2**20,
        }
        self._timed_from = step
        if self._writes:
            self._write(step, kimg, scalars)
        for warning in self._guard.watch(step, scalars):
            if self._writes:
                _log.warning("%s.", warning)
        self._start_interval()

    def _append(self, line: dict[str, float]) -> None:
        with disk.naming(self._workdir / METRICS):
            self._metrics_file.write(json.dumps(line) + "\n")
            self._metrics_file.flush()

    def _write(self, step: int, kimg: float, scalars: dict[str, float]) -> None:
        self._append({"step": step, "kimg": kimg, **scalars})
        if self._events:
            self._events.write(lambda writer: writer.write_scalars(step, scalars))
        print(progress_line(step, kimg, self._config, scalars, self.evaluation_sec), flush=True)

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Write what an evaluation gave to metrics.jsonl and TensorBoard, as figures/<name>."""
        if not self._writes:
            return
        kimg = step * self._config.recipe.batch_size / 1000
        scalars = {f"figures/{name}": value for name, value in figures.items()}
        self._append({"step": step, "kimg": kimg, **scalars})
        if self._events:
            self._events.write(lambda writer: writer.write_scalars(step, scalars))

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        """Write a grid, uint8 [h, w, c], as <name>.png or <name>_<kimg>.png, and to TensorBoard."""
        if not self._writes:
            return
        kimg = step * self._config.recipe.batch_size / 1000
        stem = name if name == "reals" else f"{name}_{kimg:010.3f}"
        with places.whole_file(self._workdir / f"{stem}.png") as file:
            Image.fromarray(picture.squeeze()).save(file, format="png")
        if self._events:
            self._events.write(lambda writer: writer.write_images(step, {name: picture[None]}))


def _readable(raw_config: dict[str, Any]) -> dict[str, Any]:
    """The fields by name; what is no text in a path is escaped, as TensorBoard needs it."""
    return {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in flatten(raw_config).items()
    }


def mean_metrics(collected: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """The mean of each metric over the steps that have it."""
    names = sorted({name for metrics in collected for name in metrics})
    return {
        name: float(np.mean([metrics[name] for metrics in collected if name in metrics]))
        for name in names
    }


def progress_line(
    step: int, kimg: float, config: RunConfig, scalars: dict[str, float], evaluation_sec: float
) -> str:
    """kimg, rate, remaining time, that of evaluations too, and the main scalars of one report."""
    total_kimg = config.total_steps * config.recipe.batch_size / 1000
    evaluations = math.ceil(config.total_steps / config.steps(config.evaluate.every_kimg))
    done = step // config.steps(config.evaluate.every_kimg)
    left = (total_kimg - kimg) * scalars["time/sec_per_kimg"]
    left += max(evaluations - done, 0) * evaluation_sec
    parts = [
        f"kimg {kimg:.3f}/{total_kimg:.3f}",
        f"step {step}",
        f"{scalars['time/images_per_sec']:.1f} img/s",
        f"{scalars['time/sec_per_kimg']:.1f} sec/kimg",
        f"{duration(left)} left",
        f"data {scalars['time/data_share']:.1%}",
        *(
            f"{name} {scalars[name]:.3f}"
            for name in ("loss/g", "loss/d", "augment/p")
            if name in scalars
        ),
    ]
    return "  ".join(parts)


def forget_after(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl beyond `step`: those steps will be done again."""
    if not path.exists():
        return
    lines = path.read_bytes().decode(errors="replace").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    places.write_whole(path, "".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> float:
    """The step of a line; one that is cut off by a kill, or none of ours, is later than all."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
