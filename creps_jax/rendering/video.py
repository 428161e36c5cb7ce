"""Videos: key-frames of latents and of a camera, painted frame by frame, streamed to a file.

Notation: T frames; K key-frames; u [T] how far along its way each frame is, float64, a whole number
k at key-frame k; s = u - floor(u) the share of the segment. A way that loops leads from the last
key-frame back to the first, and its last frame comes one step before that.
"""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from creps_jax import disk
from creps_jax.model import biline
from creps_jax.rendering import render as rendering
from creps_jax.rendering.checks import is_number, is_whole
from creps_jax.rendering.latents import draw_z
from creps_jax.rendering.painter import Painter, Plan
from creps_jax.rendering.warp.maps import Map
from creps_jax.rendering.windows import Blocks

# Time.

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


# Latents.


def linear(s: np.ndarray) -> list[np.ndarray]:
    """Shares of the key-frames k - 1, k, k + 1 and k + 2 at s past key-frame k: a straight line."""
    return [0 * s, 1 - s, s, 0 * s]


def cubic(s: np.ndarray) -> list[np.ndarray]:
    """The same of a Catmull-Rom spline: its slope at key-frame k is (p_k+1 - p_k-1) / 2."""
    return [
        (-s + 2 * s**2 - s**3) / 2,
        (2 - 5 * s**2 + 3 * s**3) / 2,
        (s + 4 * s**2 - 3 * s**3) / 2,
        (-(s**2) + s**3) / 2,
    ]


INTERPOLATIONS = {"linear": linear, "cubic": cubic, "spherical": None}  # None: of z, by slerp.


def shares(
    u: np.ndarray, keys: int, loop: bool, basis: Callable[[np.ndarray], list[np.ndarray]]
) -> np.ndarray:
    """Of every key-frame in every frame: [T, K], rows sum to 1.

    Beyond the ends lie the other end's key-frames, or without a loop the mirrored: 2 p_0 - p_1.
    """
    ends = {"mode": "wrap"} if loop else {"mode": "reflect", "reflect_type": "odd"}
    knots = np.pad(np.eye(keys), ((1, 2), (0, 0)), **ends)
    k = np.floor(u).astype(int)
    return sum(share[:, None] * knots[k + j] for j, share in enumerate(basis(u - k)))


def slerp(z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """z [K, D], on great circles from each to the next: [T, D].

    z = (sin((1 - s) a) z_k + sin(s a) z_k+1) / sin(a), where a is the angle between the two.
    """
    k = np.floor(u).astype(int)
    z = z.astype(np.float64)
    s, start, end = (u - k)[:, None], z[k % len(z)], z[(k + 1) % len(z)]
    norms = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=1) / norms, -1.0, 1.0))[:, None]

    def share(s: np.ndarray) -> np.ndarray:
        return s * np.sinc(s * angle / np.pi) / np.sinc(angle / np.pi)  # Defined at angle 0 too.

    return share(1 - s) * start + share(s) * end


def walk(
    painter: Painter,
    seeds: Sequence[int],
    timing: Timing,
    interpolation: str = "linear",
    label: int | None = None,
    truncation: float = 1.0,
) -> Iterator[biline.Image]:
    """The image of every frame on the way through the latents of some seeds.

    Args:
      interpolation: 'linear' or 'cubic' of the latents w; 'spherical' of the mapping's inputs z.
      label, truncation: of Painter.latents().

    Raises:
      ValueError: what Painter.latents() raises, at once; or there are no seeds, or no such
        interpolation.
    """
    if not isinstance(interpolation, str) or interpolation not in INTERPOLATIONS or not len(seeds):
        raise ValueError(
            f"interpolation={interpolation!r} must be one of {', '.join(INTERPOLATIONS)}, of one "
            f"seed at least, got {len(seeds)}"
        )
    ws = np.stack([painter.latents(seed, label, truncation) for seed in seeds])
    if len(set(seeds)) == 1:
        return itertools.repeat(painter.image(ws[0]), timing.frames)
    basis, u = INTERPOLATIONS[interpolation], timing.along(len(seeds))
    if basis is None:
        z_dim = painter.generator.config.z_dim
        z = slerp(draw_z(seeds, z_dim), u)
        way = (painter.map(one, label, truncation) for one in z)
    else:
        way = (np.tensordot(row, ws, 1) for row in shares(u, len(seeds), timing.loop, basis))
    return map(painter.image, way)


# The camera.

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
        if not (0 <= y <= 1 and 0 <= x <= 1 and MIN_ZOOM <= zoom <= rendering.MAX_SIDE_PX):
            raise ValueError(
                f"y,x,zoom = {y:g},{x:g},{zoom:g}: y and x must be from 0 to 1, zoom from "
                f"{MIN_ZOOM:g} to {rendering.MAX_SIDE_PX}"
            )
        if abs(degrees) > MAX_DEGREES:
            raise ValueError(
                f"degrees = {degrees:g} must be from {-MAX_DEGREES:g} to {MAX_DEGREES:g}"
            )
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


