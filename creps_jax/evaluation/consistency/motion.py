"""One image painted elsewhere, turned and enlarged, which should be the same picture moved.

Images [h, w, C] in [-1, 1]; places u, v and stretch s as in resampling.py.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from creps_jax.evaluation.consistency.pictures import Picture, grid, share
from creps_jax.evaluation.consistency.resampling import Places, resample, valid_places
from creps_jax.evaluation.consistency.spectra import decibels

Random = np.random.Generator

# Where the pixels of the transformed picture are in the native one, and how many px apart at
# least, drawn at random: (shape, random) -> u, v, s.
Transform = Callable[[tuple[int, int], Random], tuple[np.ndarray, np.ndarray, float]]

FARTHEST = 1 / 8  # of a side, translations, as in StyleGAN3
MIXED, MIXED_ROW = 4096, 64  # places of a picture that are compared at most; at a time
FRAMES, STEP_PX, STUCK_S = 16, 0.5, 1.5  # of the sticking test: 7.5 px in all; low-pass


def translate(shape: tuple[int, int], random: Random) -> tuple[np.ndarray, np.ndarray, float]:
    """By up to 1/8 of the sides, uniformly."""
    (u, v), farthest = grid(shape, shape), FARTHEST * np.array(shape)
    down, across = random.uniform(-farthest, farthest)
    return u - down, v - across, 1.0


def translate_whole(shape: tuple[int, int], random: Random) -> tuple[np.ndarray, np.ndarray, float]:
    """By whole pixels, up to 1/8 of the sides."""
    (u, v), farthest = grid(shape, shape), (FARTHEST * np.array(shape)).astype(int)
    down, across = random.integers(-farthest, farthest, endpoint=True)
    return u - down, v - across, 1.0


def rotate(shape: tuple[int, int], random: Random) -> tuple[np.ndarray, np.ndarray, float]:
    """About the centre by any angle, uniformly."""
    angle, (h, w) = random.uniform(-np.pi, np.pi), ((n - 1) / 2 for n in shape)
    u, v = grid(shape, shape)
    cos, sin = math.cos(angle), math.sin(angle)
    return h + cos * (u - h) - sin * (v - w), w + sin * (u - h) + cos * (v - w), 1.0


def zoom(shape: tuple[int, int], random: Random) -> tuple[np.ndarray, np.ndarray, float]:
    """About the centre by 1/2 to 2, uniform in the logarithm; low-passed where it shrinks."""
    s, (h, w) = 2 ** random.uniform(-1, 1), ((n - 1) / 2 for n in shape)
    u, v = grid(shape, shape)
    return h + s * (u - h), w + s * (v - w), max(s, 1.0)


def squared_error(picture: Picture, random: Random, transform: Transform) -> float:
    """Mean of (g(transform(z)) - transform(g(z)))^2 over the pixels valid in both and channels.

    The E of StyleGAN3's EQ-T and EQ-R (arXiv:2106.12423, section 2.2); theirs is an integer
    translation, where the comparison needs no filter. g(transform(z)) is the picture painted at
    the transform's places, transform(g(z)) the native one resampled there. Where rows and columns
    mix, each place has two lines of its own: of large pictures it is the mean over some of them.
    """
    u, v, s = transform(picture.shape, random)
    valid = valid_places([(u, v)], picture.shape, s)
    if u.shape == v.shape and valid.sum() > MIXED:
        some = random.choice(np.flatnonzero(valid), MIXED, replace=False).reshape(-1, MIXED_ROW)
        u, v, valid = u.flat[some], v.flat[some], np.ones_like(some, bool)
    difference = picture.at(u, v) - resample(picture.native(), u, v, s)
    return float(np.square(difference[valid]).mean())


def psnr(squared_error: float) -> float:
    """10 log10(I_max^2 / squared error), dB, of images in [-1, 1]: I_max = 2."""
    return -float(decibels(squared_error / 4))


def sticking(picture: Picture, random: Random) -> float:
    """How much of a picture that moves stays on the screen's pixels: 0 nothing, 1 everything.

    StyleGAN3 (arXiv:2106.12423, fig. 1) shows it; the number is ours. The picture is painted in 16
    places, half a pixel further each time in one direction. F is the mean over pixels of a pixel's
    variance over these frames, 0 if all sticks; M is the same of the frames moved back, 0 if all
    moves. The result is M / (F + M): of a stuck and a moving texture that are independent it is the
    energy of the first over that of both. Both are of frames low-passed to 1/3 cycle a pixel, where
    the filter is nearly exact, so that what the training pixels alias remains.
    """
    angle, (u, v) = random.uniform(-np.pi, np.pi), grid(picture.shape, picture.shape)
    moves = STEP_PX * np.arange(FRAMES)[:, None] * (math.sin(angle), math.cos(angle))
    back = [(u - down, v - across) for down, across in moves]
    frames = [picture.at(u + down, v + across) for down, across in moves]
    valid = valid_places([(u, v), *back], picture.shape, STUCK_S)

    def variance(places: Iterable[Places]) -> np.floating:
        seen = (resample(frame, *at, STUCK_S) for frame, at in zip(frames, places, strict=True))
        return np.var([frame[valid] for frame in seen], axis=0).mean()

    fixed, moved = variance([(u, v)] * FRAMES), variance(back)
    return share(moved, fixed + moved)
