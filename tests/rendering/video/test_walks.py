"""Walks through latents: time, ways between key-frames, loops."""

import jax
import numpy as np
import pytest

from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.timing import EASINGS, Timing
from creps_jax.rendering.video.walks import INTERPOLATIONS, cubic, linear, shares, slerp, walk
from tests.helpers.generators import make_generator


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def assert_same_images(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize(("frames", "loop"), [(3 * 49 + 1, False), (4 * 49, True), (4, True)])
def test_key_frames_are_frames_exactly(frames, loop, easing):
    u = Timing(frames, loop, EASINGS[easing]).along(4)
    step = frames // 4 if loop else 49
    assert len(u) == frames and u[::step].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_walk_passes_exactly_through_its_seeds(painter, interpolation):
    seeds, timing = [3, 0, 7, 5], Timing(3 * 2 + 1)
    way = list(walk(painter, seeds, timing, interpolation, truncation=0.7))
    assert len(way) == timing.frames
    for seed, image in zip(seeds, way[::2], strict=True):
        assert_same_images(image, painter.image(painter.latents(seed, truncation=0.7)))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_loop_is_the_same_wherever_it_starts(painter, interpolation):
    timing = Timing(6, loop=True, easing=EASINGS["smooth"])
    way = list(walk(painter, [3, 0, 7], timing, interpolation))
    later = list(walk(painter, [0, 7, 3], timing, interpolation))
    assert len(way) == len(later) == 6
    for a, b in zip(way[2:] + way[:2], later, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), a, b)


@pytest.mark.parametrize("basis", [linear, cubic])
def test_a_loop_ends_one_step_before_its_start(basis):
    parts = shares(Timing(12, loop=True).along(3), 3, True, basis)
    steps = np.linalg.norm(np.diff(parts, axis=0, append=parts[:1]), axis=1)
    # Seen from one key-frame and the next, a segment is the mirror of itself.
    np.testing.assert_allclose(steps[-1], steps[-4], atol=1e-12)
    np.testing.assert_allclose(steps, np.tile(steps[:4], 3), atol=1e-12)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_walk_may_come_back_to_a_seed(painter, interpolation):
    way = list(walk(painter, [0, 5, 0, 0], Timing(7), interpolation))
    first, other = (painter.image(painter.latents(seed)) for seed in (0, 5))
    for image, expected in ((way[0], first), (way[2], other), (way[4], first), (way[6], first)):
        assert_same_images(image, expected)
    still = list(walk(painter, [3, 3], Timing(4)))
    assert all(image is still[0] for image in still)


@pytest.mark.parametrize("loop", [False, True])
def test_a_curve_through_a_straight_line_of_latents_is_that_line(loop):
    u = Timing(31).along(4) if not loop else 1 + np.linspace(0, 1, 11)
    keys = np.arange(4.0)
    np.testing.assert_allclose(shares(u, 4, loop, cubic) @ keys, u, atol=1e-12)


def test_a_cubic_curve_has_no_corners_and_a_straight_one_has():
    u, keys = np.linspace(0, 3, 3001), np.array([0.0, 2.0, -1.0, 1.0])
    bends = [
        np.abs(np.diff(shares(u, 4, False, basis) @ keys, 2)).max() for basis in (cubic, linear)
    ]
    assert bends[0] < 2e-5 < 1e-3 < bends[1]


def test_the_sphere_is_not_left_on_the_way_between_its_points():
    random = np.random.default_rng(0)
    z = random.standard_normal((4, 64))
    z *= 8 / np.linalg.norm(z, axis=1, keepdims=True)
    way = slerp(z, Timing(40, loop=True).along(4))
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 8, rtol=1e-12)
    # Equal steps on a great circle.
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(way, 2, axis=0)[:8], axis=1).std(), 0, atol=1e-9
    )
    np.testing.assert_array_equal(slerp(z[:1], np.zeros(3)), z[[0, 0, 0]])


def test_easing_stops_at_every_key_frame_and_nowhere_else():
    u = Timing(201, easing=EASINGS["smooth"]).along(3)
    steps = np.diff(u)
    assert steps[0] < 1e-3 and steps[100] < 1e-3 and steps[-1] < 1e-3
    assert steps[50] > 0.014 and (steps > 0).all() and (u[0], u[100], u[-1]) == (0, 1, 2)


def test_one_seed_is_folded_once(painter):
    way = list(walk(painter, [3], Timing(5)))
    assert len(way) == 5 and all(image is way[0] for image in way)
