"""Fine-tuning: a new run's networks start from the weights of another run or of official arrays.

What both have is matched by official name, in which a block is called by its resolution; so a run
at another resolution, or with other labels, takes whatever has its own shape.
"""

import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import disk, places
from creps_jax.checkpoint import load_networks
from creps_jax.config import parse_saved
from creps_jax.interop.official import (
    Arrays,
    discriminator_names,
    fitting,
    generator_names,
    to_arrays,
)
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator

NETWORKS = ("G", "D", "G_ema")


class Taken(NamedTuple):
    """Networks' variables, and which of them are not from elsewhere."""

    networks: dict[str, Any]  # by name, G, D and G_ema
    left: list[str]  # entries of the new networks that keep their own start, with the reason
    unused: list[str]  # entries that none of the new networks has


def load_arrays(path: str) -> dict[str, Arrays]:
    """The weights at a path, by network and official name.

    Args:
      path: a run's workdir, its checkpoints folder or one step's, also gs://...; or an .npz file
        with entries such as G/synthesis.b4.fc1.weight, D/b4.fc.weight and G_ema/mapping.w_avg.

    Raises:
      ValueError: there are no weights at the path.
    """
    try:
        given = places.in_bucket(path) or disk.local_path(path)
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from error
    if given.is_dir():
        try:
            networks, raw_config = load_networks(given)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"init_from: {error}") from error
        config = parse_saved(raw_config)
        names = {
            "G": generator_names(config.generator),
            "D": discriminator_names(config.discriminator),
        }
        names["G_ema"] = names["G"]
        return {name: to_arrays(names[name], networks[name]) for name in NETWORKS}
    if not zipfile.is_zipfile(given):
        what = "" if given.exists() else ": there is nothing of that name"
        raise ValueError(
            f"init_from={path!r} is neither the folder of a run or a checkpoint, nor an .npz file "
            f"of arrays{what}"
        )
    try:
        with np.load(given) as file:
            entries = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"init_from={path!r}: {error}") from error
    found = {
        network: {
            name.removeprefix(f"{network}/"): array
            for name, array in entries.items()
            if name.startswith(f"{network}/")
        }
        for network in NETWORKS
    }
    if not found["G"] and not found["G_ema"]:
        raise ValueError(
            f"init_from={path!r} has no entries G/... or G_ema/...; it has "
            f"{', '.join(list(entries)[:5]) or 'none'}"
        )
    for network, arrays in found.items():
        for name, array in arrays.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise ValueError(
                    f"init_from={path!r}: {network}/{name} is of type {array.dtype}, not of floats"
                )
    # One generator is enough to go on from.
    found["G"], found["G_ema"] = found["G"] or found["G_ema"], found["G_ema"] or found["G"]
    return found


def take(
    arrays: dict[str, Arrays],
    generator: Generator,
    discriminator: Discriminator,
    networks: dict[str, Any],
) -> Taken:
    """The networks' variables, with the arrays in the place of those that they fit.

    Args:
      arrays: by network, what load_arrays returns.
      networks: variables of new networks by name, G, D and G_ema.
    """
    names = {
        "G": generator_names(generator.config),
        "D": discriminator_names(discriminator.config),
    }
    names["G_ema"] = names["G"]
    taken, left, unused = {}, [], []
    for network in NETWORKS:
        fitted, missing, extra = fitting(arrays[network], names[network], networks[network])
        # Each network needs buffers of its own: they are donated.
        taken[network] = jax.tree.map(jnp.copy, fitted)
        left += [f"{network}/{name}" for name in missing]
        unused += [f"{network}/{name}" for name in extra]
    return Taken(taken, left, unused)
