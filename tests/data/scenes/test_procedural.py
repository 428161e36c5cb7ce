"""A scene is a function of its index alone, and its size only samples it."""

import numpy as np
import pytest

from creps_jax.data.scenes.procedural import scene
from creps_jax.data.scenes.shapes import View


def halved(image):
    h, w, c = image.shape
    return image.reshape(h // 2, 2, w // 2, 2, c).astype(float).mean((1, 3))


def view(size):
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    canvas = np.zeros((3, size, size), np.float32)
    return View(centres[:, None], centres[None], (0.5 / size, 0.5 / size), 1 / size, canvas)


def test_a_scene_depends_on_its_index_alone():
    first = scene(3, 48)
    np.random.seed(1)
    scene(4, 32)
    np.testing.assert_array_equal(scene(3, 48), first)
    np.testing.assert_array_equal(scene(np.int64(3), (48, 48)), first)


def test_scenes_differ():
    assert len({scene(i, 16).tobytes() for i in range(50)}) == 50


@pytest.mark.parametrize("index", range(12))
def test_twice_the_size_is_the_same_scene(index):
    small, large = scene(index, 64), scene(index, 128)
    assert np.abs(halved(large) - small).mean() < 1.2
    # The bound means something: one row's shift, or another scene, is beyond it.
    assert np.abs(np.roll(halved(large), 1, axis=0) - small).mean() > 2
    assert np.abs(halved(scene(index + 1, 128)) - small).mean() > 10


def test_a_wider_picture_shows_more_to_both_sides():
    wide, square = scene(5, (64, 96)), scene(5, 64)
    assert wide.shape == (64, 96, 3)
    assert np.abs(wide[:, 16:80].astype(int) - square).max() <= 1


def test_one_channel_is_the_luma():
    colour, grey = scene(7, 40), scene(7, 40, channels=1)
    assert grey.shape == (40, 40, 1)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() <= 1.1


@pytest.mark.parametrize("size", [16, 64])
def test_the_covered_area_is_the_shape_s(size):
    """Summed coverage is the area, for shapes thinner than a pixel too."""
    part = view(size)
    areas = [
        (part.box(0.21, 0.77, 0.502, 0.508), 0.56 * 0.006, 1e-6),
        (part.box(0.1, 0.9, 0.21, 0.63), 0.8 * 0.42, 1e-6),
        (part.discs([0.45], [0.52], [0.3]), np.pi * 0.09, 2e-3),
        (part.triangles(0.48, np.array([0.1]), np.array([0.9]), np.array([0.3])), 0.24, 4e-3),
        (part.polygon(np.array([(0.1, 0.2), (0.1, 0.7), (0.8, 0.9), (0.8, 0.3)])), 0.385, 4e-3),
        (part.blobs(*np.array([[0.5], [0.5], [0.01], [0.02]])), 2 * np.pi * 2e-4, 5e-5),
    ]
    for coverage, area, tolerance in areas:
        assert coverage.min() >= 0
        assert abs(coverage.sum() / size**2 - area) < tolerance


def test_cropping_changes_nothing_of_a_shape():
    whole, part = view(50), view(50)
    bounds = (0.33, 0.52, 0.41, 0.87)
    whole.paint(whole.box(*bounds), np.ones(3, np.float32))
    crop = part.crop(*bounds)
    crop.paint(crop.box(*bounds), np.ones(3, np.float32))
    np.testing.assert_allclose(part.canvas, whole.canvas, atol=1e-6)
    assert crop.canvas.size < part.canvas.size / 4
