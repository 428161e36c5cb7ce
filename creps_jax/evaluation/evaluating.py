"""Figures of a checkpoint, or of a set of images, against a set of real ones."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from creps_jax import devices, rng, sharding
from creps_jax.config import DataConfig, parse_saved
from creps_jax.data.sources import Source, open_source
from creps_jax.evaluation import networks
from creps_jax.evaluation.extraction import kept_in
from creps_jax.evaluation.metrics import Figure, measure, networks_of
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Crop, Fakes, Images, Reals
from creps_jax.interop.generators import load_ema
from creps_jax.model.generator import Generator
from creps_jax.progress import Progress

IMAGES = 50_000  # Fakes, and reals at most, of published figures.


@rng.pinned()
def evaluate(
    metrics: Sequence[str],
    workdir: str | os.PathLike | None = None,
    fakes: str | None = None,
    reals: str | None = None,
    images: int = IMAGES,
    most_reals: int = IMAGES,
    size: int | tuple[int, int] | None = None,
    window: int | tuple[int, int] | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    inception: str | os.PathLike | None = None,
    shown: Progress | None = None,
) -> dict[str, Figure]:
    """Figures of a checkpoint's fakes, or of a set of images, against reals.

    Args:
      metrics: names in metrics.BEST.
      workdir: of the checkpoint, as creps_jax.load takes it; None: there are fakes.
      fakes: a set of images in the place of a checkpoint, as data.source names one.
      reals: the same; None: those that the checkpoint was trained on. Of other ones no classes are
        known: fakes are of all classes as often.
      images: how many fakes there are.
      most_reals: how many reals at most.
      size: height and width, px, of the images; None: of the training images.
      window: the part of an image, px, that is seen, at a random place; None: all.
      seed: of the first fake, and of windows.
      inception: file of Inception's weights; None: it is downloaded, if a metric needs it.

    Raises:
      ValueError: an argument is out of range, or a set or a checkpoint cannot be used; says which.
      OSError: the disk fails, or the weights cannot be downloaded.
    """
    if (workdir is None) == (fakes is None):
        raise ValueError("give workdir, of a checkpoint, or fakes, a set of images")
    if workdir is None and (reals is None or size is None):
        raise ValueError("a set of fakes needs reals, and a size")
    mesh = sharding.make_mesh()
    variables, config = (None, None) if workdir is None else load_ema(workdir)
    run = config and parse_saved(config)
    shape = _sides("size", size) or run.generator.shape
    crop = Crop(shape, _sides("window", window) or shape, seed)
    if min(np.subtract(crop.frame, crop.window)) < 0:
        raise ValueError(f"window={window} must be no larger than the images, {shape}")
    data = run.data if run else DataConfig(shape, 3, 0, resize=True)
    seen = networks_by_name(networks_of(metrics), inception, shown)
    of_reals, label_shares = None, uniform(data.num_classes)
    if seen:  # What needs no features needs no reals.
        source, of_reals = _reals(data, reals, crop, most_reals)
        label_shares = shares(source) or label_shares
    if run is None:
        _, of_fakes = _reals(data, fakes, crop, images)
    else:
        generator = Generator(run.generator)
        of_fakes = Fakes(generator, variables, mesh, crop, images, label_shares, truncation)
    folder = devices.cache_folder()
    figures = measure(metrics, of_fakes, of_reals, seen, mesh, folder, shown)
    if folder and run:  # Of reals they are needed again.
        forget(folder, of_fakes, seen.values())
    return figures


def networks_by_name(
    names: set[str], inception: str | os.PathLike | None, shown: Progress | None
) -> dict[str, Network]:
    """Networks that metrics need."""
    made = {
        "lite": networks.lite,
        "inception": lambda: networks.of_inception(inception, False, shown),
        "inception_clean": lambda: networks.of_inception(inception, True, shown),
    }
    return {name: made[name]() for name in sorted(names)}


def forget(folder: Path, fakes: Images, seen: Sequence[Network]) -> None:
    """Deletes the features that are kept of fakes."""
    for network in seen:
        shutil.rmtree(kept_in(folder, fakes, network), ignore_errors=True)


def shares(source: Source) -> tuple[float, ...]:
    """How often each class occurs; nothing of a source without classes."""
    counts = np.asarray(source.label_counts)
    return tuple((counts / max(counts.sum(), 1)).tolist())


def uniform(num_classes: int) -> tuple[float, ...]:
    """All classes as often."""
    return (1 / max(num_classes, 1),) * num_classes


def _reals(data: DataConfig, name: str | None, crop: Crop, count: int) -> tuple[Source, Reals]:
    """A source's images; of another source, or in another size than training's, resized."""
    if name is not None:
        data = dataclasses.replace(data, source=name, num_classes=0)
    if name is not None or crop.frame != data.shape:
        data = dataclasses.replace(data, shape=crop.frame, resize=True, random_crop=False)
    source = open_source(data)
    return source, Reals(source, data, crop, count)


def _sides(what: str, given: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    height, width = (given, given) if isinstance(given, int) else given
    if min(height, width) < 1:
        raise ValueError(f"{what}={given} must be 1 px at least")
    return height, width
