"""The networks whose features metrics compare, as one kind of thing.

'lite' is EfficientNet-Lite0, which pip installs; 'inception' is the network of the published FID,
and 'inception_clean' the same of images that are resized without aliasing (Parmar et al. 2022).
"""

import functools
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from creps_jax.evaluation import downloads, features, inception
from creps_jax.progress import Progress

Array = jax.Array

_log = logging.getLogger(__name__)

LITE_PX = 224  # The side of the images that the network was trained on.


class Network(NamedTuple):
    """What sees."""

    key: str  # Of the weights, and of what is done with images before.
    see: Callable[[Any, Array], dict[str, Array]]  # variables, uint8 [N, h, w, 1 or 3] -> features
    variables: Any


def lite() -> Network:
    """Gives 'features' [N, 1280].

    Raises:
      ValueError: its weights are not installed.
    """
    path = features.installed()
    return Network(f"lite {LITE_PX} {_sum(path)}", _see_lite, features.load(path)[1])


def _see_lite(variables: Any, images: Array) -> dict[str, Array]:
    resized = resize(features.as_input(images), LITE_PX)
    return {"features": features.EfficientNetLite0().apply(variables, resized)["head"]}


def of_inception(
    path: str | os.PathLike | None, is_clean: bool, shown: Progress | None = None
) -> Network:
    """Gives 'features' [N, 2048], and 'logits' [N, 1008].

    Args:
      path: of torch-fidelity's file; None: it is downloaded.
      is_clean: images are resized without aliasing; else as the published figures have it.

    Raises:
      OSError: the file cannot be read, or downloaded.
      ValueError: it is another file, or damaged.
    """
    path = inception.find(path, shown=shown)
    _, variables = inception.load(path)
    see, found = functools.partial(_see_inception, is_clean), _sum(path)
    if not found.startswith(downloads.sum_of(inception.URL)):
        _log.warning(
            "%s is not the public file, whose SHA-256 begins %s: figures are no published ones.",
            path,
            downloads.sum_of(inception.URL),
        )
    return Network(f"inception {is_clean} {found}", see, variables)


def _see_inception(is_clean: bool, variables: Any, images: Array) -> dict[str, Array]:
    if is_clean:
        images = resize(images.astype(jnp.float32), inception.SIDE_PX)
    found = inception.InceptionV3().apply(variables, images)
    return {"features": found["2048"], "logits": found["logits_unbiased"]}


def resize(images: Array, side: int) -> Array:
    """[N, h, w, C] -> [N, side, side, C]: cubic, and where it shrinks low-passed before."""
    shape = (images.shape[0], side, side, images.shape[3])
    return jax.image.resize(images, shape, "cubic", antialias=True, precision="highest")


def _sum(path: str | os.PathLike) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
