"""Prepared data sets of TensorFlow Datasets, read as random-access sources without TensorFlow."""

import os
import pathlib
from typing import Any

SPLIT = "train"


def open_split(name: str) -> Any:
    """The split 'train' of a set, its images undecoded: source[i] is {'image': bytes, ...}.

    Args:
      name: NAME, NAME/CONFIG or NAME/CONFIG:VERSION in TFDS's folder ($TFDS_DATA_DIR, or
        ~/tensorflow_datasets), or the path of a folder with a dataset_info.json.

    Raises:
      ValueError: there is no such set, it is not prepared or not as array_record, or it has no
        split 'train' or no 'image'; says what to do.
    """
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ValueError(
            f"tfds:{name} needs {error.name}: pip install 'creps-jax[train]'"
        ) from error
    path = pathlib.Path(name).expanduser()
    if (path / "dataset_info.json").exists():
        builder = tfds.builder_from_directory(path)
    else:
        builder = _prepared_builder(name)
    if SPLIT not in builder.info.splits:
        raise ValueError(
            f"tfds:{name} has no split {SPLIT!r}, only {', '.join(builder.info.splits)}"
        )
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or "image" not in features:
        raise ValueError(f"tfds:{name} has no feature 'image', only {features}")
    try:
        return builder.as_data_source(split=SPLIT, decoders={"image": tfds.decode.SkipDecoding()})
    except (NotImplementedError, ValueError) as error:
        raise ValueError(
            f"tfds:{name} is stored as {builder.info.file_format.value}; prepare it again with "
            f"download_and_prepare(file_format='array_record'): {error}"
        ) from error


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


def version(source: Any) -> list[Any]:
    """JSON values that change when a file of the split does."""
    files = source.dataset_info.splits[SPLIT].filepaths
    stats = [os.stat(file) for file in files]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]
