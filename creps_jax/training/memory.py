"""Memory of the devices that this process computes on, and what its decoding processes share."""

import os
import resource
import shutil
from pathlib import Path

import jax

from creps_jax import machine

_SHARED = Path("/dev/shm")
_BATCHES = 3  # of each decoding process: made, waiting, and taken
_LOCKS_BYTES = 2**18  # of each decoding process: its locks and queues, a page each


def peak_bytes() -> int:
    """Most memory used so far: of the fullest local device, or of this process on a CPU."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return max(s["peak_bytes_in_use"] for s in stats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_bytes() -> int:
    """What arrays on a local device may use; on a CPU, its share of what the process may.

    That is the machine's or container's memory but what the process holds besides arrays.
    """
    devices = jax.local_devices()
    stats = [device.memory_stats() for device in devices]
    if all(stats):
        return min(s["bytes_limit"] for s in stats)
    arrays = sum(s.data.nbytes for x in jax.live_arrays() for s in x.addressable_shards)
    others = max(0, _resident_bytes() - arrays)
    return max(0, machine.memory_bytes() - others) // len(devices)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # Only Linux tells of the present.
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_shared(workers: int, batch_bytes: int) -> None:
    """Raises ValueError if decoding processes could not hand over batches of that size.

    Without room there, the system kills them without a word.
    """
    if not workers or not _SHARED.is_dir():
        return
    needed = workers * (_BATCHES * batch_bytes + _LOCKS_BYTES)
    free = shutil.disk_usage(_SHARED).free
    if needed > free:
        raise ValueError(
            f"data.workers={workers} needs {size(needed)} of shared memory, and {_SHARED} has "
            f"{size(free)} left: give --config.data.workers=0, which decodes in threads, or a "
            "container more of it (docker run --shm-size=8g)"
        )


def size(count: int) -> str:
    """Bytes as '12 MiB' or '1.25 GiB'."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
