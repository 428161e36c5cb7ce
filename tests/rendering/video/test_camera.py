"""The camera against larger renders, and frames in a grid."""

import jax
import numpy as np
import pytest

from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera, between, plan_view, travel
from creps_jax.rendering.video.frames import paint_frames
from creps_jax.rendering.video.timing import Timing
from creps_jax.rendering.video.walks import walk
from creps_jax.rendering.warp import maps
from tests.helpers.generators import make_generator

SIZE = (48, 64)


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def picture(painter, camera, size=SIZE, **options):
    plan = plan_view(painter, size, camera, **options)
    image = painter.image(painter.latents(0))
    return next(paint_frames(painter, [[image]], [plan]))


def exact_picture(painter, camera, size=SIZE):
    plan = plan_view(painter, size, camera)
    image = painter.image(painter.latents(0))
    ((_, pixels),) = painter.paint(image, plan, [plan.window], np.float32)
    return pixels


@pytest.mark.parametrize("size", [SIZE, (12, 40), (300, 20)])
def test_the_whole_image_is_the_painters_bit_for_bit(painter, size):
    np.testing.assert_array_equal(picture(painter, Camera(), size), painter.render(0, size=size))


def test_a_camera_that_has_almost_not_moved_shows_almost_the_whole_image(painter):
    moved = exact_picture(painter, Camera(zoom=1 + 1e-9))
    still = painter.render(0, size=SIZE, dtype=np.float32)
    np.testing.assert_allclose(moved, still, rtol=0, atol=1e-5 * np.abs(still).max())


@pytest.mark.parametrize(("zoom", "y0", "x0"), [(4, 100, 31), (4, 0, 0), (64, 1717, 2000)])
def test_a_zoomed_picture_is_the_crop_of_a_larger_one(painter, zoom, y0, x0):
    (height, width), frame = SIZE, tuple(n * zoom for n in SIZE)
    y, x = (y0 + height / 2) / frame[0], (x0 + width / 2) / frame[1]
    window = (y0, x0, y0 + height, x0 + width)
    crop = painter.render(0, size=frame, window=window, dtype=np.float32)
    seen = exact_picture(painter, Camera(y, x, zoom))
    np.testing.assert_allclose(seen, crop, rtol=0, atol=1e-5 * np.abs(crop).max())


def test_a_turned_picture_is_the_rotated_one_and_a_quarter_turn_moves_the_pixels(painter):
    still = painter.render(0, size=SIZE, dtype=np.float32)
    step = 2 * still.std() / 127.5  # An 8-bit step, were the contrast that of a photograph.
    rotated = painter.render(0, size=SIZE, dtype=np.float32, warp=maps.rotate(30))
    turned = exact_picture(painter, Camera(degrees=30))
    assert np.abs(turned - rotated).max() < step / 2 < np.abs(turned - still).max()
    square = exact_picture(painter, Camera(), (40, 40))
    clockwise = exact_picture(painter, Camera(degrees=90), (40, 40))
    np.testing.assert_allclose(clockwise, np.rot90(square, -1), rtol=0, atol=step / 2)


def test_a_turn_about_a_detail_keeps_it_in_the_middle(painter):
    camera = Camera(0.3, 0.7, 5)
    middle = [
        exact_picture(painter, camera._replace(degrees=degrees), (41, 31))[20, 15]
        for degrees in (0, 77, 180)
    ]
    np.testing.assert_allclose(middle[1:], [middle[0]] * 2, rtol=0, atol=1e-2)


def test_the_point_that_both_cameras_show_at_one_place_stays_there():
    a, b = Camera(0.5, 0.5, 1), Camera(0.2, 0.8, 100)
    # Where in the picture, 0 to 1, is the fixed point: c + (p - 1/2) / zoom is equal in both.
    p = [(a[i] - b[i]) / (1 / b.zoom - 1 / a.zoom) for i in range(2)]
    for s in np.linspace(0, 1, 9):
        c = between(a, b, s)
        np.testing.assert_allclose(
            [c[i] + p[i] / c.zoom for i in range(2)], [a[0] + p[0], a[1] + p[1]]
        )
        np.testing.assert_allclose(c.zoom, 100**s)
    pan = between(a, a._replace(y=0.1), 0.25)
    np.testing.assert_allclose(pan, (0.4, 0.5, 1, 0))


@pytest.mark.parametrize("loop", [False, True])
def test_the_camera_passes_exactly_through_its_key_frames(loop):
    keys = [Camera(0.3, 0.7, 3, 10), Camera(0.1, 0.5, 0.7, 370), Camera(0.9, 0.2, 50, -20)]
    cameras = travel(keys, Timing(3 * 7 if loop else 2 * 7 + 1, loop))
    assert cameras[::7] == keys


def test_three_thirds_of_a_turn_make_a_loop():
    keys = [Camera(degrees=degrees) for degrees in (0, 120, 240)]
    degrees = [camera.degrees for camera in travel(keys, Timing(36, loop=True))]
    np.testing.assert_allclose(degrees, np.arange(36) * 10)


def test_pixels_larger_than_training_pixels_are_means(painter):
    far = Camera(zoom=0.125)
    assert plan_view(painter, (64, 64), Camera()).supersample == (1, 1)
    assert plan_view(painter, (64, 64), far).supersample == (4, 4)
    assert plan_view(painter, (64, 64), far, supersample=2).supersample == (2, 2)
    auto = plan_view(painter, (64, 64), far)
    np.testing.assert_array_equal(
        picture(painter, far, (64, 64)), picture(painter, far, (64, 64), supersample=4)
    )
    assert auto.supersample[0] * 64 * far.zoom >= 2 * painter.shape[0]


def test_the_cells_of_a_grid_are_the_pictures_of_their_walks(painter):
    timing, seeds = Timing(3), [4, 1, 2, 3, 0, 5]
    plans = [plan_view(painter, SIZE, Camera(zoom=z)) for z in (1, 2, 3)]
    walks = [walk(painter, [seed], timing) for seed in seeds]
    for frame, plan in zip(paint_frames(painter, walks, plans, (2, 3)), plans, strict=True):
        assert frame.shape == (2 * SIZE[0], 3 * SIZE[1], 3)
        for i, seed in enumerate(seeds):
            y, x = i // 3 * SIZE[0], i % 3 * SIZE[1]
            image = painter.image(painter.latents(seed))
            alone = next(paint_frames(painter, [[image]], [plan]))
            np.testing.assert_array_equal(frame[y : y + SIZE[0], x : x + SIZE[1]], alone)


def test_a_zoom_beyond_float32_is_refused_with_the_limit(painter):
    plan_view(painter, (64, 128), Camera(zoom=2**13))
    with pytest.raises(ValueError, match=r"zoom 8193 must be at most 8192 in frames of 64x128 px"):
        plan_view(painter, (64, 128), Camera(zoom=2**13 + 1))
    with pytest.raises(ValueError, match="at most 4096"):
        plan_view(painter, (64, 128), Camera(zoom=2**13), supersample=2)
    with pytest.raises(ValueError, match=r"zoom 1e-09 takes \d+ samples a pixel"):
        plan_view(painter, (64, 128), Camera(zoom=1e-9))
