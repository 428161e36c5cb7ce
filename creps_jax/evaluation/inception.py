"""InceptionV3 of the TensorFlow graph of 2015-12-05, which FID, KID and the inception score use.

The network is that of https://arxiv.org/abs/1512.00567; what that graph does otherwise, and the
names, are those of torch-fidelity's FeatureExtractorInceptionV3, whose file of weights is read:
1008 classes, averages that leave the padding out, and a maximum in the last block. Batch
normalisation is folded into the convolutions.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import disk
from creps_jax.evaluation import downloads, entries
from creps_jax.progress import Progress

Array = jax.Array

URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "pt_inception-2015-12-05-6726825d.pth"
)
SIDE_PX = 299  # of what the network sees
CLASSES = 1008

Kernel = tuple[int, int]
POINT: Kernel = (1, 1)
ROW: Kernel = (1, 7)
COLUMN: Kernel = (7, 1)


def unit(
    x: Array, name: str, channels: int, kernel: Kernel = POINT, stride: int = 1, padding: str = ""
) -> Array:
    """A convolution and ReLU; padded, unless said otherwise, where the stride is 1.

    x [N, h, w, C] -> [N, h', w', channels].
    """
    padding = padding or ("SAME" if stride == 1 else "VALID")
    layer = nn.Conv(channels, kernel, stride, padding, precision="highest", name=name)
    return nn.relu(layer(x))


def chain(x: Array, name: str, *steps: tuple[int, Kernel] | tuple[int, Kernel, int]) -> Array:
    """Units in a row, NAME_1, NAME_2, ...: their channels, kernels, and strides if not 1."""
    for i, step in enumerate(steps, start=1):
        x = unit(x, f"{name}_{i}", *step)
    return x


def joined(*branches: Array) -> Array:
    """Maps of all branches, one after the other along the channels."""
    return jnp.concatenate(branches, axis=-1)


def averages(x: Array) -> Array:
    """Of the 3 x 3 pixels around each, those outside the map left out."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def maxima(x: Array) -> Array:
    """Of the 3 x 3 pixels around each."""
    return nn.max_pool(x, (3, 3), padding="SAME")


def halved(x: Array) -> Array:
    """Maxima of 3 x 3 pixels, at every second: [N, h, w, C] -> [N, (h-1) // 2, (w-1) // 2, C]."""
    return nn.max_pool(x, (3, 3), strides=(2, 2))


class Mixed5(nn.Module):
    """Branches of 1x1, 5x5, twice 3x3, and an average: 35 x 35."""

    pooled: int  # Channels of the average.

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h, w, 224 + pooled]."""
        return joined(
            unit(x, "branch1x1", 64),
            chain(x, "branch5x5", (48, POINT), (64, (5, 5))),
            chain(x, "branch3x3dbl", (64, POINT), (96, (3, 3)), (96, (3, 3))),
            unit(averages(x), "branch_pool", self.pooled),
        )


class Mixed6a(nn.Module):
    """From 35 x 35 to 17 x 17 pixels."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / 2, w / 2, 480 + C]."""
        return joined(
            unit(x, "branch3x3", 384, (3, 3), 2),
            chain(x, "branch3x3dbl", (64, POINT), (96, (3, 3)), (96, (3, 3), 2)),
            halved(x),
        )


class Mixed6(nn.Module):
    """Branches of 1x1, 7x7 and twice 7x7, each by a row and a column, and an average: 17 x 17."""

    width: int  # Channels within the branches.

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h, w, 768]."""
        n = self.width
        twice = ((n, POINT), (n, COLUMN), (n, ROW), (n, COLUMN), (192, ROW))
        return joined(
            unit(x, "branch1x1", 192),
            chain(x, "branch7x7", (n, POINT), (n, ROW), (192, COLUMN)),
            chain(x, "branch7x7dbl", *twice),
            unit(averages(x), "branch_pool", 192),
        )


class Mixed7a(nn.Module):
    """From 17 x 17 to 8 x 8 pixels."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / 2, w / 2, 512 + C]."""
        steps = ((192, POINT), (192, ROW), (192, COLUMN), (192, (3, 3), 2))
        return joined(
            chain(x, "branch3x3", (192, POINT), (320, (3, 3), 2)),
            chain(x, "branch7x7x3", *steps),
            halved(x),
        )


