"""Requests to stop: signals of a scheduler, of Ctrl-C and of a terminal that is closed."""

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

# To stop: by SLURM and others, Ctrl-C, and the end of the terminal.
_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list to which requests are added; a second one acts as usual, at once."""
    received: list[int] = []
    previous = {s: signal.getsignal(s) for s in _REQUESTS}
    if previous[signal.SIGHUP] == signal.SIG_IGN:  # By nohup: the terminal's end is none.
        del previous[signal.SIGHUP]

    def receive(number: int, frame: Any) -> None:
        received.append(number)  # No more: it may interrupt a print.
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def requests_blocked() -> Iterator[None]:
    """Threads and processes that start within never see a request to stop.

    For starting and waiting for decoding processes: a terminal or SLURM sends it to these as
    well, but stopping is this process's work.
    """
    resource_tracker.ensure_running()  # Else the first process starts it, which unblocks them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
