"""How the frames of a video run along a way through key-frames.

Notation: T frames; K key-frames; u [T] how far along its way each frame is, float64, a whole number
k at key-frame k; s = u - floor(u) the share of the segment. A way that loops leads from the last
key-frame back to the first, and its last frame comes one step before that.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MAX_FRAMES = 10**6

EASINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda s: s,
    "smooth": lambda s: s * s * (3.0 - 2.0 * s),  # Slows down to a halt at every key-frame.
}


class Timing(NamedTuple):
    """How many frames there are, and how they run along a way."""

    frames: int
    loop: bool = False
    easing: Callable[[np.ndarray], np.ndarray] = EASINGS["linear"]

    def along(self, keys: int) -> np.ndarray:
        """u [T] on a way through so many key-frames, whose segments take equally long."""
        segments, steps = (keys, self.frames) if self.loop else (keys - 1, max(self.frames - 1, 1))
        # In whole numbers, so that s is exactly 0 where a frame is a key-frame.
        passed, rest = np.divmod(np.arange(self.frames) * segments, steps)
        return passed + self.easing(rest / steps)
