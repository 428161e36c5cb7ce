"""Pictures of any size to PNG, tiled BigTIFF, Zarr or Deep Zoom: streamed and restartable.

    <name>.partial/   beside the output until it is complete:
      lock, part-*    held by the runs that write this output
      store/          the painted chunks, see store.py; those of .zarr are in new/, to be the output
      new/            the output: synced to the disk, then renamed
      old/            what it replaces, where one rename cannot do that

After an error, a full disk or a kill, the same call again paints only what is missing; with other
arguments it starts anew. A Zarr array at a URL is written in place, its zarr.json last. A PNG of
one chunk is written at once, without all this.
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

import numpy as np

from creps_jax import disk
from creps_jax.rendering.files import formats
from creps_jax.rendering.files.store import (
    CHUNK,
    MARK,
    SCHEMES,
    URL,
    Picture,
    Store,
    check_pixels,
    read_document,
    signature,
)
from creps_jax.rendering.windows import Blocks, Window

# Windows in the frame's px -> each with its pixels, uint8 [height, width, channels], in any order.
Paint = Callable[[Blocks], Iterator[tuple[Window, np.ndarray]]]

_ENCODERS = {
    ".png": formats.encode_png,
    ".tif": formats.encode_tiff,
    ".tiff": formats.encode_tiff,
    ".dzi": formats.encode_dzi,
    ".zarr": None,
}
_PNG_MAX_SIDE_PX = 2**31 - 1
_HEAD_BYTES = 4096  # Every finished file bears its signature within them.


def write(
    path: str | os.PathLike,
    picture: Picture,
    paint: Paint,
    *,
    block: tuple[int, int] = (CHUNK, CHUNK),
    part: tuple[int, int] = (0, 1),
    encoded: Callable[[int], None] = lambda pixels: None,
) -> bool:
    """Writes the picture in the format that the suffix names; False if other parts are missing.

    Takes the memory of a block and of a few rows of chunks. Several processes that share a file
    system, or a bucket, may each paint a part, at once or one after the other: whichever paints the
    last chunk completes the output.

    Args:
      path: .png, .tif, .tiff, .dzi or .zarr; the last may also be at gs:// or s3://.
      paint: called with the blocks of this part that lack any chunk, and once more with those of
        earlier runs that turn out to be damaged, if there are any.
      block: height and width of what is painted at a time, px: multiples of CHUNK.
      part: index and count of the parts that the blocks are dealt out to.
      encoded: told how many pixels go into the output, once all are painted, as they do.

    Raises:
      ValueError: as check() does; or block is no multiple of CHUNK, or paint yields something else
        than it was asked for.
      OSError: as check() does; or another run is writing this output, or the disk is full.
    """
    output, (index, count) = _output(path), part
    if any(side < 1 or side % CHUNK for side in block):
        raise ValueError(f"block={block[0]}x{block[1]} must be multiples of {CHUNK} px")
    if is_finished(path, picture.key) and not output.has_leftovers():
        return True
    check(path, picture)
    with _naming_full_disks(output):
        if is_small(path, picture) and not output.has_leftovers():
            own = Blocks(picture.window, block).share(index, count)
            _paint(functools.partial(_write_small, output, picture), paint, own)
            return bool(own) or is_finished(path, picture.key)
        store = output.store(picture)
        with _locks(output, store, part) as alone:
            if is_finished(path, picture.key):
                if alone(wait=False):  # Others may be writing other arguments.
                    shutil.rmtree(output.partial)
                return True
            own = store.blocks(block).share(index, count)
            painted = _paint(store.write, paint, store.missing(own))
            # Last, as it takes time: chunks of earlier runs may be damaged.
            damaged = np.zeros(own.grid, bool)
            for window in own.where(lambda row: ~painted[row]):
                damaged[own.place(window)] = store.drop_damaged(window)
            _paint(store.write, paint, own.where(damaged.__getitem__))
            if store.missing(store.blocks(block)):
                if lost := len(store.missing(own)):
                    raise OSError(f"{path}: {lost} painted blocks were lost; run the same again")
                return False
            alone(wait=True)  # Others may have painted their last chunk just now, too.
            if not is_finished(path, picture.key):
                store.on_read = encoded
                _finish(output, store)
        return True


def check(path: str | os.PathLike, picture: Picture) -> None:
    """Finds the errors that can be known before the work. Makes the parent folders.

    Raises:
      ValueError: the suffix names no format, or the picture does not fit the format.
      OSError: the place cannot be written, is taken by something else, or the disk is too small.
    """
    output = _output(path)
    if picture.channels not in (1, 3):
        raise ValueError(f"channels={picture.channels} must be 1 or 3")
    if output.encode is formats.encode_png and max(picture.window.shape) > _PNG_MAX_SIDE_PX:
        raise ValueError(
            f"{path}: {picture.window.shape[0]}x{picture.window.shape[1]} px (height x width) "
            f"exceed PNG's {_PNG_MAX_SIDE_PX} px a side: write .tif or .zarr"
        )
    if output.path is None:
        # In this order: where there is no network, the first soon says so.
        if MARK.encode() not in _head(output) and output.store(picture).is_foreign():
            raise FileExistsError(f"{path} holds what was not written by creps: move it away")
        return
    make_folder(output.path.parent)
    if output.encode is not None and output.path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, must be a file")
    folder = output.path
    if output.encode is formats.encode_dzi:
        folder = formats.dzi_tiles(output.path)
    if folder.is_dir() and not (MARK.encode() in _head(output) or output.has_leftovers()):
        raise FileExistsError(f"{folder} was not written by creps: move it away")
    if is_small(path, picture):
        return
    try:
        os.fspath(output.path).encode()
    except UnicodeEncodeError as error:
        name = os.fsencode(output.path).decode(errors="backslashreplace")
        raise ValueError(
            f"{name}: the path must be UTF-8 for what is larger than a chunk"
        ) from error
    if output.encode is None:  # How small compressed chunks will be is not known.
        return
    free = shutil.disk_usage(output.path.parent).free
    needed = output.store(picture).missing_bytes(free)
    if needed > free:
        raise OSError(
            f"{path}: what is still to be painted takes {needed / 1e6:,.0f} MB for a while, "
            f"but only {free / 1e6:,.0f} MB are free in {output.path.parent}"
        )


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


def check_parts(path: str | os.PathLike, picture: Picture) -> None:
    """Raises OSError if parts of another picture have been painted there, which would be deleted.

    One picture may be painted by several machines: all must be of one kind.
    """
    output = _output(path)
    if output.store(picture).holds_another():
        place = output.partial if output.path else output.url
        raise OSError(
            f"{path}: parts of another picture are there, of other arguments, another kind of "
            f"device or another release of JAX: give all parts the same, or delete {place}"
        )


def is_finished(path: str | os.PathLike, key: str) -> bool:
    """Whether the complete output of a picture with this key is at path."""
    return signature(key).encode() in _head(_output(path))


def is_small(path: str | os.PathLike, picture: Picture) -> bool:
    """Whether the output is written at once: it takes so little that none of it need be kept."""
    one = Blocks(picture.window, (CHUNK, CHUNK)).grid == (1, 1)
    return one and _output(path).encode is formats.encode_png


# Places.


class _Output(NamedTuple):
    url: str  # As it was given.
    encode: Callable[[Store, Path, str], None] | None  # From store to folder, name; None: Zarr.
    path: Path | None  # None: not on a local disk.

    @property
    def partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.partial")

    def has_leftovers(self) -> bool:
        return self.path is not None and self.partial.exists()

    def store(self, picture: Picture) -> Store:
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


def _output(path: str | os.PathLike) -> _Output:
    url = os.fspath(path).rstrip("/")
    suffix, is_remote = PurePosixPath(url).suffix.lower(), re.match(URL, url)
    if is_remote and not url.startswith(SCHEMES):
        raise ValueError(f"{url} must be a local path or begin with {', '.join(SCHEMES)}")
    possible = [".zarr"] if is_remote else [*_ENCODERS]
    if suffix not in possible:
        raise ValueError(f"{url}: the suffix {suffix!r} must be one of {', '.join(possible)}")
    return _Output(url, _ENCODERS[suffix], None if is_remote else Path(url).absolute())


def _head(output: _Output) -> bytes:
    if output.path is None:
        return read_document(output.url)
    path = output.path / "zarr.json" if output.encode is None else output.path
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""


@contextlib.contextmanager
def _locks(output: _Output, store: Store, part: tuple[int, int]) -> Iterator[Callable[..., bool]]:
    """Prepares the store and holds it until it is left or the process ends.

    Every part that is painting holds the lock shared; what may delete chunks has it alone. Yields
    what asks for that, disk.lock(). A bucket has no locks: who starts parts there starts them
    together.

    Raises:
      OSError: the same part, or a picture of other arguments, is being written to this output.
    """
    if output.path is None:
        store.prepare()
        yield lambda wait: True
        return
    output.partial.mkdir(exist_ok=True)
    names = "lock", f"part-{part[0]}-of-{part[1]}"
    with contextlib.ExitStack() as held:
        lock, own = (held.enter_context((output.partial / name).open("w")) for name in names)
        if not disk.lock(own):
            raise OSError(f"another run is writing {output.url}: it holds {own.name}")
        if disk.lock(lock) and not is_finished(output.url, store.key):
            store.prepare()
        disk.lock(lock, shared=True, wait=True)
        if not (store.is_begun() or is_finished(output.url, store.key)):
            raise OSError(f"another run is writing {output.url} with other arguments")
        yield functools.partial(disk.lock, lock)


@contextlib.contextmanager
def _naming_full_disks(output: _Output) -> Iterator[None]:
    """Says of an error for want of space what to do, and where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = "free some space and run the same again: what is painted is kept"
        raise OSError(error.errno, f"{os.strerror(error.errno)}; {advice}", output.url) from error


# From blocks to the output.


def _write_small(output: _Output, picture: Picture, window: Window, pixels: np.ndarray) -> None:
    check_pixels(window, pixels, picture.channels)
    with disk.whole_file(output.path) as file:
        formats.write_png(file, pixels.shape, iter([pixels]), signature(picture.key))


def _paint(write: Callable[[Window, np.ndarray], None], paint: Paint, blocks: Blocks) -> np.ndarray:
    """Writes the blocks painted; which of their grid they are: bool [rows, columns]."""
    painted = np.zeros(blocks.grid, bool)
    if not blocks:
        return painted
    for window, pixels in paint(blocks):
        place = blocks.place(window)
        if place is None or painted[place] or window not in blocks:
            raise ValueError(f"painted {window}, which was not asked for")
        write(window, pixels)
        painted[place] = True
    left = blocks.where(lambda row: ~painted[row])
    if left:
        raise ValueError(
            f"{len(left)} of {len(blocks)} windows were not painted: {next(iter(left))}"
        )
    return painted


def _finish(output: _Output, store: Store) -> None:
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


def _rename(output: _Output) -> None:
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
