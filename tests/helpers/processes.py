"""Processes that tests start and kill."""

import pathlib
import time


def children(pid):
    """The processes that a process has started, and theirs."""
    lists = pathlib.Path(f"/proc/{pid}/task").glob("*/children")  # Each thread has its own.
    own = [int(child) for listed in lists for child in listed.read_text().split()]
    return own + [grandchild for child in own for grandchild in children(child)]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
