"""Prepared data sets of TensorFlow Datasets, read as random-access sources without TensorFlow."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

SPLIT = "train"


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
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ValueError(
            f"tfds:{name} needs {error.name}: pip install 'creps-jax[train]'"
        ) from error
    path = pathlib.Path(name).expanduser()
    if not (path / "dataset_info.json").exists():
        return _read(name, _prepared_builder(name))
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
    import tensorflow_datasets as tfds

    from creps_jax.data import builders

    try:
        builder = tfds.builder(name, try_gcs=False)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, OSError) as error:
        # TFDS goes on to list all the sets that it knows.
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"tfds:{name} is neither a set that TFDS knows, nor the folder of one: {first}"
        ) from error
    if not builder.data_path.exists():
        how = (
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS} Then run\n"
            f"  creps build {name} --manual-dir=FOLDER"
            if isinstance(builder, builders.ManualImages)
            else "tfds.builder(...).download_and_prepare(file_format='array_record') does it."
        )
        raise ValueError(f"tfds:{name} is not prepared in {builder.data_path}. {how}")
    return builder
