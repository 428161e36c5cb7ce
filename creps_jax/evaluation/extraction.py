"""Features of a set of images: in rounds, on all devices, kept so that nothing is done twice."""

import functools
import hashlib
import io
import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from creps_jax import places, rng, sharding
from creps_jax.data.hosts import ALONE, Hosts, together
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Images, on_all
from creps_jax.progress import Progress

_log = logging.getLogger(__name__)

Features = dict[str, np.ndarray]

PART = 512  # Images whose features are one file.
AT_A_TIME = 16  # Images that a device sees at a time.


def kept_in(folder: Path, images: Images, network: Network) -> Path:
    """The folder of some images' features, in one that keeps them all; by all they depend on."""
    platform = jax.default_backend()  # Which rounds in its own way.
    key = hashlib.sha256(f"{PART} {platform} {images.key} {network.key}".encode()).hexdigest()
    return folder / "features" / key[:32]


def features_of(
    images: Images,
    network: Network,
    mesh: Mesh,
    folder: Path | None,
    shown: Progress,
    hosts: Hosts = ALONE,
) -> Features | None:
    """What the network finds in each image: arrays [n, d], float64, by name.

    Args:
      mesh: devices that share the images; all processes must call it. Each image is seen in a
        batch of the same size, so that its features are the same on any number of devices.
      folder: of kept_in(), where features are kept part by part: a stopped call goes on where it
        was. None: nothing is kept.
      shown: counts images.

    Returns features in process 0, None in others.

    Raises:
      OSError: images cannot be read.
    """
    variables = jax.tree.map(lambda x: on_all(mesh, "state", np.asarray(x)), network.variables)
    parts = []
    for start in range(0, len(images), PART):
        stop = min(start + PART, len(images))
        path = folder / f"{start:07d}.npz" if folder else None
        known = _read(path) if path and hosts.index == 0 else None
        if not hosts.gather(known is not None)[0]:
            with together(hosts):
                some = images.images(start, stop)
            known = _seen(some, network, variables, mesh, shown)
            if path and hosts.index == 0:
                _write(path, known)
        else:
            shown.advance(stop - start)
        parts.append(known)
    if hosts.index != 0:
        return None
    return {
        name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]
    }


@rng.pinned()
def _seen(
    images: np.ndarray, network: Network, variables: Any, mesh: Mesh, shown: Progress
) -> Features:
    """The features of images, uint8 [n, h, w, channels]."""
    see, count = _program(network.see, mesh), AT_A_TIME * mesh.size
    found = []
    for first in range(0, len(images), count):
        batch = images[first : first + count]
        filled = np.resize(batch, (count, *batch.shape[1:]))
        seen = jax.device_get(see(variables, on_all(mesh, "grid", filled)))
        found.append({name: array[: len(batch)] for name, array in seen.items()})
        shown.advance(len(batch))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


@functools.cache
def _program(see: Any, mesh: Mesh) -> Any:
    """variables, images [n, h, w, C] -> features [n, d], n / devices seen by each device."""
    whole, split = (sharding.PARTITION_SPECS[kind] for kind in ("state", "grid"))
    on_devices = jax.shard_map(
        see, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False
    )

    def run(*inputs: Any) -> Any:
        return sharding.constrain(mesh, "state", on_devices(*inputs))

    return jax.jit(run, compiler_options=sharding.compiler_options(mesh))


def _read(path: Path) -> Features | None:
    """What a file keeps; None if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(path: Path, features: Features) -> None:
    data = io.BytesIO()
    np.savez(data, **features)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        places.write_whole(path, data.getvalue())
    except OSError as error:
        _log.warning("%s is not kept, it will be done again: %s.", path, error)
