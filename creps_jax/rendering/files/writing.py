"""Pictures of any size to PNG, tiled BigTIFF, Zarr or Deep Zoom: streamed and restartable.

After an error, a full disk or a kill, the same call again paints only what is missing; with other
arguments it starts anew. A PNG of one chunk is written at once; of all else, what is painted is
kept beside the output, see output.py.
"""

import functools
import os
import shutil
from collections.abc import Callable, Iterator

import numpy as np

from creps_jax import disk
from creps_jax.rendering.files import formats
from creps_jax.rendering.files.output import (
    Output,
    finish,
    head,
    is_finished,
    locks,
    make_folder,
    naming_full_disks,
    output_at,
)
from creps_jax.rendering.files.store import CHUNK, MARK, Picture, Store, check_pixels, signature
from creps_jax.rendering.windows import Blocks, Window

# Windows in the frame's px -> each with its pixels, uint8 [height, width, channels], in any order.
Paint = Callable[[Blocks], Iterator[tuple[Window, np.ndarray]]]


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
    output, (index, count) = output_at(path), part
    if any(side < 1 or side % CHUNK for side in block):
        raise ValueError(f"block={block[0]}x{block[1]} must be multiples of {CHUNK} px")
    if is_finished(path, picture.key) and not output.has_leftovers():
        return True
    check(path, picture)
    with naming_full_disks(output):
        if is_small(path, picture) and not output.has_leftovers():
            own = Blocks(picture.window, block).share(index, count)
            _write_blocks(functools.partial(_write_small, output, picture), paint, own)
            return bool(own) or is_finished(path, picture.key)
        store = output.store(picture)
        with locks(output, store, part) as alone:
            if is_finished(path, picture.key):
                if alone(wait=False):  # Others may be writing other arguments.
                    shutil.rmtree(output.partial)
                return True
            own = store.blocks(block).share(index, count)
            _write_missing(store, paint, own)
            if store.missing(store.blocks(block)):
                if lost := len(store.missing(own)):
                    raise OSError(f"{path}: {lost} painted blocks were lost; run the same again")
                return False
            alone(wait=True)  # Others may have painted their last chunk just now, too.
            if not is_finished(path, picture.key):
                store.on_read = encoded
                finish(output, store)
        return True


def check(path: str | os.PathLike, picture: Picture) -> None:
    """Finds the errors that can be known before the work. Makes the parent folders.

    Raises:
      ValueError: the suffix names no format, or the picture does not fit the format.
      OSError: the place cannot be written, is taken by something else, or the disk is too small.
    """
    output = output_at(path)
    if picture.channels not in (1, 3):
        raise ValueError(f"channels={picture.channels} must be 1 or 3")
    if output.encode is formats.encode_png and max(picture.window.shape) > formats.PNG_MAX_SIDE_PX:
        raise ValueError(
            f"{path}: {picture.window.shape[0]}x{picture.window.shape[1]} px (height x width) "
            f"exceed PNG's {formats.PNG_MAX_SIDE_PX} px a side: write .tif or .zarr"
        )
    if output.path is None:
        # In this order: where there is no network, the first soon says so.
        if MARK.encode() not in head(output) and output.store(picture).is_foreign():
            raise FileExistsError(f"{path} holds what was not written by creps: move it away")
        return
    make_folder(output.path.parent)
    if output.encode is not None and output.path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, must be a file")
    folder = output.path
    if output.encode is formats.encode_dzi:
        folder = formats.dzi_tiles(output.path)
    if folder.is_dir() and not (MARK.encode() in head(output) or output.has_leftovers()):
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


def check_parts(path: str | os.PathLike, picture: Picture) -> None:
    """Raises OSError if parts of another picture have been painted there, which would be deleted.

    One picture may be painted by several machines: all must be of one kind.
    """
    output = output_at(path)
    if output.store(picture).holds_another():
        place = output.partial if output.path else output.url
        raise OSError(
            f"{path}: parts of another picture are there, of other arguments, another kind of "
            f"device or another release of JAX: give all parts the same, or delete {place}"
        )


def is_small(path: str | os.PathLike, picture: Picture) -> bool:
    """Whether the output is written at once: it takes so little that none of it need be kept."""
    one = Blocks(picture.window, (CHUNK, CHUNK)).grid == (1, 1)
    return one and output_at(path).encode is formats.encode_png


def _write_small(output: Output, picture: Picture, window: Window, pixels: np.ndarray) -> None:
    check_pixels(window, pixels, picture.channels)
    with disk.whole_file(output.path) as file:
        formats.write_png(file, pixels.shape, iter([pixels]), signature(picture.key))


def _write_missing(store: Store, paint: Paint, own: Blocks) -> None:
    """Writes those of some blocks that are missing, then those that turn out to be damaged."""
    painted = _write_blocks(store.write, paint, store.missing(own))
    # Last, as it takes time: chunks of earlier runs may be damaged.
    damaged = np.zeros(own.grid, bool)
    for window in own.where(lambda row: ~painted[row]):
        damaged[own.place(window)] = store.drop_damaged(window)
    _write_blocks(store.write, paint, own.where(damaged.__getitem__))


def _write_blocks(
    write: Callable[[Window, np.ndarray], None], paint: Paint, blocks: Blocks
) -> np.ndarray:
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
