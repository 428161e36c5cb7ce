"""What may be asked for of an image, and what is refused."""

import numpy as np
import pytest

from creps_jax.model import coordinates
from creps_jax.rendering.frame import MAX_SIDE_PX, resolve_window
from creps_jax.rendering.warp import maps
from tests.helpers.generators import RESOLUTION, paint


def test_a_frame_ends_where_float32_positions_end(painter):
    side = MAX_SIDE_PX
    last = coordinates.positions(side - 5000, side, side, RESOLUTION)
    assert (np.diff(last) > 0).all()
    paint(painter, 0, (side, side), (side - 2, 0, side, 2))
    with pytest.raises(ValueError, match=f"1048577x8 .* from 1 to {side} px .*float32"):
        painter.plan((side + 1, 8))
    with pytest.raises(ValueError, match="supersample=2x2 of size=8x1048576"):
        painter.plan((8, side), supersample=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2**32}, "seed=4294967296 must be a whole number from 0 to 4294967295"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0, "truncation": float("nan")}, "truncation=nan"),
        ({"seed": 0, "cutoff": 8}, "cutoff=8 must be a whole number from 0 to 7"),
        ({"seed": 0, "cutoff": 1.5}, "cutoff=1.5 must be a whole number"),
        ({"seed": 0, "styles": {7: 1}}, "layer 7 must be from 0 to 6"),
        ({"seed": 0, "size": (0, 8)}, "size=0x8"),
        ({"seed": 0, "supersample": 0}, "supersample=0"),
        ({"seed": 0, "supersample": 1.5}, "supersample=1.5 must be a whole number"),
        ({"seed": 0, "sampling": "corners"}, "sampling='corners' must be one of centers, endpoi"),
        ({"seed": 0, "warp": "twirl:3"}, "warp='twirl:3' must be NAME:AMOUNT"),
        ({"seed": 0, "warp": 3}, "warp=3 must be a map"),
        ({"seed": 0, "warp": lambda h, w, size: None}, r"must be a map \(h, w, size\)"),
        ({"seed": 0, "warp": lambda h, w, size: (h,)}, "two arrays .* it gives 1"),
        ({"seed": 0, "warp": lambda h, w, size: (np.zeros(3), w)}, "two arrays that broadcast"),
        ({"seed": 0, "sampling": 3}, "sampling=3 must be one of"),
        ({"seed": 0, "size": 1, "sampling": "endpoints"}, "sampling=endpoints needs a size of"),
        ({"seed": 0, "size": "64x64"}, "size='64x64' must be"),
        ({"seed": 0, "size": float("nan")}, "size=nan must be"),
        ({"seed": 0, "supersample": "2"}, "supersample='2' must be"),
        ({"seed": 0, "window": (0, 0, 5)}, r"window=\(0, 0, 5\) must be \(y0, x0, y1, x1\)"),
        ({"seed": 0, "window": (0.0, 0, 5, 5)}, r"window=\(0.0, .* in whole px"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"seed": 0, "dtype": np.float64}, "dtype=.*float64"),
        ({}, "either a seed or ws"),
        ({"ws": np.zeros((7, 12)), "truncation": 0.5}, "make ws: give them to latents"),
        ({"ws": np.full((7, 12), np.nan)}, "ws must be finite"),
        ({"seed": 0, "size": 8.5}, r"size=8.5 must be \(height, width\) in whole px, or one"),
        ({"seed": 0, "size": (64, 64, 3)}, r"size=\(64, 64, 3\) must be \(height, width\)"),
        ({"ws": np.zeros((7, 3))}, r"ws has shape \(7, 3\), must be \(7, 12\)"),
    ],
)
def test_what_is_out_of_range_is_named_before_any_work(painter, options, message):
    with pytest.raises(ValueError, match=message):
        painter.stream(**options)


def test_squares_samplings_and_warps_have_short_names(painter):
    short = painter.plan(8, sampling="endpoints", supersample=2)
    assert short == painter.plan((8, 8), sampling=coordinates.endpoints, supersample=2)
    warped = painter.plan(8, warp="shear:.5").warp(np.array([[0.0]]), np.array([[0.0]]), (8, 8))
    np.testing.assert_allclose(warped, maps.shear(0.5)(np.zeros((1, 1)), np.zeros((1, 1)), (8, 8)))
    assert painter.render(0, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "window",
    [(-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 9, 4), (0, 0, 4, 7), (4, 0, 4, 4), (0, 5, 4, 4)],
)
def test_a_window_must_hold_pixels_of_the_frame_only(painter, window):
    with pytest.raises(ValueError, match="8 px high and 6 px wide"):
        painter.render(0, size=(8, 6), window=window)


def test_no_window_is_the_whole_frame():
    assert resolve_window(None, (8, 6)) == (0, 0, 8, 6)
