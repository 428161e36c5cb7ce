"""Other programs read the formats that pictures are written in."""

import functools
import io
import itertools
import os

import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr
from sklearn.datasets import load_sample_images

from creps_jax.rendering.files import names
from creps_jax.rendering.files.formats import ENCODERS
from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.files.writing import write
from creps_jax.rendering.windows import Window
from tests.helpers.painted import (
    PICTURE,
    SUFFIXES,
    WINDOW,
    Painter,
    chunks_of,
    dzi_levels,
    interrupt,
    pixels_of,
    read,
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 1, 1), Window(512, 0, 1024, 1024), Window(0, 0, 3, 1030), WINDOW],
    ids=lambda window: "-".join(map(str, window)),
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_programs_read_what_was_painted(tmp_path, suffix, window, channels):
    path = tmp_path / f"a{suffix}"
    assert write(path, Picture(window, channels, "0"), Painter(channels))
    np.testing.assert_array_equal(read(path), pixels_of(window, channels))
    names = {"a.dzi", "a_files"} if suffix == ".dzi" else {path.name}
    assert set(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("window", [WINDOW, Window(0, 0, 1, 1), Window(0, 0, 5, 1)])
def test_each_level_of_deep_zoom_has_the_means_of_the_finer(tmp_path, window):
    write(tmp_path / "a.dzi", Picture(window, 3, "0"), Painter())
    levels = dzi_levels(tmp_path / "a.dzi")
    deepest = max(levels)
    assert set(levels) == set(range(deepest + 1))
    assert levels[0].shape == (1, 1, 3)
    assert 2 ** (deepest - 1) < max(window.shape) <= 2**deepest
    for level in range(deepest):
        finer = levels[level + 1]
        assert levels[level].shape[:2] == tuple((n + 1) // 2 for n in finer.shape[:2])
        sums, counts = np.zeros(levels[level].shape, int), np.zeros(levels[level].shape, int)
        for y, x in itertools.product(range(2), range(2)):
            part = finer[y::2, x::2]
            sums[: len(part), : part.shape[1]] += part
            counts[: len(part), : part.shape[1]] += 1
        np.testing.assert_array_equal(levels[level], np.floor(sums / counts + 0.5))


def test_zarr_names_its_axes_and_tells_its_window(tmp_path):
    write(tmp_path / "a.zarr", PICTURE, Painter())
    array = zarr.open(tmp_path / "a.zarr", mode="r")
    assert array.metadata.dimension_names == ("y", "x", "c")
    assert array.attrs["window"] == list(WINDOW)


def test_photographs_take_hardly_more_than_pillows_png(tmp_path):
    for name, photograph in enumerate(load_sample_images().images):
        path, shape = tmp_path / f"{name}.png", photograph.shape
        write(path, Picture(Window(0, 0, *shape[:2]), 3, "0"), functools.partial(cut, photograph))
        np.testing.assert_array_equal(read(path), photograph)
        pillows = io.BytesIO()
        PIL.Image.fromarray(photograph).save(pillows, "PNG")
        assert path.stat().st_size < 1.03 * pillows.tell()


def test_rows_that_repeat_take_hardly_any_space(tmp_path):
    row = np.random.default_rng(0).integers(0, 256, (1, 700, 3), dtype=np.uint8)
    image, path = np.tile(row, (1100, 1, 1)), tmp_path / "a.png"
    write(path, Picture(Window(0, 0, 1100, 700), 3, "0"), functools.partial(cut, image))
    np.testing.assert_array_equal(read(path), image)
    assert path.stat().st_size < 4 * row.size


def cut(image, windows):
    return ((w, image[w.y0 : w.y1, w.x0 : w.x1]) for w in windows)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_thin_pictures_take_the_disk_that_their_pixels_need(tmp_path, shape):
    picture = Picture(Window(0, 0, *shape), 3, "0")
    interrupt(tmp_path / "a.tif", picture)
    sizes = [chunk.stat().st_size for chunk in chunks_of(tmp_path / "a.tif")]
    assert len(sizes) == 4
    assert max(sizes) == 3 * CHUNK + 4  # and a checksum
    write(tmp_path / "a.tif", picture, Painter())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        sides = tiff.pages[0].tilelength, tiff.pages[0].tilewidth
    assert sides == tuple(16 if n == 1 else CHUNK for n in shape)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels_of(picture.window))


def test_the_formats_that_names_may_end_in_are_those_there_are():
    assert set(names.SUFFIXES) == ENCODERS.keys()
