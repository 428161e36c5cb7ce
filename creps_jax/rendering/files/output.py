"""Where a picture is written: its file, what lies beside it meanwhile, and who may write there.

    <name>.partial/   beside the output until it is complete:
      lock, part-*    held by the runs that write this output
      store/          the painted chunks, see store.py; those of .zarr are in new/, to be the output
      new/            the output: synced to the disk, then renamed
      old/            what it replaces, where one rename cannot do that

A Zarr array at a URL is written in place, its zarr.json last.
"""

import contextlib
import errno
import functools
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from creps_jax import disk
from creps_jax.rendering.files import formats
from creps_jax.rendering.files.names import SCHEMES, URL
from creps_jax.rendering.files.store import Picture, Store, read_document, signature

HEAD_BYTES = 4096  # Every finished file bears its signature within them.


class Output(NamedTuple):
    """A place that a picture is written to, and its format."""

    url: str  # As it was given.
    encode: Callable[[Store, Path, str], None] | None  # From store to folder, name; None: Zarr.
    path: Path | None  # None: not on a local disk.

    @property
    def partial(self) -> Path:
        """The folder beside the output until it is complete."""
        return self.path.with_name(f"{self.path.name}.partial")

    def has_leftovers(self) -> bool:
        """Whether a run has begun there that did not end, or has not yet."""
        return self.path is not None and self.partial.exists()

    def store(self, picture: Picture) -> Store:
        """Where the painted chunks are kept."""
        if self.path is None:
            return Store(f"{self.url}/", picture, is_output=True)
        is_output = self.encode is None
        folder = self.partial / "new" / self.path.name if is_output else self.partial / "store"
        place: dict[str, Any] = {"driver": "file", "path": f"{folder}/"}
        # Of a disk that cannot do the one or the other, disk.py warns.
        if not disk.has_locks(self.path.parent):
            place["file_io_locking"] = {"mode": "none"}
        if not disk.syncs_folders(self.path.parent):
            place["file_io_sync"] = False
        return Store(place, picture, is_output)


def output_at(path: str | os.PathLike) -> Output:
    """The place and the format that a path or a URL names.

    Raises:
      ValueError: there is no such format, or it is not written there.
    """
    url = os.fspath(path).rstrip("/")
    suffix, is_remote = PurePosixPath(url).suffix.lower(), re.match(URL, url)
    if is_remote and not url.startswith(SCHEMES):
        raise ValueError(f"{url} must be a local path or begin with {', '.join(SCHEMES)}")
    possible = [".zarr"] if is_remote else [*formats.ENCODERS]
    if suffix not in possible:
        raise ValueError(f"{url}: the suffix {suffix!r} must be one of {', '.join(possible)}")
    return Output(url, formats.ENCODERS[suffix], None if is_remote else Path(url).absolute())


def head(output: Output) -> bytes:
    """The first bytes of what is there; empty if nothing is."""
    if output.path is None:
        return read_document(output.url)
    path = output.path / "zarr.json" if output.encode is None else output.path
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""


def is_finished(path: str | os.PathLike, key: str) -> bool:
    """Whether the complete output of a picture with this key is at path."""
    return signature(key).encode() in head(output_at(path))


@contextlib.contextmanager
def locks(output: Output, store: Store, part: tuple[int, int]) -> Iterator[Callable[..., bool]]:
    """Begins the store and holds it until it is left or the process ends.

    Every part that is painting holds the lock shared; what may delete chunks has it alone. Yields
    what asks for that, disk.lock(). A bucket has no locks: who starts parts there starts them
    together.

    Raises:
      OSError: the same part, or a picture of other arguments, is being written to this output.
    """
    if output.path is None:
        store.begin()
        yield lambda wait: True
        return
    output.partial.mkdir(exist_ok=True)
    names = "lock", f"part-{part[0]}-of-{part[1]}"
    with contextlib.ExitStack() as held:
        lock, own = (held.enter_context((output.partial / name).open("w")) for name in names)
        if not disk.lock(own):
            raise OSError(f"another run is writing {output.url}: it holds {own.name}")
        if disk.lock(lock) and not is_finished(output.url, store.key):
            store.begin()
        disk.lock(lock, shared=True, wait=True)
        if not (store.is_begun() or is_finished(output.url, store.key)):
            raise OSError(f"another run is writing {output.url} with other arguments")
        yield functools.partial(disk.lock, lock)


@contextlib.contextmanager
def naming_full_disks(output: Output) -> Iterator[None]:
    """Says of an error for want of space what to do, and where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = "free some space and run the same again: what is painted is kept"
        raise OSError(error.errno, f"{os.strerror(error.errno)}; {advice}", output.url) from error


def make_folder(folder: Path) -> None:
    """Makes the folder unless it is there.

    Raises:
      OSError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write there: {error.strerror}", str(folder)) from error


def finish(output: Output, store: Store) -> None:
    """Makes the output of the store's chunks and deletes the rest."""
    if output.encode is None:
        store.publish()
    else:
        new = output.partial / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            output.encode(store, new, output.path.name)
        except BaseException as error:
            shutil.rmtree(new)  # A full disk has no room for half an output.
            if isinstance(error, OSError) and error.errno is not None:
                error.filename = error.filename or output.url
            raise
    if output.path is not None:
        _rename(output)
        shutil.rmtree(output.partial)


def _rename(output: Output) -> None:
    """Moves new/* to their place, so that whatever bears a final name is complete and durable."""
    new, old, parent = output.partial / "new", output.partial / "old", output.path.parent
    for path in itertools.chain([new], new.rglob("*")):
        disk.sync(path)
    # Folders first: Deep Zoom's file tells that its folder of tiles is complete.
    names = sorted(os.listdir(new), key=lambda name: (new / name).is_file())
    if (new / names[0]).is_dir():
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        for name in reversed(names):
            with contextlib.suppress(FileNotFoundError):
                (parent / name).rename(old / name)
    for name in names:
        disk.rename(new / name, parent / name)
