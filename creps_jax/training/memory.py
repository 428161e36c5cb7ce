"""Memory of the devices that this process computes on."""

import os
import resource
from pathlib import Path

import jax

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def peak_bytes() -> int:
    """Most memory used so far: of the fullest local device, or of this process on a CPU."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return max(s["peak_bytes_in_use"] for s in stats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_bytes() -> int:
    """What a local device may use; on a CPU, its share of the machine's or container's memory."""
    devices = jax.local_devices()
    stats = [device.memory_stats() for device in devices]
    if all(stats):
        return min(s["bytes_limit"] for s in stats)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _CONTAINER_LIMIT.exists() and (limit := _CONTAINER_LIMIT.read_text().strip()) != "max":
        total = min(total, int(limit))
    return total // len(devices)
