"""What this process may use of the machine: its cores and memory, within a container's limits.

A control group of Linux limits all processes in it and in the groups below it, so the tightest
limit on the way up to the root counts. Version 1 has a hierarchy of groups for each resource,
version 2 one for all.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# The environment in which libtpu, on a machine without TPUs, neither asks Google's metadata server
# which it has, nor complains, nor lets one process wait for another's, nor keeps logs in /tmp.
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}

_MOUNT = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Cores: those that the process may run on, and no more than the time that it may take."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quotas = [*_limits("", "cpu.max", _quota), *_limits("cpu", "cpu.cfs_quota_us", _quota_1)]
    return max(1, math.floor(min([count, *quotas])))


def memory_bytes() -> int:
    """Memory: the machine's, and no more than its groups may take."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [
        *_limits("", "memory.max", _bytes),
        *_limits("memory", "memory.limit_in_bytes", _bytes),
    ]
    return int(min([total, *limits]))


def _limits(controller: str, name: str, read: Callable[[Path], float]) -> Iterator[float]:
    """The limits of this process's groups of a controller, '' of version 2."""
    for group, mount in _groups(controller):
        for folder in (group, *group.parents):
            # A container may see its own group as the root, whatever it is called outside.
            file = mount / folder.relative_to("/") / name
            try:
                yield read(file)
            except (OSError, ValueError):  # No limit of that kind there, or none at all.
                continue


def _groups(controller: str) -> Iterator[tuple[Path, Path]]:
    """This process's group, and where the groups of the controller are mounted."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = Path(path if ".." not in path else "/")
        if not controllers and not controller:
            yield group, _MOUNT
            yield group, _MOUNT / "unified"  # Beside version 1.
        elif controller and controller in controllers.split(","):
            yield group, _MOUNT / controllers
            yield group, _MOUNT / controller


def _bytes(file: Path) -> float:
    return float(file.read_text())  # 'max' is no number.


def _quota(file: Path) -> float:
    """Version 2: 'QUOTA PERIOD' in microseconds, or 'max PERIOD'."""
    quota, period = map(float, file.read_text().split())
    return quota / period


def _quota_1(file: Path) -> float:
    """Version 1: -1 is no limit."""
    quota = float(file.read_text())
    return quota / float((file.parent / "cpu.cfs_period_us").read_text()) if quota > 0 else math.inf
