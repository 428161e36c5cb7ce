"""Positions are the exact rational numbers of their formulas, rounded to float64 and float32."""

from fractions import Fraction

import numpy as np
import pytest

from creps_jax.model import coordinates
from creps_jax.model.coordinates import centers, endpoints, positions

MIB = 2**20


def rounded(numbers):
    return np.array([float(x) for x in numbers]).astype(np.float32)


def exact_center(i, n, r):
    """frame_0 + (i + 1/2) / n * (frame_1 - frame_0); the frame is a pixel wider than [0, 1]."""
    margin = Fraction(1, 2 * (r - 1))
    return -margin + (i + Fraction(1, 2)) / n * (1 + 2 * margin)


@pytest.mark.parametrize("r", [8, 16, 512, 1024])
def test_at_native_size_both_samplings_are_the_training_grid(r):
    grid = rounded(Fraction(i, r - 1) for i in range(r))
    np.testing.assert_array_equal(positions(0, r, r, r, centers), grid)
    np.testing.assert_array_equal(positions(0, r, r, r, endpoints), grid)
    np.testing.assert_array_equal(coordinates.training_positions(r), grid)


@pytest.mark.parametrize(("n", "r"), [(1, 512), (7, 8), (16, 8), (3, 16), (257, 16), (1000, 512)])
def test_centers_are_the_pixel_centres_of_the_frame(n, r):
    exact = rounded(exact_center(i, n, r) for i in range(n))
    np.testing.assert_array_equal(positions(0, n, n, r), exact)


@pytest.mark.parametrize("n", [2, 5, 8, 31])
def test_endpoints_hold_both_ends_at_every_size(n):
    t = positions(0, n, n, 8, endpoints)
    np.testing.assert_array_equal(t, rounded(Fraction(i, n - 1) for i in range(n)))
    assert (t[0], t[-1]) == (0.0, 1.0)


def test_endpoints_of_a_single_pixel_are_an_error():
    with pytest.raises(ValueError, match=r"at least 2 px an axis, got 1$"):
        positions(0, 1, 1, 8, endpoints)


@pytest.mark.parametrize("scale", [2, 3, 8])
@pytest.mark.parametrize("r", [8, 512])
def test_the_centres_inside_a_native_pixel_average_to_its_own(r, scale):
    fine = centers(np.arange(scale * r), scale * r, r)
    np.testing.assert_allclose(
        fine.reshape(r, scale).mean(axis=1), np.arange(r) / (r - 1), rtol=0, atol=1e-15
    )


def test_the_centres_of_coarse_pixels_are_the_means_of_the_native_ones_inside():
    native = centers(np.arange(512), 512, 512)
    coarse = centers(np.arange(64), 64, 512)
    np.testing.assert_allclose(coarse, native.reshape(64, 8).mean(axis=1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("sampling", coordinates.SAMPLINGS.values())
@pytest.mark.parametrize("n", [37, MIB])
def test_a_windows_positions_are_a_slice_of_the_wholes(n, sampling):
    whole = positions(0, n, n, 512, sampling)
    for start, stop in [(0, 5), (11, 29), (n - 3, n), (17, 17)]:
        window = positions(start, stop, n, 512, sampling)
        np.testing.assert_array_equal(window, whole[start:stop])


@pytest.mark.parametrize(
    ("sampling", "exact"),
    [(centers, exact_center), (endpoints, lambda i, n, r: Fraction(i, n - 1))],
)
def test_positions_of_a_frame_of_a_million_pixels_are_rounded_not_accumulated(sampling, exact):
    t = positions(0, MIB, MIB, 512, sampling)
    sample = np.random.default_rng(0).integers(0, MIB, 3000)
    np.testing.assert_array_equal(t[sample], rounded(exact(int(i), MIB, 512) for i in sample))


@pytest.mark.parametrize("sampling", coordinates.SAMPLINGS.values())
def test_positions_are_float32_and_never_decrease(sampling):
    t = positions(0, MIB, MIB, 512, sampling)
    assert t.dtype == np.float32
    assert (np.diff(t) >= 0).all()
    assert (np.diff(positions(0, 4096, 4096, 512, sampling)) > 0).all()
