"""Files that are there whole or not at all, locks, and paths as people write them.

Some network disks (Lustre, NFS) have no locks, and some (CIFS, FUSE) cannot sync folders: each is
told once, and the work goes on. Every other error of the disk is raised, with the path's name.
"""

import contextlib
import errno
import fcntl
import functools
import logging
import os
import re
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_log = logging.getLogger(__name__)
_warned: set[tuple[str, int]] = set()  # Messages and disks.
_telling = threading.Lock()

# What file systems answer that cannot do a thing at all.
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)
_NO_LOCKS = (*_UNSUPPORTED, errno.ENOLCK, errno.EINVAL)
_NO_FOLDER_SYNC = (*_UNSUPPORTED, errno.EINVAL, errno.EBADF)


def local_path(text: str | os.PathLike) -> Path:
    """The path, a leading ~ or ~name replaced by that home; kept relative if it is.

    Raises:
      ValueError: nobody of that name has a home here, or it is a bucket or another URL.
    """
    text = os.fsdecode(text)
    # A Path has made one slash of two.
    if url := re.match("([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", text, re.DOTALL):
        raise ValueError(f"{url[1]}://{url[2]} is nothing on a disk of this machine")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{text}: there is no such home folder here; write the path in full"
        ) from error


def utf8_path(text: str | os.PathLike[str]) -> Path:
    """The same for a path that libraries must be able to spell, which know UTF-8 alone.

    Raises:
      ValueError: as local_path(); or it is no path, is empty, or the whole of it is no UTF-8.
    """
    if not isinstance(text, str | os.PathLike) or not os.fspath(text):
        raise ValueError(f"{text!r} must be a path")
    path = local_path(text)
    whole = os.fsencode(path.absolute())
    try:
        whole.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{whole!r} is no UTF-8: rename it, or choose another") from error
    return path


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Around work on a path: an OSError that names no file names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def sync(path: Path) -> None:
    """Returns once a file's content, or a folder's names, would survive a loss of power.

    Raises:
      OSError: the disk fails.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if not (path.is_dir() and error.errno in _NO_FOLDER_SYNC):
                raise
            _warn_once(
                "%s lies on a disk that cannot sync folders (%s): what was finished in the seconds "
                "before a loss of power may be missing after it.",
                path,
                error.strerror,
            )
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames durably; a file, or an empty folder, of the new name is replaced."""
    os.replace(source, target)
    sync(target.parent)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which bears its name once the block is left without an error; durable then.

    Until then it is hidden under another name, and after an error it is gone.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with naming(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, whatever happens."""
    with whole_file(path) as file:
        file.write(data)


def lock(file: IO, *, shared: bool = False, wait: bool = False) -> bool:
    """Whether this process holds the file's lock now, until the file is closed.

    A lock that is held already changes its kind. Where the disk has no locks, it is held.

    Args:
      shared: with others that share it; else alone.
      wait: until others let it go.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            error.filename = error.filename or file.name
            raise
        _warn_once(
            "%s lies on a disk without locks (%s): see to it that no other process works there.",
            Path(file.name).parent,
            error.strerror,
        )
    return True


@functools.cache
def has_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked."""
    with naming(folder), tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
    return True


@functools.cache
def syncs_folders(folder: Path) -> bool:
    """Whether a folder's names can be synced to the disk."""
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
            return False
        finally:
            os.close(descriptor)
    return True


def _warn_once(message: str, path: Path, reason: str) -> None:
    """Warns of a path, once of all on the same disk."""
    told = message, os.stat(path).st_dev
    with _telling:  # Several threads write.
        first = told not in _warned
        _warned.add(told)
    if first:
        _log.warning(message, path, reason)
