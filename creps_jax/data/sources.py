"""Random-access sources of uint8 images and labels: files, archives, TFDS sets, drawn scenes.

`source[i]` is {'image': uint8 [*shape, image_channels], 'label': int32 []}; with
`random_crop` images are larger, each in its own size, until the pipeline crops them.
Sources are read by many threads at once and pickle to worker processes. Every file is decoded
once before training starts, so that a damaged one cannot stop a run that is under way.
"""

import concurrent.futures
import hashlib
import json
import logging
import math
import os
import pathlib
import time
import uuid
from typing import Protocol

import numpy as np
from PIL import Image

from creps_jax.config import DataConfig, shape_fields
from creps_jax.data.containers.descriptions import LABELS_FILE
from creps_jax.data.containers.schemes import SCHEMES, Container, open_container
from creps_jax.data.decode import UnreadableError, cover, fit, read_image, read_plain_png
from creps_jax.data.scenes import procedural

_log = logging.getLogger(__name__)

CACHE_MIB = 256  # Sets that are no larger once decoded are kept in memory.
_PROGRESS_SEC = 5.0


class Source(Protocol):
    """What `open_source` returns."""

    label_counts: np.ndarray  # int64 [num_classes]: how often each class occurs.
    fingerprint: str  # Of the images' names and sizes (in a zip: checksums) and of the labels.

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


def open_source(config: DataConfig, index_path: pathlib.Path | None = None) -> Source:
    """Opens `config.source` with every image checked, the unreadable ones named and left out.

    Args:
      config: what to read and how.
      index_path: where the result of the check is kept, so that a resumed run starts at once.

    Raises:
      ValueError: the source cannot be opened, too many of its images are unreadable, an image has
        the wrong size, or the labels do not fit `config.num_classes`.
    """
    scheme, _, rest = config.source.partition(":")
    if scheme == "procedural":
        return _cached(ProceduralSource(config), config)
    if scheme not in SCHEMES or not rest:
        kinds = ", ".join(f"'{scheme}:PATH'" for scheme in SCHEMES)
        raise ValueError(f"data.source={config.source!r} is none of {kinds} and 'procedural:COUNT'")
    try:
        container = open_container(config.source)
    except ValueError as error:
        raise ValueError(f"data.source: {error}") from error
    names = container.images()
    labels = _read_labels(container, names, config) if config.num_classes else {}
    unreadable = _check(container, names, config, index_path)
    readable = [name for name in names if name not in unreadable]
    return _cached(ImageSource(container, readable, labels, config), config)


def _cached(source: Source, config: DataConfig) -> Source:
    """The source, kept in memory when it is small."""
    if config.random_crop:  # Nobody knows how large it is.
        return source
    bytes_each = math.prod(config.shape) * config.image_channels
    small = len(source) * bytes_each <= CACHE_MIB * 2**20
    return CachedSource(source) if small else source


class ImageSource:
    """The named images of a container, decoded on access; without labels the class is 0."""

    def __init__(
        self, container: Container, names: list[str], labels: dict[str, int], config: DataConfig
    ):
        self.names = names
        self._container = container
        self._config = config
        self._labels = np.array([labels.get(name, 0) for name in names], np.int32)
        self.label_counts = np.bincount(self._labels, minlength=config.num_classes)
        self.label_counts = self.label_counts[: config.num_classes]
        summaries = [container.summary(name) for name in names]
        described = json.dumps([names, summaries, self._labels.tolist()])
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        config, name = self._config, self.names[index]
        try:
            pixels = _load(self._container, name, config)
        except UnreadableError as error:
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

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        config = self._config
        image = procedural.scene(index, config.shape, config.image_channels)
        return {"image": image, "label": np.int32(0)}


