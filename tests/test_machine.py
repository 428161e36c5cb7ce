"""Cores and memory within the limits of control groups: files as the kernel shows them."""

import os

import pytest

from creps_jax import machine

GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Makes a machine of 64 cores and these control groups: {file: content}."""

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "_MOUNT", tmp_path / "mount")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
        pages = {"SC_PHYS_PAGES": 512 * GIB // 4096, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr(os, "sysconf", pages.__getitem__)

    return make


@pytest.mark.parametrize(
    ("own", "files", "cores", "gib"),
    [
        # No groups at all; no limits.
        ("", {}, 64, 512),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, 64, 512),
        # Version 2: of the group that a container sees as its root.
        ("0::/\n", {"cpu.max": "250000 100000\n", "memory.max": f"{8 * GIB}\n"}, 2, 8),
        # Less than a core is one.
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1, 512),
        # Nested: the tightest counts, wherever it is.
        (
            "0::/pods/pod7/main\n",
            {
                "pods/pod7/main/memory.max": "max\n",
                "pods/pod7/memory.max": f"{4 * GIB}\n",
                "pods/memory.max": f"{100 * GIB}\n",
                "pods/pod7/main/cpu.max": "max 100000\n",
                "pods/cpu.max": "600000 100000\n",
            },
            6,
            4,
        ),
        # A group outside of what the container sees.
        ("0::/../other\n", {"memory.max": f"{3 * GIB}\n"}, 64, 3),
        ("0::/system/docker-1\n", {"memory.max": f"{3 * GIB}\n"}, 64, 3),
        # Version 1.
        (
            "5:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n",
            {
                "memory/docker/1/memory.limit_in_bytes": f"{2 * GIB}\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            },
            3,
            2,
        ),
    ],
)
def test_the_tightest_limit_counts(groups, own, files, cores, gib):
    groups(own, files)
    assert (machine.cores(), machine.memory_bytes()) == (cores, gib * GIB)


def test_cores_are_those_that_the_process_may_run_on(groups, monkeypatch):
    groups("", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 9}, raising=False)
    assert machine.cores() == 3
