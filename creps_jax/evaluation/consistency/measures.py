"""How far an image is one function of position, whatever size, place and angle it is painted in.

No network judges here: pictures of one latent are compared with each other. CREPS paints shifted,
turned and scaled coordinates by construction, so where an image is painted elsewhere and compared
with its own training pixels resampled, what differs is what those pixels do not determine: detail
beyond their Nyquist frequency, that is aliasing, and the error of the filter (resampling.py). The
measures ask how band-limited the painted image is. Of a network with convolutions they would ask
that, and how well it follows its coordinates.

A measure gives a value of each image, so that the caller can make a mean and an interval of it.
Where filters need pixels beyond the frame, pixels do not count; 32 px a side are enough.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from creps_jax.evaluation.consistency.motion import (
    Random,
    Transform,
    psnr,
    rotate,
    squared_error,
    sticking,
    translate,
    translate_whole,
    zoom,
)
from creps_jax.evaluation.consistency.paths import ppl
from creps_jax.evaluation.consistency.pictures import Picture, picture_of
from creps_jax.evaluation.consistency.scales import (
    WINDOW,
    aliasing,
    aliasing_rendered,
    self_ssim,
)
from creps_jax.evaluation.consistency.spectra import decibels
from creps_jax.model.generator import Generator, Variables

# (generator, variables, ws [N, num_ws, w_dim], seed) -> a value of each image, float64 [N].
Measure = Callable[[Generator, Variables, np.ndarray, int], np.ndarray]


class Metric(NamedTuple):
    """A measure of many images; its figure is in_unit(mean of the values)."""

    measure: Measure
    in_unit: Callable[[float], float]
    unit: str
    best: str  # "higher" or "lower"
    least_px: int = 32  # a side of the training images


def of_each(measure: Callable[[Picture, Random], float]) -> Measure:
    """The measure of many images; the random numbers of one depend on the seed and its place."""

    def measure_all(
        generator: Generator, variables: Variables, ws: np.ndarray, seed: int
    ) -> np.ndarray:
        randoms = (np.random.default_rng((seed, k)) for k in range(len(ws)))
        pictures = (picture_of(generator, variables, w) for w in ws)
        return np.array(list(map(measure, pictures, randoms)))

    return measure_all


def _at_scale(measure: Callable[[Picture, float], float], scale: float) -> Measure:
    return of_each(lambda picture, _: measure(picture, scale))


def _equivariance(transform: Transform) -> Metric:
    measure = functools.partial(squared_error, transform=transform)
    return Metric(of_each(measure), psnr, "dB", "higher")


def _decibels(ratio: float) -> float:
    return float(decibels(ratio))


# Names: self_ssim at 2 and at 1/2 times the training size; EQ-T by any translation and by whole
# pixels, which is StyleGAN3's and exact here but for rounding; EQ-R; EQ-Z, by zooms; at half the
# training size, what is folded down of one sample a pixel, and how far the renderer's default is
# from the ideal; path length in pixels.
METRICS = {
    "self_ssim": Metric(_at_scale(self_ssim, 2), float, "", "higher", WINDOW),
    "self_ssim_half": Metric(_at_scale(self_ssim, 1 / 2), float, "", "higher", 2 * WINDOW),
    "eq_t": _equivariance(translate),
    "eq_t_whole": _equivariance(translate_whole),
    "eq_r": _equivariance(rotate),
    "eq_z": _equivariance(zoom),
    "sticking": Metric(of_each(sticking), float, "", "lower"),
    "aliasing": Metric(_at_scale(aliasing, 1 / 2), _decibels, "dB", "lower"),
    "aliasing_rendered": Metric(_at_scale(aliasing_rendered, 1 / 2), _decibels, "dB", "lower"),
    "ppl": Metric(ppl, float, "", "lower", 1),
}
