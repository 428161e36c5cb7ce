"""Distances of sets of features, against other ways to compute them and against theory."""

import numpy as np
import pytest
import scipy.linalg

from creps_jax.evaluation import distances, metrics

MIX = np.random.default_rng(9).normal(size=(6, 6))


def draw(count, seed=0, scale=1.0, shift=0.0):
    return scale * np.random.default_rng(seed).normal(size=(count, 6)) @ MIX + shift


@pytest.mark.parametrize("counts", [(300, 500), (5, 300), (300, 4)])
def test_the_frechet_distance_is_that_of_the_two_normal_distributions(counts):
    """By SciPy's square root of a matrix; also where covariances are singular."""
    x, y = draw(counts[0], scale=0.8), draw(counts[1], seed=1, shift=0.3)
    s, t = np.cov(x.T), np.cov(y.T)
    d = x.mean(axis=0) - y.mean(axis=0)
    root = scipy.linalg.sqrtm(scipy.linalg.sqrtm(s) @ t @ scipy.linalg.sqrtm(s)).real
    expected = d @ d + np.trace(s + t - 2 * root)
    assert distances.frechet(x, y).mean() == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself_and_far_from_noise():
    x = draw(400)
    halves, noise = (x[::2], x[1::2]), draw(400, scale=3, shift=2)
    assert abs(distances.frechet(x, x).mean()) < 1e-10
    assert distances.frechet(*halves).mean() < 0.05 * distances.frechet(x, noise).mean()
    assert abs(distances.kernel(*halves).mean()) < 0.05 * distances.kernel(x, noise).mean()
    same, other = distances.manifolds(x, x), distances.manifolds(x, noise + 100)
    shares = same.precision.mean(), same.recall.mean(), same.coverage.mean()
    assert shares == pytest.approx((1, 1, 1))
    assert same.density.mean() > 1
    assert [each.mean() for each in other] == pytest.approx([0, 0, 0, 0])


def slow_kernel(x, y, block=100):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    def others(z):
        blocks = -(-len(z) // block)
        means = []
        for i in range(len(z)):
            of_block = [j for j in range(i % blocks, len(z), blocks) if j != i]
            means.append(np.mean([k(z[i], z[j]) for j in of_block]))
        return np.mean(means)

    return others(x) + others(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_the_kernel_distance_is_its_formula_and_unbiased(monkeypatch):
    x, y = draw(12), draw(15, seed=1)
    assert distances.kernel(x, y).mean() == pytest.approx(slow_kernel(x, y))
    found = [distances.kernel(draw(20, 2 * i), draw(30, 2 * i + 1)).mean() for i in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20 and np.min(found) < 0
    monkeypatch.setattr(distances, "BLOCK", 10)
    assert distances.kernel(x, y).mean() == pytest.approx(slow_kernel(x, y, block=10))


def test_balls_of_neighbours_hold_what_they_should():
    """On a line: reals at 0, 10, ..., 90; a ball reaches 20 (30 at the ends), 30 (to 50)."""
    reals = np.arange(0.0, 100, 10)[:, None]
    near, far = np.array([[15.0]] * 6), np.array([[115.0]] * 6)
    found = distances.manifolds(np.concatenate([near, far]), reals)
    np.testing.assert_array_equal(found.precision, [1] * 6 + [1] * 6)
    far = far + 6  # 121: 31 from the last real, whose 3rd neighbour is 30 away, the 5th 50.
    found = distances.manifolds(np.concatenate([near, far]), reals)
    np.testing.assert_array_equal(found.precision, [1] * 6 + [0] * 6)
    # The 5th neighbours of 0, 10, ... are 50, 40, 30, ..., 30, 40, 50 away.
    of_near = sum(abs(15 - x) <= r for x, r in zip(range(0, 100, 10), RADII, strict=True)) / 5
    of_far = sum(abs(121 - x) <= r for x, r in zip(range(0, 100, 10), RADII, strict=True)) / 5
    np.testing.assert_array_equal(found.density, [of_near] * 6 + [of_far] * 6)
    assert found.recall.mean() == pytest.approx(0)  # Equal fakes have no balls.
    held = [
        abs(15 - x) <= r or abs(121 - x) <= r for x, r in zip(range(0, 100, 10), RADII, strict=True)
    ]
    assert found.coverage.mean() == pytest.approx(np.mean(held))


RADII = (50, 40, 30, 30, 30, 30, 30, 30, 40, 50)


def test_the_inception_score_of_certain_and_of_equal_classes():
    certain = 50 * np.eye(10)[np.arange(200) // 20]  # All ten in each of the ten parts.
    assert distances.inception_score(certain).mean() == pytest.approx(10)
    assert distances.inception_score(np.zeros((50, 10))).mean() == pytest.approx(1)


@pytest.mark.parametrize(
    "measure", [distances.frechet, distances.kernel, distances.manifolds, distances.inception_score]
)
def test_too_few_images_are_refused(measure):
    both = (draw(1), draw(100)) if measure is not distances.inception_score else (draw(9),)
    with pytest.raises(ValueError, match=r"\d+ images .*are needed at least; there are \d fakes"):
        measure(*both)


def recall(fakes, reals):
    return distances.manifolds(fakes, reals).recall


def coverage(fakes, reals):
    return distances.manifolds(fakes, reals).coverage


@pytest.mark.parametrize("measure", [distances.frechet, distances.kernel, recall, coverage])
def test_the_interval_is_what_other_images_would_have_given(measure):
    """95 % of the figures of other draws lie about as wide as the bootstrap says."""
    reals = draw(600, seed=1, scale=1.3, shift=0.2)
    figures = [measure(draw(200, seed=seed), reals).mean() for seed in range(2, 102)]
    low, high = np.quantile(figures, [0.025, 0.975])
    found = [metrics.figure(measure(draw(200, seed=s), reals), float) for s in range(2, 8)]
    widths = [each.high - each.low for each in found]
    assert 0.7 < np.mean(widths) / (high - low) < 1.4
    assert all(each.low < each.value < each.high for each in found)
