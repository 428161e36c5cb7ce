"""What the builders have in common: images that a user has downloaded, at the paper's size."""

import abc
import concurrent.futures
import hashlib
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from creps_jax import machine
from creps_jax.data.containers.descriptions import as_utf_8
from creps_jax.data.containers.reading import read
from creps_jax.data.containers.schemes import Container
from creps_jax.data.decode import UnreadableError, encode_png, fit, read_image

MAX_UNREADABLE = 0.01  # share of the files

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One image as its publishers list it."""

    name: str  # in the container
    md5: str | None = None  # of the file
    credit: str = ""  # to whom it is due, under which licence


class Config(tfds.core.BuilderConfig):
    """A size of the images."""

    def __init__(self, resolution: int) -> None:
        super().__init__(
            name=str(resolution),
            version=tfds.core.Version("1.0.0"),
            description=f"{resolution} px",
        )
        self.resolution = resolution


class ManualImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set of images whose publishers' files lie in a folder, TFDS's manual_dir.

    Its split 'train' has all of them, in the publishers' order.
    """

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENCE: ClassVar[str]
    COUNT: ClassVar[int]  # images published
    of_any_count = False  # True: a part of them will do

    @abc.abstractmethod
    def entries(self, folder: pathlib.Path) -> tuple[Container, list[Entry]]:
        """The files of a folder, and which of them are the set.

        Raises:
          ValueError: something is missing; says what and where to get it.
        """

    def resize(self, image: Image.Image) -> Image.Image:
        """The image at the config's size: the largest square in its middle."""
        size = self.builder_config.resolution
        return fit(image, size, size)

    def image_shape(self) -> tuple[int | None, int | None, int]:
        size = self.builder_config.resolution
        return (size, size, 3)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=self.image_shape(), encoding_format="png"),
            "name": tfds.features.Text(),
            "credit": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENCE,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # Training shuffles; the order is the publishers'.
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        container, entries = self.entries(pathlib.Path(dl_manager.manual_dir))
        if not entries:
            raise ValueError(f"{self.name} lists no images in {dl_manager.manual_dir}")
        if len(entries) != self.COUNT and not self.of_any_count:
            raise ValueError(
                f"{self.name}: {len(entries)} images in {dl_manager.manual_dir}, published are "
                f"{self.COUNT}: get the others, or give --any-count to make a set of these"
            )
        return {"train": self._generate_examples(container, entries)}

    def _generate_examples(
        self, container: Container, entries: list[Entry]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        unreadable = 0

        def prepared(entry: Entry) -> bytes | str:
            """The PNG file, or why there is none; OSError if it is not what was published."""
            try:
                data = read(container, entry.name)
                if entry.md5 and hashlib.md5(data).hexdigest() != entry.md5:
                    raise OSError(f"{entry.name}: its MD5 is not {entry.md5}: download it again")
                return encode_png(self.resize(read_image(data, 3)))
            except UnreadableError as error:
                return str(error)

        for index, (entry, result) in enumerate(_map_ahead(prepared, entries)):
            if isinstance(result, bytes):
                name = as_utf_8(entry.name)
                yield index, {"image": result, "name": name, "credit": entry.credit}
                continue
            _log.warning("%s is left out: %s", entry.name, result)
            unreadable += 1
            if unreadable > MAX_UNREADABLE * len(entries):
                raise ValueError(
                    f"{self.name}: {unreadable} of {len(entries)} images are unreadable, the last "
                    f"is {entry.name}: {result}"
                )


def read_json(path: pathlib.Path, where: str) -> Any:
    """What a JSON file holds; ValueError, which says where to get it, if it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: {where}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is broken ({error}): {where}") from error


def check_present(folder: pathlib.Path, entries: list[Entry]) -> None:
    """ValueError, which names the first, if files of the entries are missing."""
    missing = [entry.name for entry in entries if not (folder / entry.name).exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(entries)} images are missing in {folder}, the first is "
            f"{missing[0]}"
        )


def _map_ahead(work: Callable[[Entry], Any], entries: Iterable[Entry]) -> Iterator[Any]:
    """(entry, its result) in order, computed ahead by threads: Pillow lets them run at once."""
    threads = machine.cores()
    queue: list[tuple[Entry, concurrent.futures.Future]] = []
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        rest = iter(entries)
        try:
            while True:
                queue.extend(
                    (e, pool.submit(work, e))
                    for e in itertools.islice(rest, 4 * threads - len(queue))
                )
                if not queue:
                    return
                entry, future = queue.pop(0)
                yield entry, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
