"""From seeds to latents: truncation, styles and classes."""

import itertools

import jax
import numpy as np
import pytest

from creps_jax.model import coordinates
from creps_jax.rendering.painter import Painter
from tests.helpers.generators import RESOLUTION, assert_close, make_generator, paint, synthesize


@pytest.fixture(scope="module")
def conditional():
    return Painter(*make_generator(num_classes=3), devices=jax.devices()[:1])


def test_seeds_differ_and_truncation_0_makes_them_all_the_mean(model, painter):
    generator, variables = model
    drawn = np.stack([painter.latents(seed) for seed in (0, 1, 2**32 - 1)])
    assert drawn.shape == (3, generator.config.num_ws, generator.config.w_dim)
    assert len(np.unique(drawn[:, 0, 0])) == 3
    mean = painter.latents(0, truncation=0.0)
    np.testing.assert_array_equal(mean, painter.latents(1, truncation=0.0))
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    np.testing.assert_allclose(mean, np.broadcast_to(w_avg, mean.shape), rtol=1e-6)


def test_truncation_pulls_the_first_latents_towards_the_mean(painter):
    full, mean = (painter.latents(0, truncation=psi) for psi in (1.0, 0.0))
    half = painter.latents(0, truncation=0.5, cutoff=2)
    np.testing.assert_allclose(half[:2], (full + mean)[:2] / 2, atol=1e-6)
    np.testing.assert_allclose(half[2:], full[2:], atol=1e-6)


def test_styles_take_layers_from_other_seeds(model, painter):
    mixed = painter.latents(0, styles={1: 5, 4: 6})
    for layer in range(model[0].config.num_ws):
        seed = {1: 5, 4: 6}.get(layer, 0)
        np.testing.assert_array_equal(mixed[layer], painter.latents(seed)[layer])
    t = coordinates.training_positions(RESOLUTION)
    assert_close(paint(painter, None, None, ws=mixed), synthesize(*model, mixed, t, t))


def test_every_class_has_its_own_latents(conditional):
    ws = [conditional.latents(0, label) for label in range(3)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(ws, 2)) > 0.01


@pytest.mark.parametrize("label", [None, -1, 3])
def test_a_conditional_generator_needs_one_of_its_classes(conditional, label):
    with pytest.raises(ValueError, match=rf"0 to 2 \(num_classes=3\), got {label}"):
        conditional.latents(0, label)


def test_an_unconditional_generator_refuses_a_class(painter):
    with pytest.raises(ValueError, match=r"num_classes=0\), got class 1"):
        painter.latents(0, 1)
