"""PNG, BigTIFF and Deep Zoom: the window of a finished store to the file folder/name.

In the memory of few chunks. Each file bears the signature of the picture's key near its start.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from creps_jax.rendering.files.store import CHUNK, Store, signature
from creps_jax.rendering.windows import Blocks, Window

PNG_MAX_SIDE_PX = 2**31 - 1


def encode_png(store: Store, folder: Path, name: str) -> None:
    """A PNG, a row of chunks at a time."""
    window, row = store.window, (CHUNK, store.window.shape[1])
    # Rows of chunks, so that each is read once.
    strips = Blocks(window, row, (0, window.x0))
    with (folder / name).open("wb") as file:
        pixels = (store.read(strip) for strip in strips)
        write_png(file, (*window.shape, store.channels), pixels, signature(store.key))


def write_png(
    file: BinaryIO, shape: tuple[int, int, int], strips: Iterator[np.ndarray], comment: str
) -> None:
    """Strips of rows, uint8 [n, width, channels], as a PNG of shape [height, width, channels]."""
    height, width, channels = shape

    def write_chunk(kind: bytes, data: bytes) -> None:
        crc = zlib.crc32(data, zlib.crc32(kind))
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc))

    file.write(b"\x89PNG\r\n\x1a\n")
    color = {1: 0, 3: 2}[channels]
    write_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))
    write_chunk(b"tEXt", b"Comment\0" + comment.encode())
    deflate = zlib.compressobj(4, strategy=zlib.Z_FILTERED)
    above = np.zeros((1, width * channels), np.uint8)
    for strip in strips:
        for start in range(0, len(strip), 16):  # Few rows at a time stay in the cache.
            rows = strip[start : start + 16].reshape(-1, width * channels)
            if data := deflate.compress(_filter(rows, above, channels)):
                write_chunk(b"IDAT", data)
            above = rows[-1:].copy()  # A view would keep the strip.
    write_chunk(b"IDAT", deflate.flush())
    write_chunk(b"IEND", b"")


def _filter(rows: np.ndarray, above: np.ndarray, channels: int) -> np.ndarray:
    """Each row as what PNG's filter Sub or Up leaves of it, whichever is smaller.

    rows uint8 [n, bytes], above [1, bytes] -> [n, 1 + bytes]: the filter's number comes first.
    """
    sub, up = filtered = np.empty((2, len(rows), 1 + rows.shape[1]), np.uint8)
    sub[:, 0], up[:, 0] = 1, 2
    sub[:, 1:] = rows
    sub[:, 1 + channels :] -= rows[:, :-channels]
    up[:, 1:] = rows - np.concatenate([above, rows[:-1]])
    size = np.minimum(filtered, -filtered).sum(axis=2, dtype=np.int64)  # |d|, d modulo 256.
    return filtered[size.argmin(axis=0), np.arange(len(rows))]


def encode_tiff(store: Store, folder: Path, name: str) -> None:
    """A BigTIFF of compressed tiles; those of thin pictures are thin."""
    tiles = (
        store.read(tile) if store.channels == 3 else store.read(tile)[..., 0]
        for tile in Blocks(store.window, (CHUNK, CHUNK), store.window[:2])
    )
    shape = (*store.window.shape, store.channels)
    side = tuple(min(-(-n // 16) * 16, CHUNK) for n in store.window.shape)  # TIFF counts in 16 px.
    with tifffile.TiffWriter(folder / name, bigtiff=True) as tiff:
        tiff.write(
            tiles,
            shape=shape if store.channels == 3 else shape[:2],
            dtype=np.uint8,
            photometric="rgb" if store.channels == 3 else "minisblack",
            tile=side,
            compression="zlib",
            predictor=True,
            description=signature(store.key),
            software="creps_jax",
            metadata=None,
            buffersize=2**23,  # Bytes of tiles that are compressed ahead.
            maxworkers=2,
        )


def dzi_tiles(path: Path) -> Path:
    """The folder of tiles that belongs to a .dzi file."""
    return path.with_name(f"{path.stem}_files")


def encode_dzi(store: Store, folder: Path, name: str) -> None:
    """Level n has the 2x2 means of level n + 1; the deepest is the picture, level 0 one pixel."""
    (height, width), comment = store.window.shape, signature(store.key)
    deepest = (max(height, width) - 1).bit_length()
    tiles = dzi_tiles(folder / name)
    for level in range(deepest + 1):
        (tiles / str(level)).mkdir(parents=True)

    def encode_tile(level: int, i: int, j: int) -> np.ndarray:
        """Writes the tile at row i, column j, after all that it is the mean of."""
        if level == deepest:
            y0, x0, y1, x1 = store.window
            y, x = y0 + i * CHUNK, x0 + j * CHUNK
            pixels = store.read(Window(y, x, min(y + CHUNK, y1), min(x + CHUNK, x1)))
        else:
            # Tiles of the finer level in each direction.
            down, across = (-(-n // (CHUNK << (deepest - level - 1))) for n in (height, width))
            finer = [
                [encode_tile(level + 1, y, x) for x in range(2 * j, min(2 * j + 2, across))]
                for y in range(2 * i, min(2 * i + 2, down))
            ]
            pixels = _halve(np.concatenate([np.concatenate(row, axis=1) for row in finer]))
        with (tiles / str(level) / f"{j}_{i}.png").open("wb") as file:
            write_png(file, pixels.shape, iter([pixels]), comment)
        return pixels

    encode_tile(0, 0, 0)
    (folder / name).write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<!-- {comment} -->\n"
        '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" Overlap="0" '
        f'TileSize="{CHUNK}"><Size Height="{height}" Width="{width}"/></Image>\n'
    )


def _halve(pixels: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, or of those that there are at an odd edge, rounded to nearest."""
    y, x = (n % 2 for n in pixels.shape[:2])
    # The mean of a pixel and its copy is the pixel.
    even = np.pad(pixels, ((0, y), (0, x), (0, 0)), mode="edge").astype(np.uint16)
    rows = even[::2] + even[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)


# How a picture is encoded by its file's suffix; None: Zarr, which the store itself is.
ENCODERS = {
    ".png": encode_png,
    ".tif": encode_tiff,
    ".tiff": encode_tiff,
    ".dzi": encode_dzi,
    ".zarr": None,
}
