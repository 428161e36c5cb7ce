"""A painter's videos to files, for people and for `creps video` alike."""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from creps_jax import disk
from creps_jax.arguments import about
from creps_jax.progress import Progress, Silent
from creps_jax.rendering.checks import is_number, is_whole
from creps_jax.rendering.files.output import make_folder
from creps_jax.rendering.latents import check_label
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.plan import Plan
from creps_jax.rendering.video.camera import Camera, plan_view, travel
from creps_jax.rendering.video.encoders import Format, check_crf, format_of, import_av, write_video
from creps_jax.rendering.video.frames import paint_frames
from creps_jax.rendering.video.timing import EASINGS, MAX_FRAMES, Timing
from creps_jax.rendering.video.walks import walk


def save_video(
    painter: Painter,
    path: str | os.PathLike[str],
    seeds: Sequence[int],
    *,
    size: int | tuple[int, int] = 512,
    seconds: float = 8.0,
    fps: int = 30,
    interpolation: str = "linear",
    camera: Sequence[Camera] = (Camera(),),
    easing: str = "smooth",
    loop: bool = False,
    grid: tuple[int, int] = (1, 1),
    supersample: int | None = None,
    truncation: float = 1.0,
    label: int | None = None,
    crf: int = 18,
    shown: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Writes a walk through the images of seeds, a flight over one, or both, as `creps video` does.

    Seeds and key-frames of the camera are spread evenly over the duration. Frames are written as
    they are painted; the file is complete or absent.

    Args:
      path: ends in .mp4 or .webp; its folder is made if need be.
      seeds: in the order of the walk; with a grid they are dealt out to the cells in turn.
      size: of Painter.plan(); with a grid, of each cell.
      interpolation, truncation, label: of walks.walk().
      camera: key-frames.
      easing: a name of timing.EASINGS.
      loop: returns to the start without a jump.
      grid: cells down and across.
      supersample: of camera.plan_view().
      fps, crf: of encoders.write_video().
      shown: where it tells how far it is, as of progress.progress().
      note: told in a sentence what is written.

    Raises:
      ValueError: says which argument is out of range, its value and what it must be.
      ImportError: PyAV is missing.
      OSError: the file cannot be written.
    """
    shown = shown or Silent()
    with about("path"):
        path = disk.utf8_path(path)
        kind = format_of(path)
    timing = _timing(kind, seconds, fps, loop, easing)
    cells = _deal(seeds, grid)
    with about("camera"):
        cameras = travel(camera, timing)
    import_av()
    with about("path"):
        make_folder(path.parent)
    with about("crf"):
        check_crf(crf)
    plans, (height, width) = _plans(painter, kind, size, grid, cameras, supersample)
    with about("label"):
        check_label(label, painter.generator.config.num_classes)
    walks = [walk(painter, part, timing, interpolation, label, truncation) for part in cells]

    def frames() -> Iterator[np.ndarray]:
        for frame in paint_frames(painter, walks, plans, grid):
            yield frame
            shown.advance(1, height * width)

    note(f"{timing.frames} frames of {height}x{width} px, on {painter.device}, to {path}")
    shown.stage(timing.frames, "frames")
    write_video(path, frames(), fps, loop, crf)


def _timing(kind: Format, seconds: float, fps: int, loop: bool, easing: str) -> Timing:
    """Of so many seconds, checked."""
    with about("fps"):
        kind.check_fps(fps)
    with about("seconds"):
        if not (is_number(seconds) and 1 <= round(seconds * fps) <= MAX_FRAMES):
            raise ValueError(
                f"seconds={seconds!r} must be a number that makes 1 to {MAX_FRAMES} frames"
            )
    with about("easing"):
        if not isinstance(easing, str) or easing not in EASINGS:
            raise ValueError(f"easing={easing!r} must be one of {', '.join(EASINGS)}")
    return Timing(round(seconds * fps), loop, EASINGS[easing])


def _deal(seeds: Sequence[int], grid: tuple[int, int]) -> list[Sequence[int]]:
    """The seeds of each cell, row by row."""
    with about("grid"):
        if np.shape(grid) != (2,) or not all(is_whole(n) and n > 0 for n in grid):
            raise ValueError(f"grid={grid!r} must be (rows, columns) in whole numbers from 1 up")
        cells = math.prod(grid)
        if len(seeds) % cells:
            raise ValueError(
                f"{grid[0]}x{grid[1]} deals seeds out evenly to {cells} cells, got {len(seeds)} "
                f"seeds: give {cells} or a multiple"
            )
    return [seeds[i::cells] for i in range(cells)]


def _plans(
    painter: Painter,
    kind: Format,
    size: int | tuple[int, int],
    grid: tuple[int, int],
    cameras: Sequence[Camera],
    supersample: int | None,
) -> tuple[list[Plan], tuple[int, int]]:
    """What to paint of each frame's cells, and height and width of frames, px."""
    cell = painter.plan(size, supersample=supersample).size
    height, width = (n * k for n, k in zip(cell, grid, strict=True))
    with about("size"):
        kind.check(height, width)
    with about("camera"):
        plans = [plan_view(painter, cell, at, supersample) for at in cameras]
    return plans, (height, width)
