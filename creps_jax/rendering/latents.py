"""From seeds to the latents of an image's layers, one at a time: batches would round otherwise.

Shapes: z [z_dim]; ws [num_ws, w_dim].
"""

import functools
import numbers
from collections.abc import Mapping

import jax
import numpy as np

from creps_jax import rng
from creps_jax.model.generator import Generator, Variables


@rng.pinned()
def draw_z(seed: int, z_dim: int) -> np.ndarray:
    """The latent z that a seed stands for: float32 [z_dim].

    Raises:
      ValueError: the seed is out of range.
    """
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 to {2**32 - 1}")
    return np.asarray(jax.random.normal(rng.stream(rng.root(seed), "z", 0), (z_dim,)))


@rng.pinned()
def map_latents(
    generator: Generator,
    variables: Variables,
    z: np.ndarray,
    label: int | None = None,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> np.ndarray:
    """The latents of all layers that z [z_dim] is mapped to: float32 ws [num_ws, w_dim].

    Args:
      label: the class; None if and only if the generator is unconditional.
      psi: truncation: 1 changes nothing, 0 gives the mean image.
      cutoff: truncate only the latents of the first `cutoff` layers; None: of all.

    Raises:
      ValueError: the label does not fit the generator's num_classes.
    """
    config = generator.config
    check_label(label, config.num_classes)
    c = np.zeros((1, config.num_classes), np.float32)
    if label is not None:
        c[0, label] = 1.0
    return np.asarray(_ws(generator, variables, z[None].astype(np.float32), c, psi, cutoff)[0])


def check_label(label: int | None, num_classes: int) -> None:
    """Raises ValueError unless the label is a class, or None without classes."""
    if num_classes == 0 and label is not None:
        raise ValueError(f"the generator is unconditional (num_classes=0), got class {label}")
    if num_classes > 0 and (label is None or not 0 <= label < num_classes):
        raise ValueError(
            f"the generator needs a class from 0 to {num_classes - 1} "
            f"(num_classes={num_classes}), got {label}"
        )


def check_cutoff(cutoff: int | None, num_ws: int) -> None:
    """Raises ValueError unless the cutoff is None or a number of layers."""
    if cutoff is not None and cutoff not in range(num_ws + 1):
        raise ValueError(
            f"cutoff={cutoff} must be a whole number from 0 to {num_ws}, the number of layers"
        )


def check_styles(styles: Mapping[int, int], num_ws: int) -> None:
    """Raises ValueError unless all keys are layers."""
    for layer in styles:
        if not 0 <= layer < num_ws:
            raise ValueError(f"layer {layer} must be from 0 to {num_ws - 1}: there are {num_ws}")


@functools.partial(jax.jit, static_argnames=("generator", "cutoff"))
def _ws(generator, variables, z, c, psi, cutoff):
    w = generator.apply(variables, z, c, method="map")
    return generator.apply(variables, w, psi, cutoff, method="truncate")
