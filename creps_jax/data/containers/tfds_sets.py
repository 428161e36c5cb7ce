"""Images in prepared sets of TensorFlow Datasets, read without TensorFlow."""

import importlib.util
import json
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from creps_jax import disk
from creps_jax.data.containers.reading import disk_error
from creps_jax.data.decode import UnreadableError

SPLIT = "train"
# The sets that `creps build` makes; their builders are no part of reading.
BUILT_HERE = ("ffhq", "flickr_scenery", "lsun_church", "metfaces")


def data_dir() -> pathlib.Path:
    """Where sets lie that are called by a name: TFDS's own rule.

    Raises:
      ValueError: there is no home folder that it could lie in.
    """
    if folder := os.environ.get("TFDS_DATA_DIR"):
        return disk.local_path(folder)
    try:
        return disk.local_path("~/tensorflow_datasets")
    except ValueError as error:
        raise ValueError(
            "there is no home folder for TFDS's sets: say where they lie with TFDS_DATA_DIR=FOLDER"
        ) from error


def require_extra() -> None:
    """Raises ValueError, which says what to install, if the extra for TFDS's sets is missing."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError("TFDS sets need tensorflow_datasets: pip install 'creps-jax[tfds]'")


def check_path(path: pathlib.Path) -> None:
    """Raises ValueError for a folder that TFDS cannot open: its libraries take UTF-8 alone."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path} is no UTF-8, as TFDS needs: rename it, or take another"
        ) from error


class Tfds:
    """The images of a prepared set, undecoded; see `open_split` for its name.

    Its split 'train' must have a feature 'image', and may have a 'label'.
    """

    def __init__(self, name: str):
        self._split = open_split(name)

    def images(self) -> list[str]:
        return [f"{index:08d}" for index in range(len(self._split.records))]

    def labels(self) -> dict[str, Any] | None:
        if not self._split.has_labels:
            return None
        records = self._split.records
        try:
            return {name: label_of(records[int(name)]) for name in self.images()}
        except Exception as error:  # Of array_record's or protobuf's own.
            if failure := disk_error(error):
                raise failure from error
            raise ValueError(f"the labels are damaged: {error}") from error

    def classes(self) -> list[str]:
        return self._split.classes

    def ignored(self) -> list[str]:
        return []

    def read(self, name: str) -> bytes:
        try:
            return image_of(self._split.records[int(name)])
        except Exception as error:
            if failure := disk_error(error):
                raise failure from error
            raise UnreadableError(f"damaged in the data set: {error}") from error

    def version(self, names: list[str]) -> list[Any]:
        del names
        return self._split.version

    def summary(self, name: str) -> int:
        del name
        sizes = [size for size, _ in self._split.version]  # Copying changes the times.
        return zlib.crc32(json.dumps(sizes).encode())


class Split(NamedTuple):
    """The images of a prepared set."""

    records: Sequence[bytes]  # serialised tf.train.Examples: see image_of and label_of
    has_labels: bool
    classes: list[str]  # the names of the labels, if they have any
    version: list[Any]  # JSON values that change when one of its files does


def open_split(name: str) -> Split:
    """The split 'train' of a set.

    Args:
      name: NAME, NAME/CONFIG or NAME/CONFIG:VERSION in TFDS's folder ($TFDS_DATA_DIR, or
        ~/tensorflow_datasets), or the path of a folder with a dataset_info.json.

    Raises:
      ValueError: there is no such set, it is damaged, not prepared or not as array_record, or it
        has no split 'train' or no 'image'; says what to do.
    """
    require_extra()
    import tensorflow_datasets as tfds

    path = disk.local_path(name)
    if not (path / "dataset_info.json").exists():
        return _read(name, _prepared_builder(name))
    check_path(path)
    try:
        return _read(name, tfds.builder_from_directory(path))
    except _UnusableError:
        raise
    except Exception as error:  # Broken files make TFDS raise nearly every exception there is.
        raise ValueError(f"tfds:{name} is damaged: {error!r}") from error


class _UnusableError(ValueError):
    """A set that is whole but no set of images."""


def _read(name: str, builder: Any) -> Split:
    import tensorflow_datasets as tfds

    if SPLIT not in builder.info.splits:
        has = ", ".join(builder.info.splits)
        raise _UnusableError(f"tfds:{name} has no split {SPLIT!r}, only {has}")
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or "image" not in features:
        raise _UnusableError(f"tfds:{name} has no feature 'image', only {features}")
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise _UnusableError(
            f"tfds:{name} is stored as {builder.info.file_format.value}; prepare it again with "
            "download_and_prepare(file_format='array_record')"
        )
    statuses = [os.stat(file) for file in builder.info.splits[SPLIT].filepaths]
    version = [[status.st_size, status.st_mtime_ns] for status in statuses]
    # Decoding by TFDS would take Pillow's time again, and make its own of other kinds of images.
    raw = tfds.core.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source(split=SPLIT, deserialize_method=raw)
    has_labels = "label" in features
    classes = getattr(features["label"], "names", None) if has_labels else None
    return Split(records, has_labels, list(classes or []), version)


def image_of(record: bytes) -> bytes:
    """The encoded image of a record."""
    return _features(record)["image"].bytes_list.value[0]


def label_of(record: bytes) -> int:
    """The class of a record's image."""
    return _features(record)["label"].int64_list.value[0]


def _features(record: bytes) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


def _prepared_builder(name: str) -> Any:
    """The builder of a set that is prepared; its own code is not needed.

    Raises:
      ValueError: it is not; says how it is made.
    """
    import tensorflow_datasets as tfds

    folder = data_dir()
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, OSError):
        pass  # It is not there: what should be done depends on who makes it.
    kind = name.partition("/")[0].partition(":")[0]
    if kind in BUILT_HERE:
        raise ValueError(
            f"tfds:{name} is not prepared in {folder}. This makes it, and says what to download "
            f"first:\n  creps build {name} --manual-dir=FOLDER"
        )
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, OSError) as error:
        # TFDS goes on to list all the sets that it knows.
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"tfds:{name} is neither a set that TFDS knows, nor the folder of one: {first}"
        ) from error
    if not builder.data_path.exists():
        raise ValueError(
            f"tfds:{name} is not prepared in {builder.data_path}. "
            "tfds.builder(...).download_and_prepare(file_format='array_record') does it."
        )
    return builder
