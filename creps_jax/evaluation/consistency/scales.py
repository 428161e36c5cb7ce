"""One image in two sizes, which should be the same picture.

Images [h, w, C] in [-1, 1]. Scale is the size in training sizes, stretch s as in resampling.py.
"""

import numpy as np

from creps_jax.evaluation.consistency.pictures import Picture, grid, share
from creps_jax.evaluation.consistency.resampling import resample, valid_places
from creps_jax.rendering.frame import antialiasing

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # of SSIM


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity of two images (Wang et al. 2004, eq. 13).

    They are clipped to [-1, 1] and brought to [0, 1], whose range L is 1. Gaussian windows of
    11 x 11 px, sigma 1.5, that lie within the image; C1 = (.01 L)^2, C2 = (.03 L)^2; the mean over
    windows and channels.

    Raises:
      ValueError: the images are smaller than a window.
    """
    if min(a.shape[:2]) < WINDOW:
        raise ValueError(
            f"SSIM needs images of {WINDOW} x {WINDOW} px at least, got {a.shape[0]} x {a.shape[1]}"
        )
    a, b = ((np.clip(image, -1, 1) + 1) / 2 for image in (a, b))
    mean_a, mean_b = _in_windows(a), _in_windows(b)
    var_a, var_b = _in_windows(a * a) - mean_a**2, _in_windows(b * b) - mean_b**2
    covariance = _in_windows(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean())


def _in_windows(image: np.ndarray) -> np.ndarray:
    """Gaussian means of all windows: [h, w, C] -> [h - 10, w - 10, C]."""
    kernel = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = np.lib.stride_tricks.sliding_window_view(image, WINDOW, axis) @ kernel
    return image


def between_scales(
    picture: Picture, size: tuple[int, int], samples: tuple[int, int] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """The smaller of the native picture and one of this size, and the larger as small: two images.

    A pixel of that size is the mean of so many samples. The larger is brought down by resample(),
    over the whole frame, its edge pixels repeated.
    """
    small, large = picture.sized(size, samples), picture.native()
    if size[0] >= picture.shape[0]:
        small, large = large, small
    s = large.shape[0] / small.shape[0]
    return small, resample(large, *grid(small.shape[:2], large.shape[:2]), s)


def self_ssim(picture: Picture, scale: float) -> float:
    """SSIM of one image in two sizes, as SelfSSIM in ScaleParty (arXiv:2204.02273) and CREPS.

    The native picture against one of scale times its size, the larger brought down to the smaller
    by the filter of resampling.py. A picture below the native size is painted as the renderer does
    by default, of several samples a pixel.
    """
    size = _scaled(picture, scale)
    return ssim(*between_scales(picture, size, antialiasing(size, picture.shape)))


def aliasing(picture: Picture, scale: float) -> float:
    """How much of a picture of scale < 1 times the native size should not be there: a ratio.

    Painted with one sample a pixel, all detail between the two sizes' Nyquist frequencies is folded
    down: the energy of the difference to the native picture low-passed and decimated, over the
    small picture's own without the mean.
    """
    return misfit(picture, _scaled(picture, scale))


def aliasing_rendered(picture: Picture, scale: float) -> float:
    """The same as the renderer paints by default: of several samples a pixel.

    The difference is then also what their mean, a box filter, blurs.
    """
    size = _scaled(picture, scale)
    return misfit(picture, size, antialiasing(size, picture.shape))


def misfit(picture: Picture, size: tuple[int, int], samples: tuple[int, int] = (1, 1)) -> float:
    """Energy of a smaller picture's difference to the ideal, over its own without the mean."""
    small, ideal = between_scales(picture, size, samples)
    valid = valid_places([grid(size, picture.shape)], picture.shape, picture.shape[0] / size[0])
    signal = np.square(small[valid] - small[valid].mean(axis=0)).mean()
    return share(np.square(small[valid] - ideal[valid]).mean(), signal)


def _scaled(picture: Picture, scale: float) -> tuple[int, int]:
    height, width = (round(n * scale) for n in picture.shape)
    return height, width
