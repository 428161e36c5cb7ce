"""What to paint of an image: how large, which part of it, and where in the image its pixels are."""

from typing import NamedTuple

import numpy as np

from creps_jax.arguments import about
from creps_jax.model import coordinates
from creps_jax.rendering.checks import check_sampling, is_whole
from creps_jax.rendering.frame import MAX_SIDE_PX, Frame, antialiasing, make_frame, resolve_window
from creps_jax.rendering.warp import maps
from creps_jax.rendering.warp.warped import Warped, separable_frame
from creps_jax.rendering.windows import Window


class Plan(NamedTuple):
    """What is painted of an image, checked: see make_plan()."""

    trained: tuple[int, int]
    size: tuple[int, int]
    window: Window
    sampling: coordinates.Sampling
    supersample: tuple[int, int]
    warp: maps.Map | None

    def frame(self) -> Frame | None:
        """The frame whose lines are the picture's; None if each pixel has lines of its own."""
        if self.warp is not None:
            return separable_frame(self.warped())
        fine = tuple(n * k for n, k in zip(self.size, self.supersample, strict=True))
        return make_frame(fine, self.trained, self.sampling)

    def warped(self) -> Warped:
        """The picture under its warp."""
        return Warped(self.size, self.warp, self.trained, self.sampling, self.supersample)


def make_plan(
    trained: tuple[int, int],
    size: int | tuple[int, int] | None = None,
    window: tuple[int, int, int, int] | None = None,
    sampling: str | coordinates.Sampling = coordinates.centers,
    supersample: int | None = None,
    warp: str | maps.Map | None = None,
) -> Plan:
    """What to paint of an image.

    Args:
      trained: height and width of the training images, px.
      size: height and width of the frame, px; a number: the height, the width being in
        proportion to the training images'; None: the training images' own.
      window: y0, x0, y1, x1 in pixels of the frame, half-open; None: all of it.
      sampling: where in the image the frame's pixels are, or a name of coordinates.SAMPLINGS.
      supersample: a pixel is the mean of k x k; None: of 1, but for pixel centres below the
        training images' size of two a training pixel, so that small images are not aliased.
      warp: (h, w, size) -> (i, j): pixel (h, w) shows what is at (i, j) without it; float64
        px, h [H, 1] and w [1, W]. If i is [H, 1] and j [1, W], all lines are exact; else they
        are interpolated. See the functions of warp/maps.py; 'rotate:30' is one of them.

    Raises:
      ValueError: says which argument is out of range, its value and what it must be.
    """
    with about("size"):
        size = resolve_size(size, trained)
    with about("sampling"):
        sampling = check_sampling(sampling, size, trained)
    with about("warp"):
        warp = None if warp is None else maps.check(warp, size)
    with about("size"):
        make_frame(size, trained, sampling)
    with about("window"):
        whole = resolve_window(window, size)
    with about("supersample"):
        factors = resolve_supersample(supersample, size, trained, sampling)
    return Plan(trained, size, whole, sampling, factors, warp)


def resolve_size(size: int | tuple[int, int] | None, trained: tuple[int, int]) -> tuple[int, int]:
    """Height and width, px, of what make_plan() takes for a size.

    Raises:
      ValueError: it is no size.
    """
    if size is None:
        return trained
    if is_whole(size):
        height, width = trained
        if not 1 <= size <= MAX_SIDE_PX:
            raise ValueError(f"size={size} must be from 1 to {MAX_SIDE_PX} px")
        return int(size), max(1, round(int(size) * width / height))
    if np.shape(size) != (2,) or not all(map(is_whole, size)):
        raise ValueError(f"size={size!r} must be (height, width) in whole px, or one number")
    return int(size[0]), int(size[1])


def resolve_supersample(
    supersample: int | None,
    size: tuple[int, int],
    trained: tuple[int, int],
    sampling: coordinates.Sampling,
) -> tuple[int, int]:
    """Rows and columns of samples that a pixel is the mean of.

    Raises:
      ValueError: it is no number of samples, or so many need too large a frame.
    """
    if supersample is None:
        factors = antialiasing(size, trained) if sampling is coordinates.centers else (1, 1)
    elif not is_whole(supersample) or supersample < 1:
        raise ValueError(f"supersample={supersample!r} must be a whole number from 1 up")
    else:
        factors = int(supersample), int(supersample)
    fine = tuple(n * k for n, k in zip(size, factors, strict=True))
    if max(fine) > MAX_SIDE_PX:
        raise ValueError(
            f"supersample={factors[0]}x{factors[1]} of size={size[0]}x{size[1]} needs a frame "
            f"of {fine[0]}x{fine[1]} px, more than {MAX_SIDE_PX} a side"
        )
    return factors
