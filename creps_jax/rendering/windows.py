"""Windows of a frame, and the blocks that a window is cut into.

Pixels (y, x) of the frame, windows half-open. A frame may have millions of blocks, so they are made
as they are asked for, and which of them are wanted is found out row by row.
"""

import bisect
import functools
import itertools
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 512  # px; what is streamed at a time.


class Window(NamedTuple):
    """The pixels y0 <= y < y1, x0 <= x < x1 of a frame."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.y1 - self.y0, self.x1 - self.x0


# The number of a row of blocks -> which of its blocks: bool [columns].
Rows = Callable[[int], np.ndarray]


class Blocks(Collection[Window]):
    """A window cut along a grid of side px that starts at origin, row by row; or some of it.

    Attributes:
      window: what is cut.
      y, x: the edges of the rows and of the columns, px.
    """

    def __init__(
        self,
        window: Window,
        side: tuple[int, int] = (BLOCK, BLOCK),
        origin: tuple[int, int] = (0, 0),
        rows: Rows | None = None,
    ) -> None:
        """Makes no block yet.

        Args:
          rows: which blocks; asked once for each row, when its first block is needed. None: all.
        """
        self.window, self._side, self._origin = window, side, origin
        self.y, self.x = (
            [start, *range(first + (start - first) // step * step + step, stop, step), stop]
            for start, stop, step, first in zip(window[:2], window[2:], side, origin, strict=True)
        )
        self._rows = functools.cache(rows or (lambda row: np.ones(self.grid[1], bool)))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks, the unwanted included."""
        return len(self.y) - 1, len(self.x) - 1

    def __iter__(self) -> Iterator[Window]:
        return self._within(0, self.grid[1])

    def __len__(self) -> int:
        return self._count

    @functools.cached_property
    def _count(self) -> int:
        return sum(int(self._rows(row).sum()) for row in range(self.grid[0]))

    def __bool__(self) -> bool:
        """Whether there is any: looks no further than to the first."""
        return any(True for _ in self)

    def __contains__(self, window: object) -> bool:
        place = self.place(window)
        return place is not None and bool(self._rows(place[0])[place[1]])

    def place(self, window: Window) -> tuple[int, int] | None:
        """Row and column of a block, wanted or not; None if it is none."""
        row, column = bisect.bisect(self.y, window[0]) - 1, bisect.bisect(self.x, window[1]) - 1
        inside = 0 <= row < self.grid[0] and 0 <= column < self.grid[1]
        return (row, column) if inside and self._at(row, column) == window else None

    def where(self, rows: Rows) -> "Blocks":
        """Those of the blocks that are among the given, too; asked only for rows that have some."""

        def both(row: int) -> np.ndarray:
            ours = self._rows(row)
            return ours & rows(row) if ours.any() else ours

        return Blocks(self.window, self._side, self._origin, both)

    def share(self, index: int, count: int) -> "Blocks":
        """Those dealt out to part `index` of `count`: equally many of all, side by side."""
        down, across = self.grid
        start, stop = (down * across * i // count for i in (index, index + 1))

        def of_part(row: int) -> np.ndarray:
            number = row * across + np.arange(across)
            return (start <= number) & (number < stop)

        return Blocks(self.window, self._side, self._origin, of_part).where(self._rows)

    def in_strips(self, strip: Callable[[int], int]) -> Iterator[Window]:
        """The blocks in the order of strip(x0), which never falls from left to right."""
        columns = range(self.grid[1])
        for _, same in itertools.groupby(columns, lambda column: strip(self.x[column])):
            first, *others = same
            yield from self._within(first, first + 1 + len(others))

    def _within(self, first: int, last: int) -> Iterator[Window]:
        """The wanted blocks of the columns first <= j < last."""
        for row in range(self.grid[0]):
            for column in np.flatnonzero(self._rows(row)[first:last]).tolist():
                yield self._at(row, first + column)

    def _at(self, row: int, column: int) -> Window:
        return Window(self.y[row], self.x[column], self.y[row + 1], self.x[column + 1])


def in_strips(windows: Collection[Window], strip: Callable[[int], int]) -> Iterator[Window]:
    """The windows in the order of strip(x0), those of one strip in the order given."""
    if isinstance(windows, Blocks):
        return windows.in_strips(strip)
    return iter(sorted(windows, key=lambda window: strip(window.x0)))


def largest(windows: Collection[Window]) -> tuple[int, int]:
    """The greatest height and the greatest width of the windows, px."""
    if isinstance(windows, Blocks):
        heights, widths = (np.diff(edges) for edges in (windows.y, windows.x))
    else:
        heights, widths = zip(*(window.shape for window in windows), strict=True)
    return int(max(heights)), int(max(widths))
