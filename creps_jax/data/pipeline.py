"""Shuffle, crop, mirror and batch a source with Grain; the iterator's state is a JSON value."""

import functools
from collections.abc import Iterator
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags
from grain.experimental import ElasticIterator

from creps_jax.config import DataConfig
from creps_jax.data.processes import end_with_parent
from creps_jax.data.sources import Source


class BatchIterator(Protocol):
    """What `make_iterator` returns: an endless iterator with a state, to be closed after use."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...

    def __next__(self) -> dict[str, np.ndarray]: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def make_iterator(
    source: Source,
    config: DataConfig,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """Endless batches {'image': uint8 [N, H, W, C], 'label': int32 [N]} of this process's share.

    `batch_size` is that of all processes together; N = batch_size / process_count: the first
    process has the first N examples of the batch that one process would have. Every epoch is
    another permutation of the whole source. The state, {'global_next_index': int}, is that of all
    processes: it restores the exact next batch on any number of processes, threads and workers.
    """
    if batch_size % process_count:
        raise ValueError(
            f"the batch size {batch_size} is not divisible by the {process_count} processes"
        )
    dataset = grain.MapDataset.source(_Guarded(source)).seed(seed).shuffle().repeat()
    if config.random_crop:
        dataset = dataset.random_map(functools.partial(_crop, config.shape))
    if config.mirror:
        dataset = dataset.random_map(_mirror)
    if process_count > 1:
        dataset = _Shares(dataset, batch_size, process_count)
    if config.workers and not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags; not all callers have any.
    return iter(
        ElasticIterator(
            dataset,
            batch_size,
            grain.sharding.ShardOptions(process_index, process_count),
            # Each thread makes a whole batch, so the buffer is counted in batches.
            read_options=grain.ReadOptions(config.threads, prefetch_buffer_size=config.threads),
            multiprocessing_options=grain.MultiprocessingOptions(config.workers)
            if config.workers
            else None,
        )
    )


class _Shares(grain.MapDataset):
    """Reordered within each batch, so that Grain's every nth example makes contiguous shares."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, process_count: int):
        super().__init__(parent)
        self._batch_size, self._process_count = batch_size, process_count

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, self._batch_size)
        nth, process = divmod(place, self._process_count)
        share = self._batch_size // self._process_count
        return self._parent[batch * self._batch_size + process * share + nth]


class _Guarded:
    """A source whose worker processes end with this one, even if it is killed."""

    def __init__(self, source: Source):
        self._source = source

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        end_with_parent()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._source[index]


def _crop(
    shape: tuple[int, int], example: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A window [*shape, C] of the image [H, W, C], each as probable as any other."""
    (height, width), (h, w, _) = shape, example["image"].shape
    y, x = rng.integers(h - height + 1), rng.integers(w - width + 1)
    return {**example, "image": example["image"][y : y + height, x : x + width]}


def _mirror(example: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Flips the image [H, W, C] left-right with probability 1/2."""
    if rng.random() >= 0.5:
        return example
    image = example["image"]
    mirrored = np.empty_like(image)
    for c in range(image.shape[-1]):  # Six times as fast as all channels at once.
        mirrored[..., c] = image[:, ::-1, c]
    return {**example, "image": mirrored}
