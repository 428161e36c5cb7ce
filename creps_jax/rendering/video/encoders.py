"""Frames to a file, as they come: H.264 in an mp4, or an animated WebP, by FFmpeg's libraries."""

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from creps_jax import disk
from creps_jax.rendering.checks import is_whole

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


def check_crf(crf: int) -> None:
    """Raises ValueError unless it is a quality of H.264."""
    if not is_whole(crf) or not 0 <= crf <= 51:
        raise ValueError(f"crf={crf!r} must be a whole number from 0 to 51")


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


def write_video(
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
    check_crf(crf)

    # The first frame says how large all are.
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to write")
    height, width, channels = first.shape
    kind.check(height, width)

    if kind.container == "mp4":
        options, quality = {"movflags": "+faststart"}, {"crf": str(crf)}
    else:
        options, quality = {"loop": "0" if loop else "1"}, {"quality": str(WEBP_QUALITY)}

    # Under another name until it is whole.
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