def _load(container: Container, name: str, config: DataConfig) -> np.ndarray:
    """The pixels that training sees, uint8 [H, W, C].

    Raises UnreadableError when it cannot be decoded, ValueError when its size is not accepted.
    """
    try:
        data = container.read(name)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    channels = config.image_channels
    if (pixels := read_plain_png(data, *config.shape, channels)) is not None:
        return pixels
    image = read_image(data, channels)
    if config.resize:
        image = (cover if config.random_crop else fit)(image, *config.shape)
    else:
        _refuse_other_size(image, name, config)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _refuse_other_size(image: Image.Image, name: str, config: DataConfig) -> None:
    """Raises ValueError for an image that training cannot take as it is."""
    height, width = config.shape
    wanted, has = shape_fields(config.shape), f"{name} has {image.width}x{image.height} pixels"
    if config.random_crop and (image.width < width or image.height < height):
        raise ValueError(
            f"data.source={config.source!r}: {has} (width x height), too few for random crops of "
            f"{wanted}; to scale images first set --config.data.resize=True"
        )
    if not config.random_crop and image.size != (width, height):
        raise ValueError(
            f"data.source={config.source!r}: {has} (width x height), but {wanted}; to "
            "crop and scale images of other sizes set --config.data.resize=True"
        )


def _check(
    container: Container, names: list[str], config: DataConfig, index_path: pathlib.Path | None
) -> dict[str, str]:
    """The unreadable among the names, with the reasons; ValueError when they are too many."""
    sizes = [*config.shape, config.resize, config.random_crop]
    described = [config.source, sizes, names, container.version(names)]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    unreadable = _read_index(index_path, key) if index_path else None
    checked_now = unreadable is None
    if checked_now:
        unreadable = _find_unreadable(container, names, config)
    _refuse_too_many(unreadable, names, config)
    if checked_now and index_path:
        _write_index(index_path, key, unreadable)
    if unreadable:
        _log.warning(
            "%d of %d images in %r are unreadable and left out.",
            *(len(unreadable), len(names), config.source),
        )
    return unreadable


def _refuse_too_many(unreadable: dict[str, str], names: list[str], config: DataConfig) -> None:
    """Raises ValueError when nothing, or too little, is left to train on."""
    if len(unreadable) == len(names) or len(unreadable) > config.max_unreadable * len(names):
        first = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise ValueError(
            f"data.source: {len(unreadable)} of {len(names)} images in {config.source!r} are "
            f"unreadable, more than data.max_unreadable={config.max_unreadable} allows; repair or "
            f"remove them. The first are: {first}"
        )


def _find_unreadable(container: Container, names: list[str], config: DataConfig) -> dict[str, str]:
    """Decodes every image once and names the unreadable in the log, with progress."""

    def reason(name: str) -> str | None:
        try:
            _load(container, name, config)
        except UnreadableError as error:
            return str(error)
        return None

    unreadable = {}
    start = reported = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(config.threads) as pool:
        for done, (name, why) in enumerate(zip(names, pool.map(reason, names), strict=True), 1):
            if why is not None:
                _log.warning("Unreadable image left out: %s: %s", name, why)
                unreadable[name] = why
            now = time.monotonic()
            if now - reported > _PROGRESS_SEC:
                reported, rate = now, done / (now - start)
                _log.info(
                    "Checked %d of %d images, %.0f a second, %.0f seconds left.",
                    *(done, len(names), rate, (len(names) - done) / rate),
                )
    return unreadable


def _read_index(path: pathlib.Path, key: str) -> dict[str, str] | None:
    """The unreadable images of an earlier check, None when there is none of these very files."""
    try:
        index = json.loads(path.read_text())
        return dict(index["unreadable"]) if index["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is broken (%s); checking the images again.", path, error)
        return None


def _write_index(path: pathlib.Path, key: str, unreadable: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps({"key": key, "unreadable": unreadable}, indent=1))
    os.replace(temporary, path)


def _read_labels(container: Container, names: list[str], config: DataConfig) -> dict[str, int]:
    """The class of each name, one of num_classes."""
    where, wanted = f"data.source={config.source!r}", f"num_classes={config.num_classes}"
    try:
        labels = container.labels()
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
