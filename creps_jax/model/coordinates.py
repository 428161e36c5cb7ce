"""Where a pixel is: the one definition of the positions at which images are sampled.

Notation:
  r    number of pixels of the training images along that axis.
  n    number of pixels of the whole frame along one axis.
  i    index of a pixel along that axis, 0 <= i < n.
  t    position: 0 is the centre of the first training pixel, 1 that of the last.

The same formulas hold for rows (positions y) and for columns (positions x). They are evaluated
on the host in float64 from integer indices and rounded once to float32.
"""

from collections.abc import Callable

import numpy as np

Sampling = Callable[[np.ndarray, int, int], np.ndarray]


def centers(i: np.ndarray, n: int, r: int) -> np.ndarray:
    """Pixel centres of the frame [-1/(2(r-1)), 1 + 1/(2(r-1))]: t = ((2i+1)r - n) / (2n(r-1)).

    At n = r this is i/(r-1), the training grid; pixels of a k times larger frame lie evenly
    inside the pixels of the smaller one.
    """
    return ((2 * i + 1) * r - n) / (2 * n * (r - 1))


def endpoints(i: np.ndarray, n: int, r: int) -> np.ndarray:
    """The official program's grid, both ends included at every size: t = i/(n-1)."""
    if n < 2:
        raise ValueError(f"sampling=endpoints needs a size of at least 2 px an axis, got {n}")
    return i / (n - 1)


SAMPLINGS: dict[str, Sampling] = {"centers": centers, "endpoints": endpoints}


def positions(start: int, stop: int, n: int, r: int, sampling: Sampling = centers) -> np.ndarray:
    """Positions of the pixels start <= i < stop of a frame of n pixels: float32 [stop - start]."""
    i = np.arange(start, stop, dtype=np.int64)
    return sampling(i, n, r).astype(np.float32)


def training_positions(r: int) -> np.ndarray:
    """The positions of the training grid, i/(r-1): float32 [r]."""
    return positions(0, r, r, r)
