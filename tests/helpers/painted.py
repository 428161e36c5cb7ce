"""A picture painted without a network; it is written in every format, broken off, and read back."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.files.writing import write
from creps_jax.rendering.windows import Window

SUFFIXES = [".png", ".tif", ".dzi", ".zarr"]


WINDOW = Window(300, 700, 1300, 1601)  # 3x3 chunks of the frame's grid, or 2x2 of its own.


PICTURE = Picture(WINDOW, 3, "c0ffee")


CHUNKS = {".png": 9, ".tif": 9, ".dzi": 9, ".zarr": 4}


def pixels_of(window, channels=3):
    """What the frame holds there: smooth, with noise that tells every pixel from the next."""
    y, x = np.ogrid[window.y0 : window.y1, window.x0 : window.x1]
    noise = (y * 7919 + x * 104729) % 31
    planes = [100 + 90 * np.sin(y / 60 + c) * np.cos(x / 70 - c) + noise for c in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


class Painter:
    """Paints the frame, backwards; counts, and fails after `limit` windows."""

    def __init__(self, channels=3, limit=None, before=lambda: None):
        self.asked, self.painted = [], []
        self.channels, self.limit, self.before = channels, limit, before

    def __call__(self, windows):
        self.asked += windows
        for window in reversed([*windows]):
            if len(self.painted) == self.limit:
                raise KeyboardInterrupt
            self.before()
            yield window, pixels_of(window, self.channels)
            self.painted.append(window)


def unused(windows):
    raise AssertionError(f"asked to paint {windows}")


def read(path):
    """The picture as another program reads it: uint8 [height, width, channels]."""
    if path.suffix == ".png":
        pixels = np.asarray(PIL.Image.open(path))
    elif path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif path.suffix == ".zarr":
        pixels = zarr.open(path, mode="r")[:]
    else:
        levels = dzi_levels(path)
        pixels = levels[max(levels)]
    return pixels if pixels.ndim == 3 else pixels[..., None]


def dzi_levels(path):
    """{level: its tiles stitched}, with the sizes checked that Deep Zoom prescribes."""
    levels = {}
    for folder in (path.parent / f"{path.stem}_files").iterdir():
        tiles = {tuple(map(int, file.stem.split("_"))): file for file in folder.iterdir()}
        across, down = (max(n) + 1 for n in zip(*tiles, strict=True))
        rows = [
            [np.atleast_3d(np.asarray(PIL.Image.open(tiles[x, y]))) for x in range(across)]
            for y in range(down)
        ]
        assert {t.shape[:2] for row in rows[:-1] for t in row[:-1]} <= {(CHUNK, CHUNK)}
        levels[int(folder.name)] = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return levels


def contents(folder):
    """{path: bytes} of everything below, without what tells where it lies."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@functools.cache
def unbroken(suffix, picture=PICTURE):
    with tempfile.TemporaryDirectory() as folder:
        assert write(Path(folder, f"a{suffix}"), picture, Painter(picture.channels))
        return contents(Path(folder))


def interrupt(path, picture=PICTURE, limit=4):
    painter = Painter(picture.channels, limit)
    with pytest.raises(KeyboardInterrupt):
        write(path, picture, painter)
    return painter


def store_of(path):
    partial = path.with_name(f"{path.name}.partial")
    return partial / "new" / path.name if path.suffix == ".zarr" else partial / "store"


def chunks_of(path):
    return sorted(file for file in (store_of(path) / "c").rglob("*") if file.is_file())
