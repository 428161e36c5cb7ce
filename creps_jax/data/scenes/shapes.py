"""Anti-aliased shapes on a float canvas: what `procedural` paints with.

A shape covers a pixel by its signed distance d there (positive inside), as
clip(d / pixel + 1/2, 0, 1): its edge is one pixel wide whatever the size of the picture. Lengths
are in picture heights, y points down; colours are float32 [3], sRGB in [0, 1].
"""

from typing import NamedTuple, Self

import numpy as np


class View(NamedTuple):
    """A rectangle of the picture; painting changes `canvas` in place."""

    y: np.ndarray  # float32 [h, 1]: centres of the pixels
    x: np.ndarray  # float32 [1, w]
    origin: tuple[float, float]  # (y, x) of the first pixel
    pixel: float  # size of a pixel
    canvas: np.ndarray  # float32 [3, h, w]: colour first, since numpy is fast along long axes

    def crop(self, top: float, bottom: float, left: float, right: float) -> Self:
        """The pixels that a shape within these bounds can touch."""
        y, x = self.origin
        i, k = max(0, int((top - y) / self.pixel)), max(0, int((left - x) / self.pixel))
        rows = slice(i, max(0, int((bottom - y) / self.pixel) + 2))
        columns = slice(k, max(0, int((right - x) / self.pixel) + 2))
        origin = (y + i * self.pixel, x + k * self.pixel)
        canvas = self.canvas[:, rows, columns]
        return View(self.y[rows], self.x[:, columns], origin, self.pixel, canvas)

    def paint(self, coverage: np.ndarray, colour: np.ndarray) -> None:
        """Mixes the colour in by the coverage [h, w]."""
        canvas = self.canvas
        canvas += coverage * (colour[:, None, None] - canvas)

    def paint_mixed(
        self, coverage: np.ndarray, dark: np.ndarray, lit: np.ndarray, mix: np.ndarray
    ) -> None:
        """As `paint`, with the colour going from dark to lit as mix [h, w] goes from 0 to 1."""
        canvas = self.canvas
        colour = dark[:, None, None] + mix * (lit - dark)[:, None, None]
        canvas += coverage * (colour - canvas)

    def dim(self, factor: np.ndarray) -> None:
        """Multiplies the colours by the factor [h, w]."""
        canvas = self.canvas
        canvas *= factor

    def cover(self, distance: np.ndarray) -> np.ndarray:
        """The covered share of pixels at a signed distance from an edge, positive inside."""
        return np.minimum(np.maximum(distance * (1 / self.pixel) + 0.5, 0), 1)

    def box(self, top: float, bottom: float, left: float, right: float) -> np.ndarray:
        """Coverage by a rectangle: the product of the covered lengths, exact however thin."""
        half = 0.5 * self.pixel
        rows = np.minimum(self.y + half, bottom) - np.maximum(self.y - half, top)
        columns = np.minimum(self.x + half, right) - np.maximum(self.x - half, left)
        return np.maximum(rows / self.pixel, 0) * np.maximum(columns / self.pixel, 0)

    def discs(self, y: np.ndarray, x: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Coverage by the union of discs [n]."""
        y, x, radius = (np.float32(value)[:, None, None] for value in (y, x, radius))
        return self.cover((radius - np.hypot(self.y - y, self.x - x)).max(0))

    def triangles(
        self, x: float, top: np.ndarray, bottom: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """Coverage by the union of upright triangles [n] around one axis, 2 * width at the foot."""
        length = np.hypot(bottom - top, width)
        fall, run = (bottom - top) / length, width / length
        values = np.array((top, bottom, fall, run), np.float32)[..., None, None]
        top, bottom, fall, run = values
        flanks = run * (self.y - top) - fall * np.abs(self.x - x)
        return self.cover(np.minimum(flanks, bottom - self.y).max(0))

    def polygon(self, corners: np.ndarray) -> np.ndarray:
        """Coverage by a convex polygon [corners, (y, x)], clockwise on the screen."""
        along = np.roll(corners, -1, axis=0) - corners
        along /= np.hypot(along[:, :1], along[:, 1:])
        (y, x), (along_y, along_x) = np.float32((corners.T, along.T))[..., None, None]
        return self.cover((along_x * (self.y - y) - along_y * (self.x - x)).min(0))

    def arch(self, bottom: float, x: float, width: float, height: float) -> np.ndarray:
        """Coverage by a round-headed opening."""
        above = np.maximum(bottom - height + width / 2 - self.y, 0)
        distance = np.minimum(width / 2 - np.hypot(self.x - x, above), bottom - self.y)
        # What is thinner than a pixel covers no more of it than its width.
        return self.cover(distance) * min(1, width / self.pixel)

    def blobs(self, y: np.ndarray, x: np.ndarray, sy: np.ndarray, sx: np.ndarray) -> np.ndarray:
        """Sum of Gaussians [n] with these centres and deviations.

        They are blurred by half a pixel, so that those smaller than a pixel keep their weight.
        """
        vy, vx = sy**2 + self.pixel**2 / 4, sx**2 + self.pixel**2 / 4
        rows = np.exp(np.float32(-0.5 / vy) * (self.y - np.float32(y)) ** 2)
        columns = np.exp(np.float32(-0.5 / vx) * (self.x.T - np.float32(x)) ** 2)
        return (rows * np.float32(sy * sx / np.sqrt(vy * vx))) @ columns.T
