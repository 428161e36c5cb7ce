"""A small random generator whose biases and mean latent are random too: no zero hides a fault."""

import functools
import itertools

import jax
import numpy as np
import pytest

from creps_jax.config import GeneratorConfig
from creps_jax.model import coordinates, layers
from creps_jax.model.generator import Generator
from creps_jax.rendering import render as module
from creps_jax.rendering.render import TILE, latent, render, resolve_window, to_uint8

RESOLUTION = 16
FRAME = (2 * TILE + 30, TILE + 20)  # Ends inside a tile on both axes.


def make_generator(num_classes):
    generator = Generator(
        GeneratorConfig(
            z_dim=8,
            w_dim=12,
            num_classes=num_classes,
            image_channels=3,
            channels=(16, 16, 16),
            biline_channels=8,
            thickness=4,
            bandwidth=0.5,  # Smooth enough for 16 px to show it.
            mapping_layers=2,
        )
    )
    t = coordinates.training_positions(RESOLUTION)
    z, c = np.zeros((1, 8), np.float32), np.zeros((1, num_classes), np.float32)
    # Compiling init would take longer than all the tests.
    shapes = jax.eval_shape(generator.init, jax.random.key(0), z, c, t, t)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: np.float32(random.standard_normal(x.shape)), shapes)
    mapping, constants = variables["params"]["mapping"], variables["constants"]["lines"]
    variables["params"]["mapping"] = jax.tree.map(lambda x: x / layers.MAPPING_LR, mapping)
    constants["freqs"] *= generator.config.bandwidth
    return generator, variables


@pytest.fixture(scope="module")
def model():
    return make_generator(num_classes=0)


@pytest.fixture(scope="module")
def conditional():
    return make_generator(num_classes=3)


@pytest.fixture(scope="module")
def whole(model):
    return render(*model, latent(*model, seed=0), FRAME)


@functools.partial(jax.jit, static_argnums=0)
def synthesize(generator, variables, ws, y, x):
    """The image in one piece, at whatever positions."""
    return generator.apply(variables, ws, y, x, method="synthesize")[0]


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.float32
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_native_size_is_the_image_that_training_sees(model):
    ws = latent(*model, seed=0)
    t = np.float32(np.arange(RESOLUTION) / (RESOLUTION - 1))
    assert_close(render(*model, ws, (RESOLUTION, RESOLUTION)), synthesize(*model, ws, t, t))


def test_a_frame_of_many_tiles_is_the_image_at_its_pixel_centres(model, whole):
    def at(n):
        edge = 0.5 / (RESOLUTION - 1)
        return np.float32(-edge + (np.arange(n) + 0.5) / n * (1 + 2 * edge))

    assert_close(whole, synthesize(*model, latent(*model, seed=0), at(FRAME[0]), at(FRAME[1])))


def test_endpoints_include_both_ends_of_the_unit_square(model):
    ws = latent(*model, seed=0)
    image = render(*model, ws, FRAME, sampling=coordinates.endpoints)
    y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in FRAME)
    assert_close(image, synthesize(*model, ws, y, x))


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
def test_a_window_is_the_crop_of_the_whole_bit_for_bit(model, whole, window):
    y0, x0, y1, x1 = window
    part = render(*model, latent(*model, seed=0), FRAME, window)
    np.testing.assert_array_equal(part, whole[y0:y1, x0:x1])


def test_centers_stay_in_place_when_the_image_grows_and_endpoints_do_not(model):
    ws = latent(*model, seed=0)

    def shrunk(sampling):
        size = 8 * RESOLUTION
        image = render(*model, ws, (size, size), sampling=sampling)
        return image.reshape(RESOLUTION, 8, RESOLUTION, 8, 3).mean(axis=(1, 3))

    native = render(*model, ws, (RESOLUTION, RESOLUTION))
    centers = np.abs(shrunk(coordinates.centers) - native).mean()
    endpoints = np.abs(shrunk(coordinates.endpoints) - native).mean()
    assert centers < 0.05 * native.std()
    assert endpoints > 3 * centers


def test_one_compilation_serves_every_size_window_and_sampling(model, whole):
    def compilations():
        return [f._cache_size() for f in (module._ws, module._lines, module._tile)]

    before = compilations()
    render(*model, latent(*model, seed=1, psi=0.5), (7, 300))
    render(*model, latent(*model, seed=2, psi=0.7), (2**20, 2**20), (2**19, 5, 2**19 + 9, 6))
    render(*model, latent(*model, seed=3), (2, 2), sampling=coordinates.endpoints)
    assert compilations() == before


def test_seeds_differ_and_truncation_0_makes_them_all_the_mean(model):
    generator, variables = model
    drawn = np.concatenate([np.asarray(latent(*model, seed)) for seed in (0, 1, 2**32 - 1)])
    assert drawn.shape == (3, generator.config.num_ws, generator.config.w_dim)
    assert len(np.unique(drawn[:, 0, 0])) == 3
    mean = latent(*model, seed=0, psi=0.0)
    np.testing.assert_array_equal(mean, latent(*model, seed=1, psi=0.0))
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    np.testing.assert_allclose(mean, np.broadcast_to(w_avg, mean.shape), rtol=1e-6)


def test_truncation_pulls_the_first_latents_towards_the_mean(model):
    full, mean = (np.asarray(latent(*model, 0, psi=psi)) for psi in (1.0, 0.0))
    half = np.asarray(latent(*model, 0, psi=0.5, cutoff=2))
    np.testing.assert_allclose(half[:, :2], (full + mean)[:, :2] / 2, atol=1e-6)
    np.testing.assert_allclose(half[:, 2:], full[:, 2:], atol=1e-6)


def test_every_class_has_its_own_latents(conditional):
    ws = [np.asarray(latent(*conditional, 0, label)) for label in range(3)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(ws, 2)) > 0.01


@pytest.mark.parametrize("label", [None, -1, 3])
def test_a_conditional_generator_needs_one_of_its_classes(conditional, label):
    with pytest.raises(ValueError, match=rf"0 to 2 \(num_classes=3\), got {label}"):
        latent(*conditional, 0, label)


def test_an_unconditional_generator_refuses_a_class(model):
    with pytest.raises(ValueError, match=r"num_classes=0\), got class 1"):
        latent(*model, 0, 1)


@pytest.mark.parametrize(
    "window",
    [(-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 9, 4), (0, 0, 4, 7), (4, 0, 4, 4), (0, 5, 4, 4)],
)
def test_a_window_must_hold_pixels_of_the_frame_only(model, window):
    with pytest.raises(ValueError, match="8 px high and 6 px wide"):
        render(*model, latent(*model, 0), (8, 6), window)


def test_no_window_is_the_whole_frame():
    assert resolve_window(None, (8, 6)) == (0, 0, 8, 6)


def test_8_bit_numbers_are_clipped_and_truncated():
    values = np.array([-9, -1, -0.001, 0, 0.9999, 1, 9], np.float32)
    # 0.5, 127.87, 128, 255.49 and 255.5 lose their fractions.
    np.testing.assert_array_equal(to_uint8(values), np.array([0, 0, 127, 128, 255, 255, 255], "u1"))
