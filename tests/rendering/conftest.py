"""The painter of most tests here: small, random, on one device."""

import jax
import pytest

from creps_jax.rendering.painter import Painter
from tests.helpers.generators import make_generator


@pytest.fixture(scope="module")
def model():
    return make_generator(num_classes=0)


@pytest.fixture(scope="module")
def painter(model):
    return Painter(*model, devices=jax.devices()[:1])
