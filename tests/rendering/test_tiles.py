"""Tiles of any window of an image: the numbers of the image in one piece, whoever asks."""

import re

import jax
import numpy as np
import pytest

from creps_jax.model import biline, coordinates
from creps_jax.rendering import programs, tiles
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.windows import Blocks, Window
from tests.helpers.generators import (
    FRAME,
    RESOLUTION,
    TILE,
    assert_close,
    paint,
    synthesize,
)


@pytest.fixture(scope="module")
def whole(painter):
    return paint(painter, 0, FRAME)


def test_the_native_size_is_the_image_that_training_sees(model, painter):
    t = np.float32(np.arange(RESOLUTION) / (RESOLUTION - 1))
    expected = synthesize(*model, painter.latents(0), t, t)
    assert_close(paint(painter, 0, None), expected)


def test_a_frame_of_many_tiles_is_the_image_at_its_pixel_centres(model, painter, whole):
    def at(n):
        edge = 0.5 / (RESOLUTION - 1)
        return np.float32(-edge + (np.arange(n) + 0.5) / n * (1 + 2 * edge))

    assert_close(whole, synthesize(*model, painter.latents(0), at(FRAME[0]), at(FRAME[1])))


def test_endpoints_include_both_ends_of_the_unit_square(model, painter):
    image = paint(painter, 0, FRAME, sampling=coordinates.endpoints)
    y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in FRAME)
    assert_close(image, synthesize(*model, painter.latents(0), y, x))


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 1, 1),
        (0, 0, TILE, TILE),
        (TILE - 3, TILE - 1, TILE + 5, TILE + 2),
        (17, 5, 2 * TILE + 9, 6),
        (TILE, TILE, *FRAME),
        (FRAME[0] - 1, FRAME[1] - 1, *FRAME),
    ],
)
def test_a_window_is_the_crop_of_the_whole_bit_for_bit(painter, whole, window):
    y0, x0, y1, x1 = window
    np.testing.assert_array_equal(paint(painter, 0, FRAME, window), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("count", [1, 2])
def test_only_the_patches_that_a_window_touches_are_decoded(model, count):
    painter = Painter(*model, devices=jax.devices()[:count])
    image, mesh = painter.image(painter.latents(0)), painter.mesh
    down, across = (n * TILE for n in mesh.devices.shape)
    t = np.linspace(0, 1, count * TILE, dtype=np.float32)
    lines = [
        np.asarray(programs.lines_on(mesh)(image, t, np.full(len(t), k, "i4"))) for k in (0, 1)
    ]
    rows, columns = lines[0][:down], lines[1][:across]
    every = np.asarray(programs.tile_on(mesh)(image, rows, columns, *programs.patches(mesh, 8)))
    needed = programs.patches(mesh, 8, Window(down - 1, 9, down, 30))
    some = np.array(programs.tile_on(mesh)(image, rows, columns, *needed))
    np.testing.assert_array_equal(some[-8:, 8:32], every[-8:, 8:32])
    some[-8:, 8:32] = 0
    assert every.all() and not some.any()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_any_number_of_devices_paints_the_same_bits(model, whole, count):
    several = Painter(*model, devices=jax.devices()[:count])
    assert several.mesh.size == count
    np.testing.assert_array_equal(paint(several, 0, FRAME), whole)


def test_no_device_waits_for_another_one(model):
    painter = Painter(*model, devices=jax.devices())
    image, mesh = painter.image(painter.latents(0)), painter.mesh
    t = np.zeros(mesh.size * TILE, np.float32)
    lines = np.zeros((len(t), *biline.line_shape(image)), np.float32)
    rows, columns = (lines[: TILE * n] for n in mesh.devices.shape)
    axis = np.zeros(len(t), np.int32)
    for function, arguments in [
        (programs.lines_on(mesh), (image, t, axis)),
        (programs.tile_on(mesh), (image, rows, columns, *programs.patches(mesh, 8))),
    ]:
        compiled = function.lower(*arguments).compile().as_text()
        assert "num_partitions=8" in compiled
        collectives = r"all-(reduce|gather|to-all)|collective-permute|reduce-scatter|(send|recv)\("
        assert not re.search(collectives, compiled)


def test_streamed_tiles_are_the_whole_whatever_their_cut_and_order(painter, whole):
    image, plan = painter.image(painter.latents(0)), painter.plan(FRAME)
    windows = list(Blocks(plan.window, (50, 64), origin=(7, 0)))
    assert len(windows) == 7 * 3
    parts = dict(painter.paint(image, plan, windows[::-1], np.float32))
    assert parts.keys() == set(windows)
    for (y0, x0, y1, x1), pixels in parts.items():
        np.testing.assert_array_equal(pixels, whole[y0:y1, x0:x1])


def count_lines(monkeypatch):
    """A list that gets the axis and the first position of every chunk of lines computed."""
    computed, original = [], programs.lines_on

    def counted(mesh):
        def compute(image, t, axis):
            computed.append((int(axis[0]), float(t[0])))
            return original(mesh)(image, t, axis)

        return compute

    monkeypatch.setattr(programs, "lines_on", counted)
    return computed


def test_strips_of_bounded_bytes_paint_the_same_bits(painter, monkeypatch):
    image, plan = painter.image(painter.latents(0)), painter.plan((800, 800))
    expected = paint(painter, 0, plan.size)
    computed = count_lines(monkeypatch)
    monkeypatch.setattr(tiles, "LINES_BYTES", 1)
    for window, pixels in painter.paint(image, plan, Blocks(plan.window, (TILE, TILE)), np.float32):
        y0, x0, y1, x1 = window
        np.testing.assert_array_equal(pixels, expected[y0:y1, x0:x1])
    # Columns once, rows anew for every strip.
    columns, rows = ([t for axis, t in computed if axis == k] for k in (1, 0))
    assert len(columns) == len(set(columns)) == 7
    assert len(rows) > len(set(rows)) == 7


def test_lines_are_computed_once_where_they_fit(painter, monkeypatch):
    computed = count_lines(monkeypatch)
    paint(painter, 0, (1100, 1100))
    assert len(computed) == len(set(computed)) == 2 * 9


def test_an_interrupted_stream_leaves_no_thread_behind(painter):
    import threading

    before = threading.active_count()
    parts = painter.stream(0, size=(4096, 4096))
    next(parts)
    assert threading.active_count() > before
    parts.close()
    assert threading.active_count() == before


def test_centers_stay_in_place_when_the_image_grows_and_endpoints_do_not(painter):
    def shrunk(sampling):
        size = 8 * RESOLUTION
        image = paint(painter, 0, (size, size), sampling=sampling)
        return image.reshape(RESOLUTION, 8, RESOLUTION, 8, 3).mean(axis=(1, 3))

    native = paint(painter, 0, (RESOLUTION, RESOLUTION))
    centers = np.abs(shrunk(coordinates.centers) - native).mean()
    endpoints = np.abs(shrunk(coordinates.endpoints) - native).mean()
    assert centers < 0.05 * native.std()
    assert endpoints > 3 * centers


@pytest.mark.parametrize("k", [2, 3])
def test_a_supersampled_pixel_is_the_mean_of_its_box(painter, k):
    size = (100, 70)
    fine = paint(painter, 0, (k * size[0], k * size[1]), supersample=1)
    boxes = fine.reshape(size[0], k, size[1], k, 3).mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(
        paint(painter, 0, size, supersample=k), boxes, atol=1e-6 * np.abs(fine).max()
    )


def test_a_supersampled_window_is_the_crop_bit_for_bit(painter):
    size = (100, 70)  # Its boxes of 3 x 3 straddle the tiles.
    supersampled = paint(painter, 0, size, supersample=3)
    part = paint(painter, 0, size, (41, 3, 44, 70), supersample=3)
    np.testing.assert_array_equal(part, supersampled[41:44, 3:])


def test_small_images_are_antialiased_by_default(painter):
    """Against boxes of 8 x 8 samples a training pixel, in 8-bit steps."""
    for n in (RESOLUTION // 2, RESOLUTION // 4):
        truth = paint(painter, 0, (n, n), supersample=8 * RESOLUTION // n)
        default, point = (paint(painter, 0, (n, n), supersample=k) for k in (None, 1))
        error, naive = (np.sqrt(np.mean((image - truth) ** 2)) for image in (default, point))
        assert error < 0.1 * naive
    assert painter.plan((RESOLUTION, 5)).supersample == (1, 7)
    assert painter.plan((8, 8), sampling=coordinates.endpoints).supersample == (1, 1)
