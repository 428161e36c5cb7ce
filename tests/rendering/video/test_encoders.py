"""Files of frames, read back."""

import itertools
import weakref

import av
import jax
import numpy as np
import PIL.Image
import pytest

from creps_jax.checkpoint import load_generator
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera, plan_view
from creps_jax.rendering.video.encoders import write_video
from creps_jax.rendering.video.frames import paint_frames
from creps_jax.rendering.video.timing import Timing
from creps_jax.rendering.video.walks import walk
from tests.helpers.commands import names
from tests.helpers.films import psnr
from tests.helpers.saved import save_run

SIZE = (48, 64)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Frames of a walk, uint8, no two alike."""
    workdir = save_run(tmp_path_factory.mktemp("run"))
    painter, timing = Painter(*load_generator(workdir), jax.devices()[:1]), Timing(9)
    plans = [plan_view(painter, SIZE, Camera())] * timing.frames
    frames = list(paint_frames(painter, [walk(painter, [0, 1], timing)], plans))
    assert frames[0].std() > 20 and all((a != b).any() for a, b in itertools.pairwise(frames))
    return frames


def test_an_mp4_holds_the_frames(film, tmp_path):
    write_video(tmp_path / "film.mp4", iter(film), fps=24)
    assert names(tmp_path) == ["film.mp4"]
    with av.open(tmp_path / "film.mp4") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width) == SIZE and stream.average_rate == 24
        assert stream.frames == len(film) and container.duration == 1e6 * len(film) / 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == len(film)
    assert min(map(psnr, frames, film)) > 30
    header = (tmp_path / "film.mp4").read_bytes()
    assert header.index(b"moov") < header.index(b"mdat")  # Plays while it is being fetched.


@pytest.mark.parametrize(("loop", "times"), [(True, 0), (False, 1)])
def test_a_webp_holds_the_frames_and_their_times(film, tmp_path, loop, times):
    odd = [frame[:, :-1] for frame in film]
    write_video(tmp_path / "film.webp", iter(odd), 24, loop)
    assert names(tmp_path) == ["film.webp"]
    shown, total = [], 0
    with PIL.Image.open(tmp_path / "film.webp") as image:
        assert image.format == "WEBP" and image.size == (SIZE[1] - 1, SIZE[0])
        assert image.info["loop"] == times and image.n_frames == len(film)
        for i in range(image.n_frames):
            image.seek(i)
            shown.append(np.asarray(image.convert("RGB")))
            total += image.info["duration"]
    assert abs(total - 1000 * len(film) / 24) <= 1
    assert min(map(psnr, shown, odd)) > 30


def test_grey_frames_are_written(film, tmp_path):
    write_video(tmp_path / "grey.mp4", (frame[..., 2:] for frame in film), 24)
    with av.open(tmp_path / "grey.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert min(psnr(a, b[..., 2:]) for a, b in zip(frames, film, strict=True)) > 30


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["film.mp4", "film.webp"])
def test_a_film_that_breaks_off_leaves_the_old_file_and_nothing_else(film, tmp_path, name, error):
    (tmp_path / name).write_text("old")

    def breaking():
        yield from film[:5]
        assert len(names(tmp_path)) == 2
        raise error

    with pytest.raises(error):
        write_video(tmp_path / name, breaking(), fps=24)
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("name", ["film.mp4", "film.webp"])
def test_frames_are_written_as_they_come(film, tmp_path, name):
    alive = []

    def frames():
        for frame in film * 3:
            copy = frame.copy()
            alive.append(weakref.ref(copy))
            yield copy
            del copy
            assert sum(frame() is not None for frame in alive) <= 3

    write_video(tmp_path / name, frames(), fps=24)


def test_a_webp_has_at_most_50_frames_a_second_as_browsers_slow_shorter_ones_down(film, tmp_path):
    write_video(tmp_path / "fast.webp", film, fps=50)
    with PIL.Image.open(tmp_path / "fast.webp") as image:
        image.seek(1)
        image.load()
        assert image.info["duration"] == 20
    with pytest.raises(ValueError, match=r"fps=51 must be .* from 1 to 50 in a \.webp: browsers"):
        write_video(tmp_path / "faster.webp", film, fps=51)
    write_video(tmp_path / "fast.mp4", film, fps=60)
    assert names(tmp_path) == ["fast.mp4", "fast.webp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0}, "fps=0 must be"),
        ({"fps": 2.5}, "fps=2.5 must be"),
        ({"fps": float("nan")}, "fps=nan must be"),
        ({"fps": 241}, r"from 1 to 240 in a \.mp4$"),
        ({"crf": 52}, "crf=52 must be"),
        ({"crf": "18"}, "crf='18' must be"),
        ({"frames": []}, "there are no frames"),
    ],
)
def test_what_a_file_cannot_be_written_of_is_named(film, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "film.mp4", **{"frames": film, "fps": 24, **change})
    assert names(tmp_path) == []
