"""Snapshots of a run's two power-function averages, and the average of any length from them.

averages/<step>.safetensors in the workdir: G's parameters by official name, 0/... of the shorter
average and 1/... of the longer one.
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from creps_jax import places
from creps_jax.checkpoint import Checkpoints, is_there_any, load_networks
from creps_jax.config import parse_saved
from creps_jax.interop import official
from creps_jax.training.averages import EXPONENTS, SIGMAS, Profile, exponent, weights
from creps_jax.training.report import Reporter
from creps_jax.training.run import Run

FOLDER = "averages"
MOST_MISFIT = 0.5  # of an average's profile


def take(run: Run, _: Reporter) -> None:
    """Writes the run's averages as they are, unless it is at its beginning."""
    if run.step == 0 or jax.process_index() != 0:
        return
    names = official.generator_names(run.config.generator)["params"]
    arrays = {
        f"{i}/{name}": np.ascontiguousarray(array)
        for i, params in enumerate(jax.device_get(run.state.power_averages))
        for name, array in official.to_arrays(names, params).items()
    }
    _file(run.workdir, run.step).parent.mkdir(exist_ok=True)
    places.write_whole(_file(run.workdir, run.step), safetensors.numpy.save(arrays))


def _file(workdir: Path, step: int) -> Path:
    return workdir / FOLDER / f"{step:08d}.safetensors"


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; delete it, others stand in") from error


def steps(workdir: str | os.PathLike) -> list[int]:
    """The steps of which a run has taken snapshots."""
    files = (places.path(workdir) / FOLDER).glob("*.safetensors")
    return sorted(int(file.stem) for file in files if file.stem.isdecimal())


def average(
    workdir: str | os.PathLike, sigma: float, out: str | os.PathLike, last: int | None = None
) -> tuple[int, float]:
    """Writes the average of a length as a checkpoint, which renders and is evaluated as any is.

    Args:
      workdir: of a run with recipe.power_averages.
      sigma: the length, the standard deviation of the average's profile over the steps up to the
        last, as a share of them; from about 0.02 to 0.25.
      out: a folder without checkpoints, also gs://...; or with this very one, which stays.
      last: the last step, one of steps(); None: the last of these.

    Returns the last step, and how far the average's profile is from the wanted one: see
    averages.weights.

    Raises:
      ValueError: sigma is out of range, the snapshots are too few for it, there are none, or one
        is damaged; or the folder holds other checkpoints.
      OSError: the disk fails.
    """
    power = exponent(sigma)
    workdir, out = places.path(workdir), places.path(out)
    there = steps(workdir)
    if not there:
        raise ValueError(
            f"{workdir / FOLDER} has no snapshots: a run takes them with "
            "--config.recipe.power_averages=True, at its evaluations"
        )
    last = last or there[-1]
    told = f"{workdir}, the average of sigma={sigma} up to step {last}"
    taken = [step for step in there if step <= last]
    profiles = [Profile(g, step) for step in taken for g in EXPONENTS]
    parts, misfit = weights(profiles, Profile(power, last))
    if misfit > MOST_MISFIT:
        raise ValueError(
            f"sigma={sigma} cannot be had of {len(taken)} snapshots: its profile would be "
            f"{misfit:.0%} off; give one nearer to {' or '.join(map(str, SIGMAS))}"
        )
    if is_there_any(out):
        if load_networks(out).imported == told:
            return last, misfit
        raise ValueError(f"{out} holds other checkpoints already; give another folder")
    saved = load_networks(workdir)
    config = parse_saved(saved.config)
    total: dict[str, np.ndarray] = {}
    # One at a time is in memory.
    for step, shares in zip(taken, parts.reshape(len(taken), -1), strict=True):
        for name, array in _read(_file(workdir, step)).items():
            i, _, entry = name.partition("/")
            total[entry] = total.get(entry, 0.0) + shares[int(i)] * array.astype(np.float64)
    ema = _with_params(saved.networks["G_ema"], config, total)
    state = {"generator": ema, "discriminator": saved.networks["D"]}
    with Checkpoints(out, keep=2) as checkpoints:
        checkpoints.save(last, state=state, ema=ema, data={"imported": told}, config=saved.config)
    return last, misfit


def _with_params(variables: Any, config: Any, arrays: dict[str, np.ndarray]) -> Any:
    names = official.generator_names(config.generator)["params"]
    params, missing, _ = official.fitting(arrays, names, variables["params"])
    assert not missing, missing
    return {**variables, "params": params}
