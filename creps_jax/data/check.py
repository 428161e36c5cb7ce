"""The pixels that training sees of a file, and which files have none: all are decoded once."""

import concurrent.futures
import hashlib
import json
import logging
import pathlib
import time

import numpy as np
from PIL import Image

from creps_jax import places
from creps_jax.conditions import shape_fields
from creps_jax.config import DataConfig
from creps_jax.data.containers.reading import patiently, read
from creps_jax.data.containers.schemes import Container
from creps_jax.data.decode import UnreadableError, cover, fit, read_image, read_plain_png
from creps_jax.data.hosts import Hosts, together

RULES = 2  # of what is readable: another number checks the images again
_PROGRESS_SEC = 5.0

_log = logging.getLogger(__name__)


def load(container: Container, name: str, config: DataConfig) -> np.ndarray:
    """The pixels that training sees, uint8 [H, W, C].

    Raises:
      UnreadableError: it cannot be decoded.
      ValueError: its size is not accepted.
      OSError: the disk fails, or the file is gone or forbidden.
    """
    data = read(container, name)
    channels = config.image_channels
    if (pixels := read_plain_png(data, *config.shape, channels)) is not None:
        return pixels
    image = read_image(data, channels, config.max_megapixels)
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


def find_unreadable(
    container: Container,
    names: list[str],
    config: DataConfig,
    index_path: pathlib.Path | None,
    hosts: Hosts,
) -> dict[str, str]:
    """The damaged among the images, with the reasons; those of an earlier check if it was of these.

    Raises:
      ValueError: they are too many, or an image has the wrong size.
      OSError: the disk fails, or a file is gone or forbidden: nothing is known then.
    """
    key, known = "", None
    with together(hosts):
        if index_path and hosts.index == 0:
            key = _key(container, names, config)
            known = _read_index(index_path, key)
    unreadable = hosts.gather(known)[0]
    if unreadable is None:
        with together(hosts):
            own = _decode_all(container, names[hosts.index :: hosts.count], config)
        found = {name: why for share in hosts.gather(own) for name, why in share.items()}
        unreadable = {name: found[name] for name in names if name in found}
    _refuse_too_many(unreadable, names, config)
    with together(hosts):
        if index_path and hosts.index == 0 and known is None:
            _write_index(index_path, key, unreadable)
    if unreadable:
        _log.warning(
            "%d of %d images in %r are unreadable and left out.",
            len(unreadable),
            len(names),
            config.source,
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


def _decode_all(container: Container, names: list[str], config: DataConfig) -> dict[str, str]:
    """Decodes the images and names the unreadable in the log, with progress."""

    def reason(name: str) -> str | None:
        try:
            load(container, name, config)
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
                    done,
                    len(names),
                    rate,
                    (len(names) - done) / rate,
                )
    return unreadable


def _key(container: Container, names: list[str], config: DataConfig) -> str:
    """Of all that decides which images are unreadable."""
    sizes = [*config.shape, config.resize, config.random_crop, config.max_megapixels]
    described = [RULES, config.source, sizes, names, patiently(container.version, names)]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


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
    places.write_whole(path, json.dumps({"key": key, "unreadable": unreadable}, indent=1).encode())
