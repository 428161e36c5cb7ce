"""Standard output and error of a program whose work matters more than what it says.

Nobody may read them: a pipe's reader has ended, a terminal was closed, a disk is full, or they were
closed before the program started. What is written then is lost, and nothing else happens.
"""

import io
import logging
import os
import select
import sys
import warnings


class _Unread(io.FileIO):
    """A descriptor to which writing always succeeds."""

    def write(self, data: bytes) -> int:
        try:
            while (count := super().write(data)) is None:  # Full, of a kind that does not wait.
                select.select([], [self], [])
        except OSError:
            return len(data)
        return count


def stream(descriptor: int) -> io.TextIOWrapper:
    """A text stream to a descriptor, which it leaves open; names that are no UTF-8 stay bytes."""
    raw = _Unread(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="surrogateescape", line_buffering=True
    )


def take_over() -> None:
    """Makes both streams of this process such ones; to be called before files are opened."""
    # Or a file would get the number of a closed descriptor, and what is printed.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout, sys.stderr = stream(1), stream(2)


def without_repeats() -> None:
    """Silences what Orbax logs, and its threads and coroutines raise in vain: it raises it too."""
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = lambda _: None
