"""Frames of a video, painted one at a time, in one cell or in a grid of several."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from creps_jax.model import biline
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.windows import Blocks


def paint_frames(
    painter: Painter,
    walks: Sequence[Iterable[biline.Image]],
    plans: Sequence[Plan],
    grid: tuple[int, int] = (1, 1),
) -> Iterator[np.ndarray]:
    """Yields every frame, uint8 [height, width, channels], one at a time.

    Args:
      walks: the images of each cell of the grid, row by row.
      plans: of every frame, the same in all cells.
      grid: cells down and across.
    """
    height, width = plans[0].size
    channels = painter.generator.config.image_channels
    cells = [_pictures(painter, walk, plans) for walk in walks]
    for pictures in zip(*cells, strict=True):
        rows = np.stack(pictures).reshape(*grid, height, width, channels).swapaxes(1, 2)
        yield rows.reshape(grid[0] * height, grid[1] * width, channels)


def _pictures(
    painter: Painter, walk: Iterable[biline.Image], plans: Sequence[Plan]
) -> Iterator[np.ndarray]:
    """Yields the frames of one cell."""
    shots = zip(walk, plans, strict=True)
    # Frames in a row that are of the same image.
    for _, still in itertools.groupby(shots, lambda shot: id(shot[0])):
        images, seen = zip(*still, strict=True)
        # Of all that a turning camera sees of an image: made once.
        tables = painter.tables(images[0], seen)
        for image, plan in zip(images, seen, strict=True):
            frame = np.empty((*plan.size, painter.generator.config.image_channels), np.uint8)
            windows = Blocks(plan.window, painter.block)
            for (y0, x0, y1, x1), pixels in painter.paint(image, plan, windows, tables=tables):
                frame[y0:y1, x0:x1] = pixels
            yield frame
