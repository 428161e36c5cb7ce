"""Power-function averages: each its definition, and all lengths from two that are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.training import averages
from creps_jax.training.averages import EXPONENTS, Profile, exponent, moved, weights

STEPS = 600
VALUES = np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 4)), axis=0).astype(np.float32)


def weighted(values, power):
    """By the definition, in float64: each step's share is what is left by all that follow."""
    total = np.zeros(values.shape[1])
    for t, value in enumerate(values.astype(np.float64), 1):
        total += (1 - (1 - 1 / t) ** (power + 1)) * (value - total)
    return total


@pytest.fixture(scope="module")
def snapshots():
    """Profiles and averages at every 50th step."""
    found, kept, step = (jnp.zeros(4),) * 2, [], jax.jit(moved)
    for t, value in enumerate(VALUES, 1):
        found = step(found, value, jnp.int32(t))
        if t % 50 == 0:
            kept += [(Profile(g, t), a) for g, a in zip(EXPONENTS, found, strict=True)]
    return kept


def test_exponents_have_the_lengths_that_they_are_told_by():
    for sigma, power in zip((*averages.SIGMAS, 0.2), (*EXPONENTS, exponent(0.2)), strict=True):
        s = (np.arange(100_000) + 0.5) / 100_000
        profile = (power + 1) * s**power / len(s)
        mean = (profile * s).sum()
        assert np.sqrt((profile * (s - mean) ** 2).sum()) == pytest.approx(sigma, rel=1e-3)
    for sigma in (0, 0.3):
        with pytest.raises(ValueError, match=f"sigma={sigma} must be between 0 and 0.2887"):
            exponent(sigma)


def test_averages_are_their_definition(snapshots):
    for profile, average in snapshots:
        expected = weighted(VALUES[: profile.step], profile.exponent)
        np.testing.assert_allclose(average, expected, atol=1e-4)


@pytest.mark.parametrize(("sigma", "error"), [(0.05, 1e-3), (0.1, 1e-3), (0.07, 0.05), (0.15, 0.1)])
def test_other_lengths_are_sums_of_the_kept(snapshots, sigma, error):
    profiles, arrays = zip(*snapshots, strict=True)
    found, misfit = weights(profiles, Profile(exponent(sigma), STEPS))
    assert found.sum() == pytest.approx(1) and misfit < 0.1
    expected = weighted(VALUES, exponent(sigma))
    np.testing.assert_allclose(found @ np.stack(arrays), expected, atol=error)


@pytest.mark.parametrize("sigma", [0.02, 0.2, 0.25])
def test_few_snapshots_shrink_nothing_and_their_misfit_is_told(snapshots, sigma):
    few = [profile for profile, _ in snapshots if profile.step % (STEPS // 4) == 0]
    wanted = Profile(exponent(sigma), STEPS)
    found, misfit = weights(few, wanted)
    assert found.sum() == pytest.approx(1)
    s = (np.arange(STEPS * 100) + 0.5) / 100

    def density(profile):
        g, t = profile
        return (g + 1) * s**g / t ** (g + 1) * (s < t)

    off = sum(w * density(p) for w, p in zip(found, few, strict=True)) - density(wanted)
    expected = np.sqrt(np.square(off).sum() / np.square(density(wanted)).sum())
    assert misfit == pytest.approx(expected, rel=1e-2) and misfit > 0.05


def test_overlaps_are_integrals_of_products():
    a, b = Profile(3.0, 40.0), Profile(7.0, 25.0)
    s = (np.arange(400_000) + 0.5) / 10_000
    parts = [
        (p.exponent + 1) * s**p.exponent / p.step ** (p.exponent + 1) * (s < p.step) for p in (a, b)
    ]
    assert (
        a.overlap(b)
        == b.overlap(a)
        == pytest.approx((parts[0] * parts[1]).sum() / 10_000, rel=1e-4)
    )
