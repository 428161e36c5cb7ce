"""A picture under a map: where in the image each of its pixels is.

Notation of maps.py; t a position (coordinates.py).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from creps_jax.model import coordinates
from creps_jax.rendering.frame import Frame
from creps_jax.rendering.warp.maps import Map, broadcasts
from creps_jax.rendering.warp.tables import Range
from creps_jax.rendering.windows import Blocks, Window

OVERVIEW = 65  # points a side at which a map is looked at as a whole
FAR = 1e30  # positions that are looked at: float32 holds them


class Warped(NamedTuple):
    """A picture of `size` px whose pixel (h, w) shows the frame's pixel warp(h, w).

    trained, the height and width of the training images, and sampling say where in the image the
    frame's pixels are (coordinates.py); a pixel is the mean of supersample rows and columns of
    samples.
    """

    size: tuple[int, int]
    warp: Map
    trained: tuple[int, int]
    sampling: coordinates.Sampling = coordinates.centers
    supersample: tuple[int, int] = (1, 1)

    def samples(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Where the samples start <= i < stop of an axis lie, px: float64.

        Beyond the picture, where tiles reach and a warp need not be defined, they are at its edge.
        """
        at = (np.arange(start, stop) + 0.5) / self.supersample[axis] - 0.5
        return np.clip(at, -0.5, self.size[axis] - 0.5)

    def positions(self, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y and x of the pixels (h, w), arrays that broadcast, fractions allowed: float64."""
        shape = np.broadcast_shapes(h.shape, w.shape)
        with np.errstate(all="ignore"):  # What is not finite is found where it matters.
            moved = [np.broadcast_to(at, shape) for at in self.warp(h, w, self.size)]
            y, x = (
                self.sampling(at.astype(np.float64), n, r)
                for at, n, r in zip(moved, self.size, self.trained, strict=True)
            )
        return y, x


def separable_frame(picture: Warped) -> Frame | None:
    """The picture as a frame, whose lines are exact; None if rows and columns mix.

    They do not if what the warp gives for i broadcasts to a column, and j to a row.
    """
    h, w = (np.linspace(0, n - 1, 2) for n in picture.size)
    with np.errstate(all="ignore"):
        i, j = picture.warp(h[:, None], w[None, :], picture.size)
    if not (broadcasts(np.shape(i), (2, 1)) and broadcasts(np.shape(j), (1, 2))):
        return None

    def axis(k: int) -> Callable[[int, int], np.ndarray]:
        def positions(start: int, stop: int) -> np.ndarray:
            at, zero = picture.samples(k, start, stop), np.zeros((1, 1))
            h, w = (at[:, None], zero) if k == 0 else (zero, at[None, :])
            with np.errstate(over="ignore"):
                t = picture.positions(h, w)[k].ravel().astype(np.float32)
            if not np.isfinite(t).all():
                raise ValueError(
                    f"the warp gives no finite position at {at[~np.isfinite(t)][0]:g}"
                    f" px of axis {k} of the {picture.size[0]}x{picture.size[1]} picture"
                )
            return t

        return positions

    height, width = (n * k for n, k in zip(picture.size, picture.supersample, strict=True))
    return Frame(height, width, axis(0), axis(1))


def reach(picture: Warped, window: Window) -> tuple[Range, Range]:
    """The positions y and x of all samples of a window."""
    lows, highs = [], []
    samples = Window(*(n * k for n, k in zip(window, picture.supersample * 2, strict=True)))
    # Some at a time: a window may be a whole picture.
    for y0, x0, y1, x1 in Blocks(samples):
        h, w = picture.samples(0, y0, y1), picture.samples(1, x0, x1)
        both = np.stack(picture.positions(h[:, None], w[None, :]))
        if not np.isfinite(both).all():
            _, i, j = np.argwhere(~np.isfinite(both))[0]
            raise ValueError(
                f"the warp gives no finite position at pixel ({h[i]:g}, {w[j]:g}) of the "
                f"{picture.size[0]}x{picture.size[1]} picture"
            )
        lows.append(both.min(axis=(1, 2)))
        highs.append(both.max(axis=(1, 2)))
    y, x = map(Range, np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist())
    return y, x


def overview(picture: Warped) -> tuple[Range, Range]:
    """About the positions y and x of a whole picture, whatever window is asked for.

    Those of the image, 0 to 1, are always among them.
    """
    h, w = (np.linspace(0, n - 1, OVERVIEW) for n in picture.size)
    both = picture.positions(h[:, None], w[None, :])
    y, x = (
        Range(float(t.min(initial=0.0)), float(t.max(initial=1.0)))
        for t in (np.clip(t[np.isfinite(t)], -FAR, FAR) for t in both)
    )
    return y, x


def join(ranges: Sequence[tuple[Range, Range]]) -> tuple[Range, Range]:
    """The least ranges of y and of x that hold all the given."""
    y, x = (
        Range(min(part.low for part in parts), max(part.high for part in parts))
        for parts in zip(*ranges, strict=True)
    )
    return y, x
