"""The average generator at a path: of a checkpoint, a file, or one that comes with the program."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import checkpoint, places, shipped
from creps_jax.interop import importing, official, weights
from creps_jax.interop.pickles import printable
from creps_jax.model.generator import Generator, Variables


def load_ema(path: str | os.PathLike) -> tuple[Variables, dict[str, Any]]:
    """The variables, on the default device, and the config of the run.

    Args:
      path: of a run, a checkpoint or a bucket, as checkpoint.load_ema takes it; of a file, as
        weights.read does; or, if there is none of that name, a network of shipped.names().

    Raises:
      FileNotFoundError, OSError, ValueError: as these do; or the file holds no generator.
    """
    where = places.path(path)
    if not where.exists() and path in shipped.names():
        where = shipped.find(path)
    return _of_file(where) if where.is_file() else checkpoint.load_ema(path)


def load_generator(path: str | os.PathLike) -> tuple[Generator, Variables]:
    """The generator, with its variables: see load_ema.

    Raises:
      FileNotFoundError, OSError, ValueError: as load_ema does; or JAX finds no device.
      MemoryError: the device has no room for the weights.
    """
    return checkpoint.load_generator(path, load_ema)


def _of_file(path: os.PathLike) -> tuple[Variables, dict[str, Any]]:
    found = weights.read(path)
    name = next((name for name in ("G_ema", "G") if name in found.networks), None)
    try:
        if name is None:
            raise ValueError("holds no generator")
        generator, variables = official.generator_from_arrays(found.networks[name])
        config, _ = importing.config_of(found.config, {"G": generator.config})
    except ValueError as error:
        raise ValueError(printable(f"{path}: {error}")) from error
    return jax.tree.map(jnp.asarray, variables), config
