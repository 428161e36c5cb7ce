"""A network's variables from a file of its weights, which has PyTorch's names and axes."""

import functools
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from creps_jax.interop import weights
from creps_jax.interop.official import Arrays

EPSILON = 1e-3  # Of batch normalisation, in all networks here.

# Gives an entry, float32, by its name and the shape that it has in Flax.
Entry = Callable[[str, tuple[int, ...]], np.ndarray]

# The axes of Flax's kernels, [h, w, in, out] and [in, out], in the file's order, [out, in, h, w]
# and [out, in].
_AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def load(
    path: str | os.PathLike,
    network: nn.Module,
    inputs: jax.ShapeDtypeStruct,
    variable: Callable[[Entry, list[str], tuple[int, ...]], np.ndarray],
) -> dict[str, Any]:
    """The network's variables.

    Args:
      path: of any form that weights.read_arrays knows.
      inputs: of the network.
      variable: makes one of entries, by its path in the tree, as ['params', 'stem', 'kernel'], and
        its shape.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged; or an entry is missing, of another shape or not finite, which is
        named.
    """
    entry = functools.partial(_entry, path, weights.read_arrays(path))
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
    return jax.tree_util.tree_map_with_path(
        lambda at, shape: jnp.asarray(variable(entry, [key.key for key in at], shape.shape)), shapes
    )


def with_norm(
    entry: Entry, convolution: str, norm: str, part: str, shape: tuple[int, ...]
) -> np.ndarray:
    """The 'kernel' or 'bias' of a convolution with the batch normalisation after it.

    norm(conv(x)) = gain (conv(x) - mean) + offset, where gain = scale / sqrt(variance + epsilon).

    Args:
      convolution, norm: the beginnings of their entries' names.
      shape: of the part.
    """
    scale, offset, mean, variance = (
        entry(f"{norm}.{name}", shape[-1:])
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = scale / np.sqrt(variance + np.float32(EPSILON))
    if part == "bias":
        return offset - mean * gain
    return entry(f"{convolution}.weight", shape) * gain


def _entry(
    path: str | os.PathLike, arrays: Arrays, name: str, shape: tuple[int, ...]
) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"{path}: entry {name} is missing")
    axes = _AXES[len(shape)]
    found, expected = arrays[name].shape, tuple(shape[axis] for axis in axes)
    if found != expected:
        raise ValueError(f"{path}: entry {name} has shape {found}, expected {expected}")
    array = np.asarray(arrays[name], np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: entry {name} has numbers that are not finite")
    return array.transpose(np.argsort(axes))
