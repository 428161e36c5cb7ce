"""Reading from disks that fail for a moment: tried again, and an error of the disk in the end."""

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from creps_jax import disk

# What may be over in a moment, as of a network disk.
TRANSIENT = (
    errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT,
    errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ENOTCONN, errno.ESHUTDOWN,
)  # fmt: skip
WAITS_SEC = (0.1, 1.0, 3.0)  # before each further try

Result = TypeVar("Result")


class Readable(Protocol):
    """The part of a container that is needed here."""

    def read(self, name: str) -> bytes: ...


def read(container: Readable, name: str) -> bytes:
    """A file of a container.

    Raises:
      UnreadableError: the file is damaged.
      OSError: the disk fails, the file is gone or forbidden; names it.
    """
    with disk.naming(name):
        return patiently(container.read, name)


def patiently(work: Callable[..., Result], *arguments: Any) -> Result:
    """What the work returns; errors that may be over in a moment are tried again a few times."""
    for wait_sec in WAITS_SEC:
        try:
            return work(*arguments)
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            time.sleep(wait_sec)
    return work(*arguments)


def pread(descriptor: int, count: int, start: int) -> bytes:
    """So many bytes of a file, or fewer at its end: one call may give fewer before it, too."""
    parts = []
    while count > 0 and (part := os.pread(descriptor, count, start)):
        parts.append(part)
        count, start = count - len(part), start + len(part)
    return b"".join(parts)


def disk_error(error: Exception) -> OSError | None:
    """The error of the disk that a library has put into words, if it is one."""
    text = str(error)
    return next((OSError(c, os.strerror(c)) for c in TRANSIENT if os.strerror(c) in text), None)