def plan(
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
    whole = [n * camera.zoom for n in size]  # Height and width of the whole image at this zoom, px.
    factors = rendering.antialiasing(whole, painter.shape)
    most = rendering.MAX_SIDE_PX / max(size) / (supersample or max(factors))
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


# Frames.


def paint(
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
    for _, still in itertools.groupby(shots, lambda shot: id(shot[0])):
        images, seen = zip(*still, strict=True)
        tables = painter.tables(images[0], seen)  # Of all that a turning camera sees of an image.
        for image, plan in zip(images, seen, strict=True):
            frame = np.empty((*plan.size, painter.generator.config.image_channels), np.uint8)
            windows = Blocks(plan.window, painter.block)
            for (y0, x0, y1, x1), pixels in painter.paint(image, plan, windows, tables=tables):
                frame[y0:y1, x0:x1] = pixels
            yield frame


# Files.

WEBP_QUALITY = 95  # of 100; less leaves traces of earlier frames where little moves


class Format(NamedTuple):
    """How FFmpeg is asked for a kind of file."""

    container: str
    codec: str
    pixels: str
    multiple: int  # of height and width, px
    max_side_px: int
    max_fps: int

    def check_fps(self, fps: int) -> None:
        """Raises ValueError if so many frames a second are not shown as they should be."""
        if not is_whole(fps) or not 1 <= fps <= self.max_fps:
            why = ": browsers show frames of less than 20 ms slowly" * (self.container == "webp")
            raise ValueError(
                f"fps={fps!r} must be a whole number from 1 to {self.max_fps} in a "
                f".{self.container}{why}"
            )

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if frames of this size do not fit."""
        k, most = self.multiple, self.max_side_px
        if not all(n % k == 0 and n <= most for n in (height, width)):
            fitting = "x".join(str(min(-(-n // k) * k, most)) for n in (height, width))
            raise ValueError(
                f"frames are {height}x{width} px, but .{self.container} needs "
                f"{'even sides' if k == 2 else 'sides'} up to {most} px: make them {fitting}"
            )


FORMATS = {
    ".mp4": Format("mp4", "libx264", "yuv420p", 2, 16384, 240),  # H.264
    ".webp": Format("webp", "libwebp_anim", "bgra", 1, 16383, 50),
}


def format_of(path: Path) -> Format:
    """The format that the path's suffix names.

    Raises:
      ValueError: there is none, or the path is a folder.
    """
    if re.match("[A-Za-z0-9]{2,}:/", str(path)):
        raise ValueError(f"{path} is no local file: videos are written to the disk")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} must end in {' or '.join(FORMATS)}, not in {path.suffix!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, must be a file")
    return FORMATS[path.suffix.lower()]


def import_av() -> ModuleType:
    """PyAV, which is FFmpeg's libraries.

    Raises:
      ImportError: it is not installed; says how to install it.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'creps-jax[video]'") from error
    return av


def write(
    path: Path, frames: Iterable[np.ndarray], fps: int, loop: bool = False, crf: int = 18
) -> None:
    """Writes frames, uint8 [height, width, 1 or 3], as they come; no half-written file is left.

    Args:
      path: ends in .mp4 or, for an animated WebP, in .webp; replaced if it is there.
      loop: whether a WebP plays for ever or once; for an mp4 it is the player that decides.
      crf: of H.264, from 0 (best) to 51 (smallest).

    Raises:
      ValueError: the suffix is of no format, the size or the rate does not fit it, or there are
        no frames.
      ImportError: PyAV is missing.
      OSError: the file cannot be written.
    """
    av, kind, frames = import_av(), format_of(path), iter(frames)
    kind.check_fps(fps)
    if not is_whole(crf) or not 0 <= crf <= 51:
        raise ValueError(f"crf={crf!r} must be a whole number from 0 to 51")
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to write")
    height, width, channels = first.shape
    kind.check(height, width)
    if kind.container == "mp4":
        options, quality = {"movflags": "+faststart"}, {"crf": str(crf)}
    else:
        options, quality = {"loop": "0" if loop else "1"}, {"quality": str(WEBP_QUALITY)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()  # PyAV's error would not name the file.
        with av.open(
            f"file:{temporary.absolute()}", "w", format=kind.container, options=options
        ) as container:
            stream = container.add_stream(kind.codec, rate=fps, options=quality)
            stream.height, stream.width, stream.pix_fmt = height, width, kind.pixels
            # BT.709, which players take large videos for if these do not say what they are.
            colors = stream.codec_context
            colors.colorspace = colors.color_primaries = colors.color_trc = colors.color_range = 1
            for frame in itertools.chain([first], frames):
                rgb = np.repeat(frame, 3 // channels, axis=-1)
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                picture = picture.reformat(format=kind.pixels, dst_colorspace="ITU709")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        disk.sync(temporary)
        disk.rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