class Mixed7(nn.Module):
    """Branches of 1x1, 3x3, twice 3x3, both ended by a row beside a column, and a pool: 8 x 8."""

    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h, w, 2048]."""
        once = chain(x, "branch3x3", (384, POINT))
        twice = chain(x, "branch3x3dbl", (448, POINT), (384, (3, 3)))
        return joined(
            unit(x, "branch1x1", 320),
            unit(once, "branch3x3_2a", 384, (1, 3)),
            unit(once, "branch3x3_2b", 384, (3, 1)),
            unit(twice, "branch3x3dbl_3a", 384, (1, 3)),
            unit(twice, "branch3x3dbl_3b", 384, (3, 1)),
            unit(self.pool(x), "branch_pool", 192),
        )


class InceptionV3(nn.Module):
    """The network; jit computes those of its results that are used.

    On CPUs it is a lot faster with sharding.compiler_options.
    """

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        """Images uint8 [N, h, w, 1 or 3] of any size; what is found is named by its channels.

        Returns means over pixels, '64' [N, 64] to '2048' [N, 2048], as torch-fidelity names them,
        and 'logits_unbiased' [N, 1008], without the bias: what the inception score is made of.
        """
        found = {}
        x = as_input(images)
        x = unit(x, "Conv2d_1a_3x3", 32, (3, 3), 2)
        x = unit(x, "Conv2d_2a_3x3", 32, (3, 3), padding="VALID")
        x = halved(unit(x, "Conv2d_2b_3x3", 64, (3, 3)))
        found["64"] = x.mean(axis=(1, 2))
        x = unit(x, "Conv2d_3b_1x1", 80)
        x = halved(unit(x, "Conv2d_4a_3x3", 192, (3, 3), padding="VALID"))
        found["192"] = x.mean(axis=(1, 2))
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = Mixed5(pooled, name=f"Mixed_5{letter}")(x)
        x = Mixed6a(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = Mixed6(width, name=f"Mixed_6{letter}")(x)
        found["768"] = x.mean(axis=(1, 2))
        x = Mixed7a(name="Mixed_7a")(x)
        x = Mixed7(averages, name="Mixed_7b")(x)
        x = Mixed7(maxima, name="Mixed_7c")(x)
        found["2048"] = x.mean(axis=(1, 2))
        classify = nn.Dense(CLASSES, use_bias=False, precision="highest", name="fc")
        found["logits_unbiased"] = classify(found["2048"])
        return found


def as_input(images: Array) -> Array:
    """uint8 [N, h, w, 1 or 3] -> float32 [N, 299, 299, 3], about [-1, 1].

    Bilinear as TensorFlow 1 had it: pixel i lies at i * in / out of the image, whose last pixel
    goes on beyond its edge.
    """
    x = images.astype(jnp.float32)
    for axis in (1, 2):
        low, rest = np.divmod(np.arange(SIDE_PX) * x.shape[axis], SIDE_PX)
        share = np.expand_dims((rest / SIDE_PX).astype(np.float32), (0, 3 - axis, 3))
        before, after = (jnp.take(x, at, axis, mode="clip") for at in (low, low + 1))
        x = before + (after - before) * share
    return jnp.broadcast_to((x - 128.0) / 128.0, (*x.shape[:3], 3))


def find(
    path: str | os.PathLike | None = None, url: str = URL, shown: Progress | None = None
) -> Path:
    """The file of the weights: the given one, or the public one, downloaded once (95 MB).

    Args:
      shown: where to show how far the download is.

    Raises:
      OSError: it cannot be downloaded.
    """
    return downloads.cached(url, shown) if path is None else disk.local_path(path)


def load(path: str | os.PathLike) -> tuple[InceptionV3, dict[str, Any]]:
    """The network and its variables.

    Args:
      path: of a file with torch-fidelity's names, of any form that weights.read_arrays knows.

    Raises:
      OSError: the file cannot be read.
      ValueError: an entry is missing or of another shape, which is named.
    """
    network = InceptionV3()
    image = jax.ShapeDtypeStruct((1, SIDE_PX, SIDE_PX, 3), jnp.uint8)
    return network, entries.load(path, network, image, _variable)


def _variable(entry: entries.Entry, path: list[str], shape: tuple[int, ...]) -> np.ndarray:
    """A kernel or bias, by its path in the tree."""
    _, *place, part = path
    if place == ["fc"]:
        return entry("fc.weight", shape)
    name = ".".join(place)
    return entries.with_norm(entry, f"{name}.conv", f"{name}.bn", part, shape)
