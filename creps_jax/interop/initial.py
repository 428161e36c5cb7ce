"""Fine-tuning: a new run's networks start from the weights of another run or of a file.

What both have is matched by official name, in which a block is called by its resolution; so a run
at another resolution, or with other labels, takes whatever has its own shape.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from creps_jax import disk, places
from creps_jax.checkpoint import load_networks
from creps_jax.config import parse_saved
from creps_jax.interop import weights
from creps_jax.interop.official import (
    Arrays,
    discriminator_names,
    fitting,
    generator_names,
    numbers,
    to_arrays,
)
from creps_jax.interop.weights import NETWORKS
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator


class Taken(NamedTuple):
    """Networks' variables, and which of them are not from elsewhere."""

    networks: dict[str, Any]  # by name, G, D and G_ema
    left: list[str]  # entries of the new networks that keep their own start, with the reason
    unused: list[str]  # entries that none of the new networks has


def load_arrays(path: str) -> dict[str, Arrays]:
    """The weights at a path, by network and official name.

    Args:
      path: a run's workdir, its checkpoints folder or one step's, also gs://...; or a file that
        weights.read knows: the official program's pickle, .pt, .safetensors or .npz.

    Raises:
      ValueError: there are no weights at the path.
    """
    try:
        given = places.in_bucket(path) or disk.utf8_path(path)
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from error
    if given.is_dir():
        try:
            saved = load_networks(given)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"init_from: {error}") from error
        config = parse_saved(saved.config)
        names = {
            "G": generator_names(config.generator),
            "D": discriminator_names(config.discriminator),
        }
        names["G_ema"] = names["G"]
        return {name: to_arrays(names[name], tree) for name, tree in saved.networks.items()}
    try:
        found = dict(weights.read(given).networks)
        for network, arrays in found.items():
            for entry, array in arrays.items():
                numbers(f"{network}/{entry}", array)
    except (OSError, ValueError) as error:
        raise ValueError(f"init_from={path!r}: {error}") from error
    # One generator is enough to go on from.
    if generators := [found[name] for name in ("G", "G_ema") if name in found]:
        found |= {"G": generators[0], "G_ema": generators[-1]}
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
        fitted, missing, extra = fitting(arrays.get(network, {}), names[network], networks[network])
        # Each network needs buffers of its own: they are donated.
        taken[network] = jax.tree.map(jnp.copy, fitted)
        left += [f"{network}/{name}" for name in missing]
        unused += [f"{network}/{name}" for name in extra]
    return Taken(taken, left, unused)
