"""How far a set of images is from another, by what a network sees in them.

Features of n fakes and m reals, [n, d] and [m, d], float64, on the host. Each measure gives a value
of each fake; its figure is their mean. Where a figure is no mean (a distance of Gaussians, say)
the values are the figure plus the influence of each fake on it (Hampel 1974), so that the bootstrap
of their mean is that of the figure to the first order: in no time, and without the bias that
images drawn twice would bring. Where even that is not to be had, they are of groups of fakes: the
jackknife's.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.special import log_softmax

Array = np.ndarray

BLOCK = 2000  # Images of a set that kernel() compares with one another.
GROUPS = 20  # Of fakes, one of which is left out at a time.
NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5  # As in the two papers.
SPLITS = 10  # Of inception scores, as they are published.
_ROWS = 1000  # Of distances in memory at a time.


def frechet(fakes: Array, reals: Array) -> Array:
    """The Frechet distance of the two normal distributions (Heusel et al. 2017, eq. 6): [n].

    |m - mu|^2 + tr S + tr T - 2 tr (S T)^(1/2), S and T the covariances. With S = A' A and
    T = B' B the last trace is the sum of the singular values of A B', which no rounding makes
    complex; A and B are the R of QR of the centred features.

    Raises:
      ValueError: there are fewer than two of either.
    """
    _check_count(fakes, reals, 2)
    difference = fakes.mean(axis=0) - reals.mean(axis=0)
    x, y = (each - each.mean(axis=0) for each in (fakes, reals))
    of_fakes, of_reals = len(x) - 1, len(y) - 1
    q, a = np.linalg.qr(x)
    u, s, _ = scipy.linalg.svd(a @ np.linalg.qr(y, mode="r").T, full_matrices=False)
    s = s / np.sqrt(of_fakes * of_reals)
    squares = np.square(x).sum(axis=1)
    value = difference @ difference - 2 * s.sum()
    value += squares.sum() / of_fakes + np.square(y).sum() / of_reals
    # d/dm = 2 (m - mu); d/dS = I - M, M the matrix that moves the one normal to the other.
    moved = of_fakes * (np.square(q @ u) @ s)
    return _with_influence(value, 2 * x @ difference + squares - moved)


def kernel(fakes: Array, reals: Array) -> Array:
    """The squared maximum mean discrepancy, unbiased (Binkowski et al. 2018, eq. 4): [n].

    Of the polynomial kernel (x y / d + 1)^3. Each fake is compared with every real; within a set
    images are compared with those of their block, of 2,000 at most, each in one of them.

    Raises:
      ValueError: there are fewer than two of either.
    """
    _check_count(fakes, reals, 2)
    across = np.zeros(len(fakes))
    for x, place in _blocks(fakes):
        for y, _ in _blocks(reals):
            across[place] += _polynomial(x, y).sum(axis=1) / len(reals)
    within = _within_blocks(fakes)
    value = within.mean() + _within_blocks(reals).mean() - 2 * across.mean()
    return _with_influence(value, 2 * (within - across))


class Manifolds(NamedTuple):
    """How far the balls around images of one set hold those of the other."""

    precision: Array  # [n], whether a fake is in the ball of a real
    recall: Array  # [groups], of the share of reals that are in the ball of a fake
    density: Array  # [n], in how many balls of reals a fake is, over 5
    coverage: Array  # [groups], of the share of reals in whose ball a fake is


def manifolds(fakes: Array, reals: Array) -> Manifolds:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball reaches to its image's 3rd neighbour in its own set, for density and coverage to the 5th.

    Raises:
      ValueError: there are no more images than neighbours.
    """
    _check_count(fakes, reals, DENSITY_NEIGHBOURS + 1)
    of_fakes, _ = _radii(fakes)
    narrow, wide = _radii(reals)
    precision, density = np.empty(len(fakes)), np.empty(len(fakes))
    groups = min(GROUPS, len(fakes))
    recalled, covered = np.zeros((2, groups, len(reals)), int)  # By how many fakes of a group.
    for rows, squares in _squared_distances(fakes, reals):
        precision[rows] = (squares <= narrow).any(axis=1)
        density[rows] = (squares <= wide).sum(axis=1) / DENSITY_NEIGHBOURS
        for group in range(groups):
            some = slice((group - rows.start) % groups, None, groups)
            recalled[group] += (squares[some] <= of_fakes[rows][some, None]).sum(axis=0)
            covered[group] += (squares[some] <= wide).sum(axis=0)
    return Manifolds(precision, _without_each(recalled), density, _without_each(covered))


