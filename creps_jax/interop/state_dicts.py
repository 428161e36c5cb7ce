"""Networks under the official program's names, as .safetensors or .npz that any tool can read.

An entry is called by its network and its official name, as G_ema/synthesis.b4.fc1.weight. With the
prefix taken away, all entries of a network are the official program's state_dict, strictly: what it
stores and never uses is there as zeros, and so are its constants.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from creps_jax import places
from creps_jax.config import DiscriminatorConfig, GeneratorConfig, parse_saved
from creps_jax.interop import official
from creps_jax.interop.weights import CONFIG
from creps_jax.model.ops import TAPS


def write(path: Path, networks: dict[str, Any], raw_config: dict[str, Any]) -> None:
    """Writes the networks to a file, which is there whole or not at all.

    Args:
      path: ends with .npz; else it will be a .safetensors.
      networks: variables of G, D and G_ema, those that there are.
      raw_config: the run's; import reads it again.

    Raises:
      OSError: the disk fails.
    """
    entries, config = official_entries(networks, raw_config), json.dumps(raw_config)
    with places.whole_file(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **entries, **{CONFIG: np.array(config)})
        else:
            # One entry alone: the library writes several in any order.
            file.write(safetensors.numpy.save(entries, {CONFIG: config}))


def official_entries(networks: dict[str, Any], raw_config: dict[str, Any]) -> dict[str, np.ndarray]:
    """All that the official program's state_dicts have, by network and name."""
    config = parse_saved(raw_config)
    entries = {}
    for network, variables in networks.items():
        if network == "D":
            names = official.discriminator_names(config.discriminator)
            unused = _filters(config.discriminator)
        else:
            names, unused = official.generator_names(config.generator), _unused(config.generator)
        arrays = official.to_arrays(names, jax.device_get(variables)) | dict(unused)
        # Neither format knows strides.
        entries |= {f"{network}/{name}": np.ascontiguousarray(a) for name, a in arrays.items()}
    return entries


def _unused(config: GeneratorConfig) -> Iterator[tuple[str, np.ndarray]]:
    """The layers of G that are never used (quirks Q1 and Q3), and its training positions."""
    first, width, w_dim = config.channels[0], config.biline_channels, config.w_dim
    shapes = {
        "synthesis.b4.tores.weight": (width, first),
        "synthesis.b4.tores.bias": (width,),
        "synthesis.b4.tores.affine.weight": (first, w_dim),
        "synthesis.b4.tores.affine.bias": (first,),
    }
    widths = (width, 2 * width, 4 * width, 2 * width, width)
    for i in range(4):
        shapes[f"synthesis.decoder_8.{i}.weight"] = (widths[i + 1], widths[i])
        shapes[f"synthesis.decoder_8.{i}.bias"] = (widths[i + 1],)
    for name, shape in shapes.items():
        yield name, np.zeros(shape, np.float32)
    size, _ = config.shape  # Official networks are square.
    yield "synthesis.b4.input.coords", np.stack([_linspace(size)] * 2, axis=1)[None, :, :, None]


def _linspace(count: int) -> np.ndarray:
    """i / (count - 1) to a rounding: steps from both ends to the middle, as in official files."""
    step, i = float(np.float32(1 / (count - 1))), np.arange(count)
    return np.where(i < count // 2, i * step, 1 - i[::-1] * step).astype(np.float32)


def _filters(config: DiscriminatorConfig) -> Iterator[tuple[str, np.ndarray]]:
    """D's blurs, which each convolution and each block has for itself."""
    blur = np.outer(TAPS, TAPS).astype(np.float32)
    blocks = [4 << i for i in range(len(config.channels) - 1, 0, -1)]
    yield f"b{blocks[0]}.fromrgb.resample_filter", blur
    for b in blocks:
        for layer in ("", "conv0.", "conv1.", "skip."):
            yield f"b{b}.{layer}resample_filter", blur
    yield "b4.conv.resample_filter", blur
