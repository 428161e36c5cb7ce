"""Figures of a checkpoint, or of a set of images, against a set of real ones."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from creps_jax import devices, rng, sharding
from creps_jax.arguments import about
from creps_jax.config import DataConfig, parse_saved
from creps_jax.data.sources import Source, open_source
from creps_jax.evaluation import networks
from creps_jax.evaluation.consistency.measures import METRICS
from creps_jax.evaluation.extraction import kept_in
from creps_jax.evaluation.metrics import Figure, measure, needs_reals, networks_of
from creps_jax.evaluation.networks import Network
from creps_jax.evaluation.sets import Crop, Fakes, Images, Reals, uniform
from creps_jax.interop.generators import load_ema
from creps_jax.model.generator import Generator
from creps_jax.progress import Progress
from creps_jax.rendering.plan import resolve_size

IMAGES = 50_000  # Fakes, and reals at most, of published figures.


class Evaluation(NamedTuple):
    """Figures by metric, and how many images they are of."""

    figures: dict[str, Figure]
    fakes: int
    reals: int | None  # None: none were needed


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
) -> Evaluation:
    """Figures of a network's fakes, or of a set of images, against reals.

    Args:
      metrics: names in metrics.BEST.
      workdir: of the network, as creps_jax.load takes it; None: there are fakes.
      fakes: a set of images in the place of a network, as data.source names one.
      reals: the same; None: those that the network was trained on. Of other ones no classes are
        known: fakes are of all classes as often.
      images: how many fakes there are.
      most_reals: how many reals at most.
      size: height and width, px, of the images; a number: the height, the width being in
        proportion; None: of the training images. For metrics that compare with reals.
      window: the part of an image, px, that is seen, at a random place; None: all. The same.
      seed: of the first fake, and of windows.
      truncation: psi, of a network's fakes; 1: none.
      inception: file of Inception's weights; None: it is downloaded, if a metric needs it.
      shown: is told of the images that are done.

    Raises:
      ValueError: an argument is out of range, or a set or a network cannot be used; says which.
      OSError: the disk fails, or the weights cannot be downloaded.
    """
    if (workdir is None) == (fakes is None):
        raise ValueError("give workdir, of a network, or fakes, a set of images")
    with about("truncation"):
        if fakes is not None and truncation != 1:
            raise ValueError(f"truncation={truncation} is of a network; fakes are as they are")
    mesh = sharding.make_mesh()
    variables, config = (None, None) if workdir is None else load_ema(workdir)
    run = config and parse_saved(config)
    crop = _crop(metrics, run and run.generator.shape, size, window, seed)
    seen = networks_by_name(networks_of(metrics), inception, shown)
    data = run.data if run else DataConfig(crop.frame, 3, 0, resize=True)
    of_reals, label_shares = None, uniform(data.num_classes)
    if needs_reals(metrics):
        with about("reals"):
            if run is None and reals is None:
                raise ValueError("a set of fakes needs reals to be compared with")
            source, of_reals = _reals(data, reals, crop, most_reals)
        label_shares = shares(source) or label_shares
    if run is None:
        with about("fakes"):
            _, of_fakes = _reals(data, fakes, crop, images)
    else:
        generator = Generator(run.generator)
        of_fakes = Fakes(generator, variables, mesh, crop, images, label_shares, truncation)
    folder = devices.cache_folder()
    figures = measure(metrics, of_fakes, of_reals, seen, mesh, folder, shown)
    if folder and run:  # Of reals they are needed again.
        forget(folder, of_fakes, seen.values())
    return Evaluation(figures, len(of_fakes), None if of_reals is None else len(of_reals))


def _crop(
    metrics: Sequence[str],
    trained: tuple[int, int] | None,
    size: int | tuple[int, int] | None,
    window: int | tuple[int, int] | None,
    seed: int,
) -> Crop:
    """What is seen of the images; trained: of a network, the size of its training images."""
    moved = [name for name in metrics if name in METRICS]
    for argument, value in (("size", size), ("window", window)):
        with about(argument):
            if moved and value is not None:
                raise ValueError(
                    f"{argument}={value}: {moved[0]} is of the training size; leave it out"
                )
    with about("size"):
        if trained is None and size is None:
            raise ValueError("a set of fakes needs a size that all images are brought to")
        frame = resolve_size(size, trained or (1, 1))
    with about("window"):
        part = frame if window is None else resolve_size(window, (1, 1))
        if min(np.subtract(frame, part)) < 0 or min(part) < 1:
            raise ValueError(
                f"window={window} must be from 1 px to the images' {frame[0]}x{frame[1]}"
            )
    return Crop(frame, part, seed)


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


def _reals(data: DataConfig, name: str | None, crop: Crop, count: int) -> tuple[Source, Reals]:
    """A source's images; of another source, or in another size than training's, resized."""
    if name is not None:
        data = dataclasses.replace(data, source=name, num_classes=0)
    if name is not None or crop.frame != data.shape:
        data = dataclasses.replace(data, shape=crop.frame, resize=True, random_crop=False)
    source = open_source(data)
    return source, Reals(source, data, crop, count)
