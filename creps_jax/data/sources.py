"""Random-access sources of uint8 images and labels: files, archives, TFDS sets, drawn scenes.

`source[i]` is {'image': uint8 [*shape, image_channels], 'label': int32 []}; with
`random_crop` images are larger, each in its own size, until the pipeline crops them.
Sources are read by many threads at once and pickle to worker processes. Every file is decoded
once before training starts, so that a damaged one cannot stop a run that is under way.
"""

import hashlib
import json
import logging
import math
import pathlib
from collections.abc import Container as Names
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from creps_jax.config import DataConfig
from creps_jax.data.check import find_unreadable, load
from creps_jax.data.containers.descriptions import LABELS_FILE
from creps_jax.data.containers.files import kinds
from creps_jax.data.containers.reading import patiently
from creps_jax.data.containers.schemes import SCHEMES, Container, open_container
from creps_jax.data.decode import UnreadableError
from creps_jax.data.hosts import ALONE, Hosts, check_equal, together
from creps_jax.data.scenes import procedural

CACHE_MIB = 256  # Sets that are no larger once decoded are kept in memory.

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What `open_source` returns."""

    label_counts: np.ndarray  # int64 [num_classes]: how often each class occurs.
    fingerprint: str  # Of the images' names and sizes (in a zip: checksums) and of the labels.

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    def version(self) -> Any:
        """A JSON value that changes when an image does."""


def open_source(
    config: DataConfig, index_path: pathlib.Path | None = None, hosts: Hosts = ALONE
) -> Source:
    """Opens `config.source` with every image checked, the unreadable ones named and left out.

    Args:
      config: what to read and how.
      index_path: where the result of the check is kept, so that a resumed run starts at once;
        process 0 alone uses it.
      hosts: the processes that open the source now; each checks a share of it, for all.

    Raises:
      ValueError: the source cannot be opened, too many of its images are unreadable, an image has
        the wrong size, the labels do not fit `config.num_classes`, or the processes see other
        images.
      OSError: the disk fails, or a file is gone or forbidden.
    """
    with together(hosts):
        source = _open(config)
    check_equal(hosts, f"data.source={config.source!r}", len(source), source.fingerprint)
    if isinstance(source, ImageSource):
        source = source.without(
            find_unreadable(source.container, source.names, config, index_path, hosts)
        )
    if config.random_crop:  # Nobody knows how large it is.
        return source
    bytes_each = math.prod(config.shape) * config.image_channels
    small = len(source) * bytes_each <= CACHE_MIB * 2**20
    return CachedSource(source) if small else source


def _open(config: DataConfig) -> "ImageSource | ProceduralSource":
    """The source of all images, unchecked."""
    scheme, _, rest = config.source.partition(":")
    if scheme == "procedural":
        return ProceduralSource(config)
    if scheme not in SCHEMES or not rest:
        known = ", ".join(f"'{scheme}:PATH'" for scheme in SCHEMES)
        raise ValueError(f"data.source={config.source!r} is none of {known} and 'procedural:COUNT'")
    try:
        container = open_container(config.source)
    except ValueError as error:
        raise ValueError(f"data.source: {error}") from error
    names = container.images()
    labels = _read_labels(container, names, config) if config.num_classes else {}
    if ignored := kinds(container.ignored()):
        listed = ", ".join(f"{kind} ({count})" for kind, count in ignored.items())
        _log.info("Taken for no images, by the ends of their names: %s.", listed)
    images = [
        Image(name, labels.get(name, 0), patiently(container.summary, name)) for name in names
    ]
    return ImageSource(container, images, config)


class Image(NamedTuple):
    """An image of a container."""

    name: str
    label: int  # 0 without labels
    summary: int  # as the container's


class ImageSource:
    """Images of a container, decoded on access."""

    def __init__(self, container: Container, images: list[Image], config: DataConfig):
        self.container = container
        self.names = [image.name for image in images]
        self._images = images
        self._config = config
        self._labels = np.array([image.label for image in images], np.int32)
        self.label_counts = np.bincount(self._labels, minlength=config.num_classes)
        self.label_counts = self.label_counts[: config.num_classes]
        summaries = [image.summary for image in images]
        described = json.dumps([self.names, summaries, self._labels.tolist()])
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    def without(self, names: Names[str]) -> Self:
        """The source of the other images."""
        others = [image for image in self._images if image.name not in names]
        return type(self)(self.container, others, self._config)

    def version(self) -> Any:
        """What the container says of the files: sizes and times."""
        return patiently(self.container.version, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        config, name = self._config, self.names[index]
        try:
            pixels = load(self.container, name, config)
        except (UnreadableError, OSError) as error:
            raise OSError(
                f"data.source={config.source!r}: {name} was readable when it was checked and no "
                f"longer is: {error}"
            ) from error
        return {"image": pixels, "label": self._labels[index]}


class CachedSource:
    """A small source whose examples are decoded once, when they are first asked for."""

    def __init__(self, source: Source):
        self._source = source
        self._examples: dict[int, dict[str, np.ndarray]] = {}
        self.label_counts = source.label_counts
        self.fingerprint = source.fingerprint

    def version(self) -> Any:
        """The source's."""
        return self._source.version()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        # Two threads may decode the same example: the results are equal.
        if index not in self._examples:
            self._examples[index] = self._source[index]
        return self._examples[index]


class ProceduralSource:
    """`COUNT` drawn scenes: they have no labels and need no check."""

    def __init__(self, config: DataConfig):
        count = config.source.partition(":")[2]
        if not (count.isascii() and count.isdigit() and int(count) > 0):
            raise ValueError(
                f"data.source={config.source!r}: COUNT must be a positive integer, not {count!r}; "
                "for example 'procedural:10000'"
            )
        if config.num_classes:
            raise ValueError(
                f"data.source={config.source!r} has no labels but num_classes is "
                f"{config.num_classes}; set it to 0"
            )
        self._count = int(count)
        self._config = config
        self.label_counts = np.zeros(0, np.int64)
        self.fingerprint = config.source

    def version(self) -> Any:
        """Of the scenes' program, there is none."""
        return None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        config = self._config
        image = procedural.scene(index, config.shape, config.image_channels)
        return {"image": image, "label": np.int32(0)}


def _read_labels(container: Container, names: list[str], config: DataConfig) -> dict[str, int]:
    """The class of each name, one of num_classes."""
    where, wanted = f"data.source={config.source!r}", f"num_classes={config.num_classes}"
    try:
        labels = patiently(container.labels)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if labels is None:
        raise ValueError(
            f"{where} has no labels but {wanted} needs them: add a {LABELS_FILE}, or set "
            "num_classes to 0"
        )
    for name in names:
        if name not in labels:
            raise ValueError(f"{where} has no label for {name}, but {wanted} needs one for each")
        label = labels[name]
        if type(label) is not int or not 0 <= label < config.num_classes:
            raise ValueError(
                f"{where} gives {name} the label {label!r}; {wanted} accepts the integers "
                f"0..{config.num_classes - 1}"
            )
    return labels
