"""Maps of coordinates: what one may give, what tells it from others, and those that have names.

Notation: (h, w) pixels of the picture, (i, j) pixels of the unwarped frame of the same size, both
float64 with pixel centres at whole numbers.
"""

import dataclasses
import functools
import hashlib
import inspect
import math
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


# The maps that have names. All keep the centre of the picture in its place.


@named
def rotate(degrees: float) -> Map:
    """The image turned clockwise by an angle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def unturned(v, u):
        return cos * v - sin * u, sin * v + cos * u

    return _centered(unturned)


@named
def shear(slope: float) -> Map:
    """Rows pushed sideways: by `slope` px to the right per px below the centre."""
    return _centered(lambda v, u: (v, u - slope * v))


@named
def perspective(degrees: float) -> Map:
    """The image on a plane tilted about its horizontal middle, top edge backwards.

    The camera stands at the distance of one picture diagonal; |degrees| < 45.
    """
    if not -45 < degrees < 45:
        raise ValueError(f"perspective:{degrees:g} must be between -45 and 45 degrees")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def on_plane(v, u):
        # The ray (v, u, 1) meets the plane's point (s cos, q, 1 - s sin) in units of distance.
        scale = 1.0 / (cos + v * sin)
        return v * scale, u * cos * scale

    return _centered(on_plane, lambda height, width: math.hypot(height, width))


@named
def fisheye(strength: float) -> Map:
    """A barrel lens: radius r, 1 in the corners, shows the image's radius r (1 - s + s r^2).

    0 <= strength < 1: 0 changes nothing, at 0.5 the middle is twice as large.
    """
    if not 0 <= strength < 1:
        raise ValueError(f"fisheye:{strength:g} must be from 0 up to, not including, 1")

    def bent(v, u):
        scale = 1.0 - strength + strength * (v * v + u * u)
        return v * scale, u * scale

    return _centered(bent, lambda height, width: math.hypot(height, width) / 2)


@named
def cylinder(degrees: float) -> Map:
    """The image around an upright cylinder seen from far away: `degrees` of arc across, < 180."""
    if not 0 < degrees < 180:
        raise ValueError(f"cylinder:{degrees:g} must be between 0 and 180 degrees")
    half = math.radians(degrees) / 2

    def unrolled(v, u):
        # At the picture's edge u = 1 the arc is complete.
        return v, np.arcsin(np.clip(u * math.sin(half), -1.0, 1.0)) / half

    def mapped(h, w, size):
        height, width = size
        v, u = unrolled((h - (height - 1) / 2), (w - (width - 1) / 2) / (width / 2))
        return v + (height - 1) / 2, u * (width / 2) + (width - 1) / 2

    return mapped


@named
def polar(turns: float = 1.0) -> Map:
    """The image bent into a disc: angle from the top is its column, radius from the rim its row."""

    def unbent(h, w, size):
        height, width = size
        v, u = h - (height - 1) / 2, w - (width - 1) / 2
        radius = np.hypot(v, u) / (min(height, width) / 2)
        angle = np.arctan2(u, -v) / (2 * math.pi) * turns
        return (1.0 - radius) * height - 0.5, (angle + 0.5) * width - 0.5

    return unbent


WARPS: dict[str, Callable[[float], Map]] = {
    "rotate": rotate,
    "shear": shear,
    "perspective": perspective,
    "fisheye": fisheye,
    "cylinder": cylinder,
    "polar": polar,
}


def parse(text: str) -> Map:
    """'rotate:30' -> rotate(30.0).

    Raises:
      ValueError: the name is unknown, or the amount is no number or out of the map's range.
    """
    name, _, amount = text.partition(":")
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if name not in WARPS or not is_number(number):
        raise ValueError(
            f"warp={text!r} must be NAME:AMOUNT with one of {', '.join(WARPS)} and a number that "
            "float32 can hold"
        )
    return WARPS[name](number)


def check(warp: str | Map, size: tuple[int, int]) -> Map:
    """The map that a warp is, or that its name stands for.

    Raises:
      ValueError: it is neither, or no function from (h, w, size) to two arrays that broadcast.
    """
    if isinstance(warp, str):
        return parse(warp)
    if not isinstance(warp, Named):
        check_map(warp, size)
    return warp


def _centered(
    move: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    unit: Callable[[int, int], float] = lambda height, width: 1.0,
) -> Map:
    """The map that moves (v, u), about the centre in units of unit(height, width) px."""

    def mapped(h, w, size):
        middle, length = [(n - 1) / 2 for n in size], unit(*size)
        v, u = move((h - middle[0]) / length, (w - middle[1]) / length)
        return v * length + middle[0], u * length + middle[1]

    return mapped
