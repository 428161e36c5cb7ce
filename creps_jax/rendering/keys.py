"""Digests that tell pictures from others: what is begun is gone on with only under its own key."""

import hashlib
import platform
from typing import Any

import jax
import jaxlib
import numpy as np

from creps_jax import __version__
from creps_jax.model import coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.warp import maps

SAMPLES = 1024  # pixels an axis that tell a function of positions from others


def of_weights(generator: Generator, variables: Variables) -> "hashlib._Hash":
    """The running digest of the config and of all weights that lines and pixels are made of."""
    digest = hashlib.sha256(repr((__version__, generator.config)).encode())
    for path, array in jax.tree.leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest


def of_picture(
    weights: "hashlib._Hash", precision: str, ws: np.ndarray, plan: Plan, device: Any
) -> str:
    """The key of a picture: the same for equal arguments, in whatever form they were given.

    Args:
      weights: of of_weights().
      ws: float32 [num_ws, w_dim].
      device: other kinds, and other releases of JAX, round otherwise: their parts make no whole.
    """
    digest = weights.copy()
    digest.update(np.ascontiguousarray(ws, np.float32).tobytes())
    described = (
        (precision, plan.size, tuple(plan.window), plan.supersample),
        (_name_of_sampling(plan), maps.name_of(plan.warp, plan.size)),
        (device.platform, device.device_kind, platform.machine()),
        (jax.__version__, jaxlib.__version__),
    )
    digest.update(repr(described).encode())
    return digest.hexdigest()


def _name_of_sampling(plan: Plan) -> str:
    """Its name, or a digest of where it places pixels."""
    for name, sampling in coordinates.SAMPLINGS.items():
        if plan.sampling is sampling:
            return name
    digest = hashlib.sha256()
    for n in plan.size:
        i = np.unique(np.linspace(0, n - 1, SAMPLES).astype(np.int64))
        # Of training images of any size: those of the weights are in their digest.
        digest.update(np.asarray(plan.sampling(i, n, 256), np.float64).tobytes())
    return digest.hexdigest()
