"""What a map of coordinates is, what it may give, and what tells it from other maps.

Notation: (h, w) pixels of the picture, (i, j) pixels of the unwarped frame of the same size, both
float64 with pixel centres at whole numbers.
"""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable

import numpy as np

from creps_jax.rendering.checks import is_number, is_real

SAMPLES = 256  # points an axis that tell a map from others

# (h [H, 1], w [1, W], size) -> (i, j), each broadcastable to [H, W].
Map = Callable[[np.ndarray, np.ndarray, tuple[int, int]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Named:
    """A map of WARPS, which its name and its amount tell from all others."""

    name: str
    amount: float
    map: Map = dataclasses.field(repr=False, compare=False)

    def __call__(
        self, h: np.ndarray, w: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.map(h, w, size)


def named(make: Callable[[float], Map]) -> Callable[[float], Named]:
    """Makes maps that know their name; ValueError where the amount is no number."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def make_named(*given: float, **by_name: float) -> Named:
        bound = signature.bind(*given, **by_name)
        bound.apply_defaults()
        (amount,) = bound.arguments.values()
        if not is_number(amount):
            raise ValueError(f"{make.__name__}:{amount!r} must be a number that float32 can hold")
        return Named(make.__name__, float(amount), make(float(amount)))

    return make_named


def check_map(warp: Map, size: tuple[int, int]) -> None:
    """Raises ValueError unless the map gives two arrays of real numbers that broadcast."""
    must = f"warp={warp!r} must be a map (h, w, size) -> (i, j), two arrays that broadcast"
    for shape in ((2, 3), (3, 2)):
        h, w = (np.linspace(0, n - 1, count) for n, count in zip(size, shape, strict=True))
        try:
            with np.errstate(all="ignore"):
                arrays = [np.asarray(at) for at in warp(h[:, None], w[None, :], size)]
        except TypeError as error:
            raise ValueError(f"{must}: {error}") from error
        if len(arrays) != 2:
            raise ValueError(f"{must}: it gives {len(arrays)}")
        for name, array in zip("ij", arrays, strict=True):
            if not is_real(array):
                raise ValueError(f"{must}: {name} is {array.dtype}, no real numbers")
            if not broadcasts(array.shape, shape):
                raise ValueError(
                    f"{must}: for h of shape {(shape[0], 1)} and w of {(1, shape[1])}, {name} has "
                    f"shape {array.shape}"
                )


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of the shape can be broadcast to another."""
    ends = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in ends)


def name_of(warp: Map | None, size: tuple[int, int]) -> str:
    """What tells a map from others: its name and amount, or a digest of where it moves points."""
    if warp is None or isinstance(warp, Named):
        return repr(warp)
    h, w = (np.linspace(-0.5, n - 0.5, SAMPLES) for n in size)
    with np.errstate(all="ignore"):
        moved = np.broadcast_arrays(*warp(h[:, None], w[None, :], size), h[:, None] + w)[:2]
    return hashlib.sha256(np.asarray(moved, np.float64).tobytes()).hexdigest()
