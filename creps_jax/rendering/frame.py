"""The frame: the whole image as height x width pixels, also where these two differ.

A window is cut out of it. Pixels (y, x) of the frame, windows half-open.
"""

import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from creps_jax.model import coordinates
from creps_jax.rendering.windows import Window

MAX_SIDE_PX = 2**20  # Beyond it float32 positions no longer tell neighbouring pixels apart.


class Frame(NamedTuple):
    """A whole image of height x width pixels, and where its pixels are.

    y and x give the positions of the rows and of the columns start <= i < stop: float32.
    """

    height: int
    width: int
    y: Callable[[int, int], np.ndarray]
    x: Callable[[int, int], np.ndarray]


def make_frame(
    size: tuple[int, int],
    trained: tuple[int, int],
    sampling: coordinates.Sampling = coordinates.centers,
) -> Frame:
    """The whole image as height x width pixels.

    Args:
      trained: height and width of the training images, px.

    Raises:
      ValueError: a side is not from 1 to MAX_SIDE_PX, or too small for the sampling.
    """
    for side, r in zip(size, trained, strict=True):
        if not 1 <= side <= MAX_SIDE_PX:
            raise ValueError(
                f"size={size[0]}x{size[1]} (height x width) must be from 1 to {MAX_SIDE_PX} px "
                "a side, beyond which float32 positions no longer tell neighbouring pixels apart"
            )
        coordinates.positions(0, 1, side, r, sampling)

    def axis(n: int, r: int) -> Callable[[int, int], np.ndarray]:
        return lambda start, stop: coordinates.positions(start, stop, n, r, sampling)

    return Frame(*size, *map(axis, size, trained))


def resolve_window(window: tuple[int, int, int, int] | None, size: tuple[int, int]) -> Window:
    """The window; None: the whole frame of size (height, width), px.

    Raises:
      ValueError: the window is empty or not inside the frame.
    """
    height, width = size
    corners = (0, 0, height, width) if window is None else window
    if np.shape(corners) != (4,) or not all(isinstance(n, numbers.Integral) for n in corners):
        raise ValueError(f"window={window!r} must be (y0, x0, y1, x1) in whole px")
    y0, x0, y1, x1 = map(int, corners)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(
            f"y0,x0,y1,x1 = {y0},{x0},{y1},{x1} must satisfy 0 <= y0 < y1 <= {height} and "
            f"0 <= x0 < x1 <= {width}: the frame is {height} px high and {width} px wide"
        )
    return Window(y0, x0, y1, x1)


def antialiasing(size: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """Samples a pixel and axis, two a training pixel: 1 from the training images' size on.

    Half as many leave errors of some 8-bit steps: experiments/aliasing.py.
    """
    return tuple(1 if n >= r else math.ceil(2 * r / n) for n, r in zip(size, trained, strict=True))


def in_frame(window: Window, supersample: tuple[int, int]) -> Window:
    """The window of a picture in pixels of its frame."""
    return Window(*(n * k for n, k in zip(window, supersample * 2, strict=True)))
