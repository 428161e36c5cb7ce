"""The camera: what of an image a frame shows, on its way through key-frames.

Notation of timing.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from creps_jax.rendering.checks import is_number, is_whole
from creps_jax.rendering.frame import MAX_SIDE_PX, antialiasing
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.video.timing import Timing
from creps_jax.rendering.warp.maps import Map

MIN_ZOOM = 0.001
MAX_DEGREES = 360_000.0
MAX_SAMPLES = 64  # that a pixel and axis takes by default


class Camera(NamedTuple):
    """What of the image the picture shows.

    y, x: the point of the image in the picture's middle, 0 at the top and left edges, 1 at the
    bottom and right. zoom: 1 shows the whole image, 2 half its height and width. degrees: by which
    the image is turned clockwise about the picture's middle; a turn of pixels, shapes are kept.
    """

    y: float = 0.5
    x: float = 0.5
    zoom: float = 1.0
    degrees: float = 0.0


def travel(keys: Sequence[Camera], timing: Timing) -> list[Camera]:
    """The camera of every frame; the way back of a loop turns by half a turn at most.

    Raises:
      ValueError: a number of a key-frame is out of range, or there are no key-frames.
    """
    if not keys:
        raise ValueError("give one key-frame of the camera at least")
    for y, x, zoom, degrees in keys:
        if not all(map(is_number, (y, x, zoom, degrees))):
            raise ValueError(
                f"y,x,zoom,degrees = {y},{x},{zoom},{degrees} must be finite numbers that float32 "
                "can hold"
            )
        if not (0 <= y <= 1 and 0 <= x <= 1 and MIN_ZOOM <= zoom <= MAX_SIDE_PX):
            raise ValueError(
                f"y,x,zoom = {y:g},{x:g},{zoom:g}: y and x must be from 0 to 1, zoom from "
                f"{MIN_ZOOM:g} to {MAX_SIDE_PX}"
            )
        if abs(degrees) > MAX_DEGREES:
            raise ValueError(
                f"degrees = {degrees:g} must be from {-MAX_DEGREES:g} to {MAX_DEGREES:g}"
            )

    # Where a loop leads after the last key-frame: to the first, turned on by whole turns.
    first, last = keys[0], keys[-1]
    turns = round((last.degrees - first.degrees) / 360.0)
    following = [*keys[1:], first._replace(degrees=first.degrees + 360.0 * turns)]
    return [
        between(keys[int(u)], following[int(u)], float(u % 1.0)) for u in timing.along(len(keys))
    ]


def between(a: Camera, b: Camera, s: float) -> Camera:
    """The camera a share s of the way from a to b.

    Degrees and the zoom's logarithm are linear in s, the centre is in 1 / zoom: without a turn, the
    point that both cameras show at the same place of the picture stays there all the way.
    """
    growth = math.log(b.zoom / a.zoom)
    moved = math.expm1(-growth * s) / math.expm1(-growth) if growth else s
    return Camera(
        a.y + moved * (b.y - a.y),
        a.x + moved * (b.x - a.x),
        a.zoom * math.exp(growth * s),
        a.degrees + s * (b.degrees - a.degrees),
    )


def view(camera: Camera) -> Map:
    """The camera as a map of pixels: separable, hence with exact lines, unless it is turned."""
    turn = math.radians(camera.degrees % 360.0)
    cos, sin = math.cos(turn), math.sin(turn)

    def seen(h: np.ndarray, w: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        (height, width), zoom = size, camera.zoom
        v, u = (h + 0.5 - height / 2) / zoom, (w + 0.5 - width / 2) / zoom
        if turn:
            v, u = cos * v - sin * u, sin * v + cos * u
        return v + camera.y * height - 0.5, u + camera.x * width - 0.5

    return seen


def plan_view(
    painter: Painter, size: tuple[int, int], camera: Camera, supersample: int | None = None
) -> Plan:
    """What to paint for a picture of height x width px.

    Args:
      supersample: a pixel is the mean of k x k; None: of 1, or of two a training pixel where
        pixels are larger than training pixels at this zoom.

    Raises:
      ValueError: the zoom is too deep for float32, or what Painter.plan() raises.
    """
    if supersample is not None and not (is_whole(supersample) and supersample > 0):
        raise ValueError(f"supersample={supersample!r} must be a whole number from 1 up")

    # As many samples a pixel as it is large beside training pixels, and the zoom that allows.
    whole = [n * camera.zoom for n in size]  # Height and width of the whole image at this zoom, px.
    factors = antialiasing(whole, painter.shape)
    most = MAX_SIDE_PX / max(size) / (supersample or max(factors))
    if camera.zoom > max(most, 1.0):
        raise ValueError(
            f"zoom {camera.zoom:g} must be at most {math.floor(most)} in frames of "
            f"{size[0]}x{size[1]} px: beyond it float32 positions no longer tell pixels apart"
        )
    if most < 1.0 or max(factors) > MAX_SAMPLES:
        raise ValueError(
            f"zoom {camera.zoom:g} takes {max(factors)} samples a pixel and axis in frames of "
            f"{size[0]}x{size[1]} px, more than {MAX_SAMPLES}: zoom in, or give --supersample"
        )
    found = painter.plan(size, supersample=supersample, warp=view(camera))
    return found._replace(supersample=factors) if supersample is None else found
