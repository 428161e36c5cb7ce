"""What a run measures of its average generator now and then, and which checkpoint is the best."""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from creps_jax import devices, places
from creps_jax.data.hosts import Hosts
from creps_jax.evaluation import evaluating, metrics
from creps_jax.evaluation.sets import Crop, Fakes, Reals
from creps_jax.model.generator import Generator
from creps_jax.progress import Progress
from creps_jax.training import exchange
from creps_jax.training.report import Reporter, duration
from creps_jax.training.run import Run, keep

_log = logging.getLogger(__name__)

BEST = "best.json"  # Names the best checkpoint, in the workdir.


class Stopped(Exception):
    """A request to stop that came in the middle of an evaluation."""


class _Stoppable(Progress):
    """Lines of progress, until a stop is asked for."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        super().__init__(None)
        self._is_stopped = is_stopped

    def advance(self, units: float, pixels: int = 0) -> None:
        """Counts; raises Stopped if a stop is asked for."""
        if self._is_stopped():
            raise Stopped
        if jax.process_index() == 0:
            super().advance(units, pixels)


def measuring(run: Run, is_stopped: Callable[[], bool]) -> Callable[[Run, Reporter], None] | None:
    """What evaluates the run and saves it; None if the config asks for no metrics.

    A stop in the middle loses nothing: the run is saved as it is, and the same command goes on
    where the evaluation was.

    Figures are those of `creps evaluate` with as many images: of seeds from 0 on, in float32.

    Args:
      is_stopped: whether a stop has been asked for.
    """
    asked = run.config.evaluate
    if not asked.metrics:
        return None
    names = metrics.parse(asked.metrics)
    shape, generator = run.config.generator.shape, Generator(run.config.generator)
    crop = Crop(shape, shape, 0)
    reals = Reals(run.source, run.config.data, crop, evaluating.IMAGES)
    hosts = Hosts(jax.process_index(), jax.process_count(), exchange.gather)
    folder = devices.cache_folder()

    def evaluate(run: Run, reporter: Reporter) -> None:
        if run.step in (0, run.evaluated):
            return
        started = time.perf_counter()
        fakes = Fakes(
            generator,
            run.state.g_ema,
            run.task.mesh,
            crop,
            asked.images,
            run.task.label_shares,
        )
        shown = _Stoppable(is_stopped)
        try:
            found = metrics.measure(
                names, fakes, reals, run.networks, run.task.mesh, folder, shown, hosts
            )
        except Stopped:
            print("Stopped in an evaluation; it goes on where it was.", flush=True)
            return
        except (ValueError, OSError) as error:  # No reason to end the training.
            _log.error("Step %d is not evaluated: %s.", run.step, error)
            return
        if folder and hosts.index == 0:
            evaluating.forget(folder, fakes, run.networks.values())
        run.evaluated, run.figures = run.step, flat(found)
        reporter.figures(run.step, run.figures)
        first = {
            "step": run.step,
            "metric": names[0],
            "value": found[names[0]].value,
            "fakes": len(fakes),
            "reals": len(reals),
        }
        if run.best is None or is_better(first, run.best):
            run.best = first
        reporter.evaluation_sec = time.perf_counter() - started
        if hosts.index == 0:
            print(line(run, found, reporter.evaluation_sec), flush=True)
        keep(run, reporter)
        if run.best["step"] == run.step:
            run.checkpoints.wait()
            if hosts.index == 0:
                name_best(run.workdir, run.best)

    return evaluate


def flat(figures: dict[str, metrics.Figure]) -> dict[str, float]:
    """Values by name, and the ends of their intervals, NAME/low and NAME/high."""
    named = {}
    for name, (value, low, high) in figures.items():
        named |= {name: value, f"{name}/low": low, f"{name}/high": high}
    return named


def is_better(one: dict[str, Any], best: dict[str, Any]) -> bool:
    """Whether an evaluation is better than the best; of other images or metrics, there is none."""
    if any(one[name] != best.get(name) for name in ("metric", "fakes", "reals")):
        return True
    lower = metrics.BEST[one["metric"]] == "lower"
    value, known = one["value"], best["value"]
    return math.isnan(known) or (value < known if lower else value > known)


def line(run: Run, figures: dict[str, metrics.Figure], seconds: float) -> str:
    """What an evaluation gave and took, and the best so far."""
    every = run.config.evaluate.every_kimg
    parts = [f"{name} {f.value:.4g} ({f.low:.4g} to {f.high:.4g})" for name, f in figures.items()]
    best = "the best" if run.best["step"] == run.step else f"best: step {run.best['step']}"
    kimg = run.step * run.config.batch_size / 1000
    took = f"{best}; took {duration(seconds)}, every {every:g} kimg"
    return "  ".join([f"kimg {kimg:.3f}", *parts, took])


def name_best(workdir: Path, best: dict[str, Any]) -> None:
    """Writes which checkpoint is the best."""
    told = best | {"checkpoint": f"checkpoints/{best['step']}"}
    places.write_whole(workdir / BEST, (json.dumps(told, indent=2) + "\n").encode())
