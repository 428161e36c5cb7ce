"""Measures of consistency on functions whose answer is known, and all of them on a generator."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.evaluation.consistency import motion, scales, spectra
from creps_jax.evaluation.consistency.measures import METRICS
from creps_jax.evaluation.consistency.paths import path_length, ppl
from creps_jax.evaluation.consistency.pictures import Picture, grid, picture_of
from creps_jax.evaluation.consistency.resampling import is_inside, resample, taps
from creps_jax.model import coordinates
from tests.helpers.generators import make_generator, synthesize

N = 64  # px a side of the pictures here


def wave(fy, fx, phase=0.3):
    """A wave of so many cycles a px of the training images, amplitude 1."""

    def paint(y, x):
        return np.sin(2 * np.pi * (N - 1) * (fy * y + fx * x) + phase)[..., None]

    return Picture((N, N), paint)


def noise(seed=0, channels=3):
    """The same noise of variance 0.01 wherever it is painted: it sticks to the pixels."""
    pixels = 0.1 * np.random.default_rng(seed).standard_normal((N, N, channels))
    return Picture((N, N), lambda y, x: pixels)


def summed(*pictures):
    return Picture((N, N), lambda y, x: sum(picture.paint(y, x) for picture in pictures))


FLAT = Picture((N, N), lambda y, x: np.full((*np.broadcast_shapes(y.shape, x.shape), 3), 0.7))


def random(seed=0):
    return np.random.default_rng(seed)


# Resampling.


@pytest.mark.parametrize(("frequency", "floor"), [(0.25, 70), (0.3, 44), (0.4, 22)])
def test_the_filter_misses_as_little_of_a_wave_as_it_says(frequency, floor):
    at = np.linspace(20, 21, 64, endpoint=False)
    where, weights = taps(at, N, 1.0)
    found = (weights * np.exp(2j * np.pi * frequency * where)).sum(axis=-1)
    error = np.abs(found - np.exp(2j * np.pi * frequency * at)) ** 2 / 2
    assert floor < motion.psnr(error.mean()) < floor + 12


def test_rows_and_columns_are_resampled_as_single_places_are():
    image = noise().native()
    u, v = random().uniform(-3, N + 2, (9, 1)), random(1).uniform(-3, N + 2, (1, 7))
    for s in (1, 1.7):
        found = resample(image, *np.broadcast_arrays(u, v), s)
        np.testing.assert_allclose(resample(image, u, v, s), found, atol=1e-12)
    np.testing.assert_allclose(resample(image, *grid((N, N), (N, N))), image, atol=1e-12)


@pytest.mark.parametrize("s", [1, 1.5, 2])
def test_inside_means_that_no_pixel_beyond_the_edge_has_a_weight(s):
    u = np.arange(-16, N + 16, 0.25)
    at, weights = taps(u, 1000, s)  # Clipped at neither edge: pixel 0 stands for those before it.
    first, last = np.floor(u - 4 * s) + 1, np.ceil(u + 4 * s) - 1
    assert (weights[first < 0][:, 0] != 0).all() and at.min() == 0
    np.testing.assert_array_equal(is_inside(u, N, s), (first >= 0) & (last <= N - 1))


# Between scales.


def slow_ssim(a, b):
    """Window by window, by the formula in the paper, of images in [0, 1]."""
    at = np.arange(11) - 5
    weights = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for c in range(a.shape[2]):
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, q = a[i : i + 11, j : j + 11, c], b[i : i + 11, j : j + 11, c]
                mp, mq = (weights * p).sum(), (weights * q).sum()
                vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
                cov = (weights * (p - mp) * (q - mq)).sum()
                values.append(
                    (2 * mp * mq + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))
                )
    return np.mean(values)


def test_ssim_is_the_papers():
    a, b = random().uniform(0, 1, (2, 16, 14, 2))
    b = 0.7 * a + 0.3 * b
    found = scales.ssim(2 * a - 1, 2 * b - 1)
    assert 0.2 < found < 0.95
    assert found == pytest.approx(slow_ssim(a, b), rel=1e-9)
    assert scales.ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_ssim_of_flat_images_is_that_of_their_means():
    a, b = 0.25, 0.75
    flat = [np.full((11, 12, 3), 2 * value - 1) for value in (a, b)]
    assert scales.ssim(*flat) == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))
    assert scales.ssim(flat[0] - 2, np.full((11, 12, 3), -1.0)) == pytest.approx(1)  # Clipped.


def test_ssim_refuses_less_than_a_window():
    with pytest.raises(ValueError, match="11 x 11 px at least, got 10 x 12"):
        scales.ssim(np.zeros((10, 12, 3)), np.zeros((10, 12, 3)))


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2, 4])
def test_a_smooth_picture_is_the_same_in_all_sizes(scale):
    assert scales.self_ssim(wave(0.02, 0.03), scale) > 0.999


def test_another_picture_at_another_size_is_not():
    def paint(y, x):
        return wave(0.05, 0.03, phase=0.0 if len(y) == N else 2.0).paint(y, x)

    assert scales.self_ssim(Picture((N, N), paint), 2) < 0.5


def test_a_wave_beyond_the_small_pictures_nyquist_is_all_aliasing():
    assert scales.aliasing(wave(0.41, 0.05), 1 / 2) == pytest.approx(1, rel=0.05)
    assert scales.aliasing(wave(0.06, 0.1), 1 / 2) < 1e-6
    half = summed(wave(0.41, 0.05), wave(0.06, 0.1))
    assert scales.aliasing(half, 1 / 2) == pytest.approx(0.5, rel=0.1)
    assert scales.aliasing_rendered(half, 1 / 2) < 0.1
    assert scales.aliasing(FLAT, 1 / 2) == 0


# Motion.


@pytest.mark.parametrize(
    "transform", [motion.translate, motion.translate_whole, motion.rotate, motion.zoom]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_picture_moves_as_a_whole(transform, seed):
    assert motion.psnr(motion.squared_error(wave(0.07, 0.1), random(seed), transform)) > 65


def test_noise_that_sticks_differs_by_twice_its_variance():
    def move(shape, _):
        u, v = grid(shape, shape)
        return u - 3, v + 5, 1.0

    error = motion.squared_error(noise(), random(), move)
    assert motion.psnr(error) == pytest.approx(10 * np.log10(4 / (2 * 0.01)), abs=0.3)


def test_a_wave_beyond_nyquist_does_not_move_as_its_pixels_do():
    """0.9 cycles a px look like -0.1: moved by half a pixel they are -0.1 and 0.9 apart."""

    def move(shape, _):
        u, v = grid(shape, shape)
        return u, v - 0.5, 1.0

    error = motion.squared_error(wave(0, 0.9), random(), move)
    assert error == pytest.approx(2, rel=0.1)  # Half a cycle apart: (2 sin)^2.


def test_of_a_large_turned_picture_some_places_stand_for_all(monkeypatch):
    sizes = []

    def paint(y, x):
        sizes.append(np.broadcast(y, x).size)
        return wave(0.4, 1.2).paint(y, x)

    large = Picture((3 * N, 3 * N), paint)
    some = motion.squared_error(large, random(), motion.rotate)
    assert sizes == [motion.MIXED, (3 * N) ** 2]
    monkeypatch.setattr(motion, "MIXED", 10**6)
    assert some == pytest.approx(motion.squared_error(large, random(), motion.rotate), rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_transforms_are_what_they_are_called(seed):
    middle = np.array([(N - 1) / 2, (N - 1) / 2 + 8])
    for transform, fixed in (
        (motion.translate, False),
        (motion.translate_whole, False),
        (motion.rotate, True),
        (motion.zoom, True),
    ):
        u, v, s = transform((N, N + 16), random(seed))
        u, v = np.broadcast_arrays(u, v)
        apart = np.hypot(np.diff(u, axis=0), np.diff(v, axis=0))
        np.testing.assert_allclose(apart, apart[0, 0])
        np.testing.assert_allclose(np.hypot(np.diff(u, axis=1), np.diff(v, axis=1)), apart[0, 0])
        assert s == pytest.approx(max(1, apart[0, 0])) and 1 / 2 <= apart[0, 0] <= 2
        moved = np.array([u.mean(), v.mean()]) - middle
        assert (np.abs(moved) <= ([1e-9, 1e-9] if fixed else [N / 8, (N + 16) / 8])).all()
        turned = (u[1, 0] - u[0, 0]) * (v[0, 1] - v[0, 0]) - (u[0, 1] - u[0, 0]) * (
            v[1, 0] - v[0, 0]
        )
        assert turned > 0  # No mirror image.
        if transform is motion.translate_whole:
            np.testing.assert_array_equal(u, u.round())


@pytest.mark.parametrize("seed", range(3))
def test_sticking_is_the_stuck_share_of_the_energy(seed):
    moving = wave(0.12, 0.07)
    stuck = Picture((N, N), lambda y, x: moving.native())
    assert motion.sticking(moving, random(seed)) < 1e-6
    assert motion.sticking(noise(), random(seed)) == 1
    assert motion.sticking(summed(moving, stuck), random(seed)) == pytest.approx(0.5, abs=0.03)
    assert motion.sticking(FLAT, random(seed)) == 0


def test_what_moves_by_whole_pixels_alone_sticks_meanwhile():
    def paint(y, x):
        return wave(0.12, 0.07).paint(*(np.round(t * (N - 1)) / (N - 1) for t in (y, x)))

    assert 0.01 < motion.sticking(Picture((N, N), paint), random()) < 0.5


def test_pictures_that_are_too_small_are_refused():
    small = Picture((8, 8), wave(0, 0.1).paint)
    for measure in (
        motion.sticking,
        functools.partial(motion.squared_error, transform=motion.zoom),
    ):
        with pytest.raises(ValueError, match="8 x 8 px are too small"):
            measure(small, random())


# Spectra.


def test_a_wave_has_its_power_at_its_frequency():
    frequencies, (power,) = spectra.spectrum(wave(0, 12 / N).native()[None])
    assert frequencies[power.argmax()] == 12 / N
    assert spectra.decibels(power[20:] / power.max()).max() < -60


def test_the_mean_power_is_the_mean_square():
    """Parseval, of noise that the window sees as it is."""
    image = random().normal(2.0, 0.3, (N, N + 6, 3))
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in image.shape[:2]))
    centred = image - np.average(image, axis=(0, 1), weights=np.dstack([window] * 3))
    expected = (window[..., None] * centred) ** 2
    power = spectra.periodogram(image)
    assert power.mean() == pytest.approx(expected.mean(axis=2).sum() / (window**2).sum())
    assert power[0, 0] == pytest.approx(0, abs=1e-20)


def test_noise_has_its_variance_at_all_frequencies():
    images = random().normal(0, 0.3, (32, N, N + 32, 3))
    frequencies, powers = spectra.spectrum(images)
    assert frequencies[0] == 0 and frequencies[-1] == 1 / 2 and powers.shape == (32, N // 2 + 1)
    np.testing.assert_allclose(powers[:, 4:].mean(axis=0), 0.09, rtol=0.1)


# Path lengths.


def test_a_path_is_as_long_as_its_derivative():
    a, (start, end) = random().normal(size=(5, 3)).astype("f"), random(1).normal(size=(2, 3))
    start, end = np.float32(start), np.float32(end)
    linear = np.square(a @ (end - start)).mean()
    for t in (np.float32(0), np.float32(0.7)):
        assert float(path_length(lambda w: jnp.asarray(a) @ w, start, end, t)) == pytest.approx(
            linear, rel=1e-5
        )
    square = np.square(2 * (start + np.float32(0.7) * (end - start)) * (end - start)).mean()
    assert float(path_length(jnp.square, start, end, t)) == pytest.approx(square, rel=1e-5)


# The generator.


@pytest.fixture(scope="module")
def network():
    generator, variables = make_generator(0, channels=(8, 8, 8, 8))
    ws = random(5).normal(size=(2, generator.config.num_ws, generator.config.w_dim))
    return generator, variables, ws.astype(np.float32)


def test_a_picture_is_the_generators_wherever_it_is_painted(network):
    generator, variables, ws = network
    picture = picture_of(generator, variables, ws[0])
    t = coordinates.training_positions(32)
    expected = np.asarray(synthesize(generator, variables, ws[0], t, t), np.float64)
    np.testing.assert_allclose(picture.native(), expected, atol=1e-4 * np.abs(expected).max())
    u, v = np.broadcast_arrays(*grid((32, 32), (32, 32)))  # Each pixel with lines of its own.
    np.testing.assert_allclose(picture.at(u, v), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", METRICS)
def test_all_metrics_measure_a_generator_by_the_seed_alone(network, name):
    generator, variables, ws = network
    metric = METRICS[name]
    values = metric.measure(generator, variables, ws, 7)
    assert values.shape == (2,) and values.dtype == np.float64 and np.isfinite(values).all()
    assert np.isfinite(metric.in_unit(values.mean())) and metric.best in ("higher", "lower")
    np.testing.assert_array_equal(metric.measure(generator, variables, ws, 7), values)
    if name.startswith(("eq_r", "sticking", "ppl")):
        assert (metric.measure(generator, variables, ws, 8) != values).any()


def test_the_path_length_is_a_difference_of_images(network):
    generator, variables, ws = network
    positions, step = coordinates.training_positions(32), np.float32(1e-3)
    way = ws[::-1] - ws
    expected = []
    for start, change, t in zip(ws, way, random(3).random(2, np.float32), strict=True):
        a, b = (
            synthesize(generator, variables, start + at * change, positions, positions)
            for at in (t - step / 2, t + step / 2)
        )
        expected.append(float(jnp.square((b - a) / step).mean()))
    np.testing.assert_allclose(ppl(generator, variables, ws, 3), expected, rtol=0.05)


def test_a_path_needs_two_latents(network):
    generator, variables, ws = network
    with pytest.raises(ValueError, match="two latents at least, got 1"):
        ppl(generator, variables, ws[:1], 0)
