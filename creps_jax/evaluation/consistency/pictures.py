"""One image as a function of where one looks: what consistency.py measures.

Places are in pixels of the training images, u of rows and v of columns: see resampling.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import rng
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import programs

Array = jax.Array

ROUNDING = 1e-12  # energy of what float32 rounds off colours, at least


class Picture(NamedTuple):
    """An image that can be painted anywhere.

    shape is the height and width of the training images, px. paint takes positions (y, x) in the
    unit square (coordinates.py), float32 [H, 1] and [1, W], or [H, W] each, and gives colours
    [H, W, C], about [-1, 1].
    """

    shape: tuple[int, int]
    paint: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def at(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The colours at places u, v: float64 [H, W, C]."""
        positions = (
            coordinates.centers(places, r, r).astype(np.float32)
            for places, r in zip((u, v), self.shape, strict=True)
        )
        return np.asarray(self.paint(*positions), np.float64)

    def native(self) -> np.ndarray:
        """The image as it is trained: float64 [h, w, C]."""
        return self.at(*grid(self.shape, self.shape))

    def sized(self, size: tuple[int, int], samples: tuple[int, int] = (1, 1)) -> np.ndarray:
        """The frame in this size, a pixel the mean of so many samples: float64 [*size, C]."""
        (height, width), (down, across) = size, samples
        fine = self.at(*grid((height * down, width * across), self.shape))
        return fine.reshape(height, down, width, across, -1).mean(axis=(1, 3))


def grid(size: tuple[int, int], of: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where in a frame of some pixels those of a frame of another size are: [H, 1] and [1, W]."""
    u, v = ((np.arange(n) + 0.5) * r / n - 0.5 for n, r in zip(size, of, strict=True))
    return u[:, None], v[None, :]


def share(part: float, whole: float) -> float:
    """part / whole, two energies; 0 where nothing changes but by rounding."""
    return float(part / whole) if whole > ROUNDING else 0.0


@rng.pinned()
def picture_of(generator: Generator, variables: Variables, w: np.ndarray) -> Picture:
    """The picture of w [num_ws, w_dim]. A size of what is painted compiles once.

    All lines are exact, also where rows and columns mix: a pixel then has two of its own.
    """
    image = programs.fold(generator, variables, w, jnp.float32)

    @rng.pinned()
    def paint(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        if y.shape[1] == 1 and x.shape[0] == 1:
            return np.asarray(cross(image, y[:, 0], x[0]))
        return np.asarray(scatter(image, y, x))

    return Picture(generator.config.shape, paint)


@jax.jit
def cross(image: biline.Image, y: Array, x: Array) -> Array:
    """Pixels where rows y [H] and columns x [W] cross: [H, W, C]."""
    return biline.pixels(image, *biline.row_and_column_lines(image, y, x))


@jax.jit
def scatter(image: biline.Image, y: Array, x: Array) -> Array:
    """Pixels at y, x [H, W]: [H, W, C]. Row by row, as each pixel has lines of its own."""

    def row(positions: tuple[Array, Array]) -> Array:
        lines = biline.row_and_column_lines(image, *positions)
        return jax.vmap(biline.pixel, (None, 0, 0))(image, *lines)

    return jax.lax.map(row, (y, x))