def _without_each(counts: Array) -> Array:
    """The share of reals that some fake counts, as the jackknife's values of groups of fakes.

    counts [groups, m]: how many fakes of each group count a real. The mean of the values is the
    share; how they scatter is how it changes when a group is left out.
    """
    total = counts.sum(axis=0)
    without = (total > counts).mean(axis=1)
    return _with_influence((total > 0).mean(), -(len(counts) - 1) * without)


def inception_score(logits: Array) -> Array:
    """exp of the mean divergence of an image's classes from all images' (Salimans et al. 2016).

    logits [n, classes] -> [n]; the mean over 10 parts of the images.

    Raises:
      ValueError: there are fewer images than parts.
    """
    if len(logits) < SPLITS:
        raise ValueError(f"{SPLITS} images are needed at least; there are {len(logits)} fakes")
    values = np.empty(len(logits))
    for i in range(SPLITS):
        logs = log_softmax(logits[i::SPLITS], axis=1)
        classes = np.exp(logs)
        divergence = (classes * (logs - np.log(classes.mean(axis=0)))).sum(axis=1)
        score = np.exp(divergence.mean())
        values[i::SPLITS] = _with_influence(score, score * divergence)
    return values


def _with_influence(value: float, influence: Array) -> Array:
    return value + influence - influence.mean()


def _check_count(fakes: Array, reals: Array, least: int) -> None:
    if min(len(fakes), len(reals)) < least:
        raise ValueError(
            f"{least} images of each kind are needed at least; there are {len(fakes)} fakes and "
            f"{len(reals)} reals"
        )


def _blocks(x: Array) -> Iterator[tuple[Array, slice]]:
    """Parts of at most BLOCK images, all but of one size, and where they are."""
    count = -(-len(x) // BLOCK)
    for i in range(count):
        yield x[i::count], slice(i, None, count)


def _within_blocks(x: Array) -> Array:
    """The mean similarity of each image and the others of its block: [n]."""
    values = np.empty(len(x))
    for some, place in _blocks(x):
        values[place] = _mean_of_others(_polynomial(some, some))
    return values


def _polynomial(x: Array, y: Array) -> Array:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # NumPy's ** 3 takes ten times as long.


def _mean_of_others(similarity: Array) -> Array:
    """The mean of each row without its image itself: [n, n] -> [n]."""
    return (similarity.sum(axis=1) - similarity.diagonal()) / (len(similarity) - 1)


def _radii(x: Array) -> tuple[Array, Array]:
    """Squared distances to an image's 3rd and 5th neighbour in its set: [n] each."""
    radii = np.empty((2, len(x)))
    places = NEIGHBOURS, DENSITY_NEIGHBOURS
    for rows, squares in _squared_distances(x, x):
        squares[np.arange(len(squares)), np.arange(len(x))[rows]] = -np.inf  # Itself comes first.
        radii[:, rows] = np.partition(squares, places, axis=1)[:, places].T
    return radii[0], radii[1]


def _squared_distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Some rows at a time, and |x - y|^2 of them, at least 0: [rows, m]."""
    squares = np.square(y).sum(axis=1)
    for start in range(0, len(x), _ROWS):
        some = x[start : start + _ROWS]
        found = np.square(some).sum(axis=1)[:, None] + squares - 2 * some @ y.T
        yield slice(start, start + len(some)), np.maximum(found, 0)
