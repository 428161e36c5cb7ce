"""Where the files of a run lie: a folder of a disk, or gs://bucket/folder of Google Cloud Storage.

Both are paths with the methods of pathlib; those of a bucket are etils.epath's. An object is there
whole or not at all, but none is renamed, grows or is locked: what is done instead is here.
"""

import contextlib
import functools
import importlib.util
import io
import itertools
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from creps_jax import disk

if TYPE_CHECKING:
    import tensorstore as ts

_log = logging.getLogger(__name__)

BEAT_SEC = 15.0  # from one sign of life of a run in a bucket to the next
SILENT_SEC = 60.0  # without one: it has ended
_LOCK = "lock"


def use_gcsfs() -> None:
    """Lets etils reach buckets by gcsfs, as our extra installs it, also where TensorFlow is.

    etils looks once, when the first of its paths is used, one of a disk too, and for the whole
    process. So our commands call this at their start; in another program the first bucket that we
    are given does, and where etils has looked before, it stays as it is.
    """
    if importlib.util.find_spec("gcsfs"):
        os.environ.setdefault("EPATH_USE_TF", "0")


def path(text: str | os.PathLike[str]) -> Path:
    """The absolute path of a run, a checkpoint or the like, on a disk or in a bucket.

    Raises:
      ValueError: it is no path of either, or the packages for buckets are not installed.
      OSError: there is no such bucket, or it cannot be reached from here.
    """
    return in_bucket(text) or disk.utf8_path(text).absolute()


def in_bucket(text: str | os.PathLike[str]) -> Path | None:
    """The path if it is of a bucket, gs://..., with the errors of `path`; else None."""
    if not isinstance(text, str | os.PathLike):
        return None
    # A Path has made one slash of two.
    if not (url := re.fullmatch("gs:/+([^/].*?)/*", os.fsdecode(text))):
        return None
    if importlib.util.find_spec("gcsfs") is None:
        raise ValueError(f"gs://{url[1]} needs gcsfs: pip install 'creps-jax[gcs]'")
    if re.search(r"[*?[]", url[1]):  # Deleting it would delete what matches.
        raise ValueError(f"gs://{url[1]} has one of * ? [: gcsfs takes it for a pattern; rename it")
    use_gcsfs()
    import fsspec
    from etils import epath

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # What it tells, it raises too.
    # What other processes write is not in a list of before.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    _reach(url[1].partition("/")[0])
    return epath.Path(f"gs://{url[1]}")


def is_in_bucket(path: Path) -> bool:
    """Whether a path is one of a bucket."""
    return not isinstance(path, Path)


