"""Threads that keep devices and disks busy."""

import collections
import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from creps_jax import rng


@contextlib.contextmanager
def worker_threads(count: int) -> Iterator[Callable[..., Future]]:
    """Threads to submit work to, in order; what is still queued at the end is dropped."""
    pool = concurrent.futures.ThreadPoolExecutor(count)

    def submit(work: Callable, *arguments: Any) -> Future:
        return pool.submit(rng.pinned()(work), *arguments)  # Each thread has settings of its own.

    try:
        yield submit
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(submitted: Iterator[Future], ahead: int) -> Iterator[Any]:
    """The results, so many of them being submitted before they are asked for."""
    coming = collections.deque(itertools.islice(submitted, ahead))
    while coming:
        result = coming.popleft().result()
        coming.extend(itertools.islice(submitted, 1))
        yield result
