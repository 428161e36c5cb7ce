"""A small random generator whose biases and mean latent are random too: no zero hides a fault."""

import functools

import jax
import numpy as np

from creps_jax.config import GeneratorConfig
from creps_jax.model import layers
from creps_jax.model.generator import Generator

RESOLUTION = 16
TILE = 128
FRAME = (2 * TILE + 30, TILE + 20)  # Ends inside a tile on both axes.


def make_generator(num_classes, channels=(16, 16, 16)):
    generator = Generator(
        GeneratorConfig(
            z_dim=8,
            w_dim=12,
            num_classes=num_classes,
            image_channels=3,
            channels=channels,
            biline_channels=8,
            thickness=4,
            bandwidth=0.5,  # Smooth enough for 16 px to show it.
            mapping_layers=2,
        )
    )
    shapes = layers.variable_shapes(generator)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: np.float32(random.standard_normal(x.shape)), shapes)
    mapping, constants = variables["params"]["mapping"], variables["constants"]["lines"]
    variables["params"]["mapping"] = jax.tree.map(lambda x: x / layers.MAPPING_LR, mapping)
    constants["freqs"] *= generator.config.bandwidth
    return generator, variables


@functools.partial(jax.jit, static_argnums=0)
def synthesize(generator, variables, ws, y, x):
    """The image in one piece, at whatever positions."""
    return generator.apply(variables, ws[None], y, x, method="synthesize")[0]


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.float32
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def paint(painter, seed, size, window=None, **options):
    return painter.render(seed, size=size, window=window, dtype=np.float32, **options)