@contextlib.contextmanager
def errors(place: str | os.PathLike[str]) -> Iterator[None]:
    """Around work in a bucket: what its clients raise becomes an OSError of one line."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # They have no class in common.
        reason = re.split(r" \[\w+=|\n", str(error))[0]
        raise OSError(f"{os.fspath(place)}: {reason}") from error


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    if is_in_bucket(folder):
        with errors(folder):
            names = _objects(folder).list().result()
        return sorted(folder / name.decode() for name in names)
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which is there whole, and durable, once the block ends without an error."""
    if not is_in_bucket(path):
        with disk.whole_file(path) as file:
            yield file
        return
    file = io.BytesIO()
    yield file
    with errors(path):
        path.write_bytes(file.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, whatever happens."""
    with whole_file(path) as file:
        file.write(data)


def open_to_append(path: Path) -> IO[str]:
    """A text file to add lines to; they are there after its flush()."""
    return _GrowingText(path) if is_in_bucket(path) else path.open("a")


class _GrowingText(io.StringIO):
    """Text of an object, which is written anew, as a whole, by flush()."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.write(path.read_text() if path.exists() else "")

    def flush(self) -> None:
        write_whole(self._path, self.getvalue().encode())


class BucketLock:
    """An object that says which process trains in a folder of a bucket, and that it lives.

    It is written only where it is still what was read before, so one of several processes gets it.
    A killed process leaves it behind. Who shares its table of processes sees that, and takes it
    over at once; others wait SILENT_SEC for a sign of life. A process that was halted for longer,
    and finds the lock taken over, ends. A context manager: leaving it deletes the object.
    """

    def __init__(self, folder: Path) -> None:
        """Takes the lock.

        Raises:
          ValueError: another process trains there.
          OSError: the bucket cannot be written.
        """
        self._folder, self._objects = folder, _objects(folder)
        self._owner, self._beats = _this_process(), itertools.count()
        self._generation = self._take()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lock", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError), errors(self._folder):  # It would be left behind.
            self._objects.write(_LOCK, None, if_equal=self._generation).result()

    def _take(self) -> bytes:
        with errors(self._folder):
            found = self._objects.read(_LOCK).result()
        is_free = found.state == "missing" or self._is_left_behind(found.value)
        if is_free and (generation := self._write(found.stamp.generation)):
            return generation
        raise ValueError(
            f"another process is training in --workdir={self._folder}; wait for it, stop it, or "
            "give another --workdir"
        )

    def _is_left_behind(self, value: bytes) -> bool:
        if not value:  # Of a disk, from which the run was copied.
            return True
        owner = json.loads(value)
        if owner["table"] is not None and owner["table"] == self._owner["table"]:
            return _start_of(owner["process"]) != owner["start"]
        _log.warning(
            "%s is locked by process %d of %s: waiting up to %.0f s for a sign of its life.",
            self._folder,
            owner["process"],
            owner["host"],
            SILENT_SEC,
        )
        end = time.monotonic() + SILENT_SEC
        while time.monotonic() < end:
            time.sleep(SILENT_SEC / 60)
            with errors(self._folder):
                if self._objects.read(_LOCK).result().value != value:
                    return False
        return True

    def _write(self, generation: bytes) -> bytes:
        """The new generation of the object; empty if it was not of the one that was expected."""
        value = json.dumps(self._owner | {"beat": next(self._beats)}).encode()
        with errors(self._folder):
            written = self._objects.write(_LOCK, value, if_equal=generation).result().generation
            if written:
                return written
            found = self._objects.read(_LOCK).result()
            # Its own, by an attempt whose answer was lost.
            is_own = found.value and json.loads(found.value)["id"] == self._owner["id"]
        return found.stamp.generation if is_own else b""

    def _live(self) -> None:
        """Writes the object anew every so often."""
        while not self._ended.wait(BEAT_SEC):
            try:
                generation = self._write(self._generation)
            except OSError as error:
                _log.warning("The lock could not be written: %s.", error)
                continue
            if not generation:
                _log.error(
                    "%s is no longer locked by this process, which was halted for too long: "
                    "another may train there, so this one ends.",
                    self._folder,
                )
                os._exit(1)
            self._generation = generation


def _this_process() -> dict[str, str | int | None]:
    """What tells a lock of this process from all others, and whether its process still runs."""
    try:
        # Of the machine, since it was started, and of the container.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        table = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # No Linux.
        table = None
    own = os.getpid()
    return {
        "id": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "table": table,
        "process": own,
        "start": _start_of(own),
    }


def _start_of(process: int) -> str | None:
    """When a process of this table started, in the kernel's ticks; None if it does not run."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@functools.cache
def _reach(bucket: str) -> None:
    """Raises OSError if the bucket cannot be listed; it is asked once."""
    import tensorstore as ts

    with errors(f"gs://{bucket}"):
        _objects(f"gs://{bucket}").list(ts.KvStore.KeyRange(_LOCK, f"{_LOCK}/")).result()


def _objects(folder: str | os.PathLike[str]) -> "ts.KvStore":
    """The objects of a folder, by their names in it."""
    import tensorstore as ts

    bucket, _, name = os.fspath(folder).removeprefix("gs://").partition("/")
    retries = {"max_retries": 4, "initial_delay": "500ms"}  # For 8 s.
    place = {"driver": "gcs", "bucket": bucket, "path": f"{name}/" if name else ""}
    return ts.KvStore.open(place, context=ts.Context({"gcs_request_retries": retries})).result()
