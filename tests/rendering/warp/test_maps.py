"""Maps that have names."""

import numpy as np
import pytest

from creps_jax.rendering.warp import maps
from tests.helpers.warps import MAPS, SIZE


@pytest.mark.parametrize("name", ["rotate", "shear", "perspective", "fisheye", "cylinder"])
def test_the_centre_stays_in_its_place(name):
    i, j = MAPS[name](np.full((1, 1), 23.5), np.full((1, 1), 31.5), SIZE)
    np.testing.assert_allclose([i.item(), j.item()], [23.5, 31.5], atol=1e-9)


def test_maps_bend_as_they_say():
    h, w = np.array([[0.0]]), np.array([[31.5]])
    i, _ = maps.perspective(25)(h, w, SIZE)
    assert i < 0  # The top edge leans back: there is more to be seen above.
    i, j = maps.fisheye(0.5)(np.array([[33.5]]), np.array([[31.5]]), SIZE)
    assert 0 < i - 23.5 < 0.6 * 10 and j == 31.5
    corner, _ = maps.fisheye(0.5)(np.array([[-0.5]]), np.array([[-0.5]]), SIZE)
    np.testing.assert_allclose(corner, -0.5)
    _, edge = maps.cylinder(120)(np.array([[0.0]]), np.array([[63.5]]), SIZE)
    np.testing.assert_allclose(edge, 63.5)
    i, j = maps.polar()(np.array([[-0.5]]), np.array([[31.5]]), SIZE)
    np.testing.assert_allclose([i.item(), j.item()], [-0.5, 31.5])  # Rim, straight up.


@pytest.mark.parametrize(
    "text", ["", "rotate", "rotate:", "rotate:x", "rotate:nan", "twirl:3", "rotate:1:2"]
)
def test_an_unknown_warp_is_named(text):
    with pytest.raises(ValueError, match=f"warp='{text}' must be NAME:AMOUNT with one of rotate, "):
        maps.parse(text)


@pytest.mark.parametrize("text", ["perspective:45", "fisheye:1", "cylinder:180", "cylinder:0"])
def test_an_amount_out_of_range_is_named(text):
    with pytest.raises(ValueError, match=text):
        maps.parse(text)
