"""`creps video`, and what it refuses."""

import sys

import av
import pytest

from creps_jax.commands import video as command
from creps_jax.rendering.video.timing import EASINGS
from creps_jax.rendering.video.walks import INTERPOLATIONS
from tests.helpers.commands import assert_refused, creps, names
from tests.helpers.films import psnr


def creps_video(workdir, out, *arguments):
    few = ("--size=32", "--seconds=.5", "--fps=10", "--seeds=0-1")
    return creps("video", f"--workdir={workdir}", f"--out={out}", *few, *arguments)


def test_a_seed_may_come_again_in_a_walk_and_in_a_grid(workdir, tmp_path):
    out = tmp_path / "walk.mp4"
    again = ("--seeds=0,5,0,5", "--grid=1x2", "--easing=linear")
    assert creps_video(workdir, out, *again).exit_code == 0
    with av.open(out) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 64, 3)
    assert psnr(frames[0], frames[-1]) > 30  # Each cell's seed is the same at both ends.
    assert psnr(frames[0][:, :32], frames[0][:, 32:]) < 30


def test_the_rate_of_a_webp_is_limited_by_name(workdir, tmp_path):
    result = creps_video(workdir, tmp_path / "walk.webp", "--fps=60")
    assert_refused(result, "--fps", "fps=60", "from 1 to 50", ".webp", "20 ms")


def test_the_command_writes_the_walk_it_says(workdir, tmp_path):
    out = tmp_path / "new" / "walk.mp4"
    result = creps_video(workdir, out, "--interpolation=cubic", "--loop", "--grid=1x2")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"5 frames of 32x64 px, on 8 x cpu, to {out}\n"
    with av.open(out) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.frames) == (32, 64, 5)
        assert stream.average_rate == 10


def test_the_ways_offered_are_those_there_are():
    assert set(command.Interpolation) == INTERPOLATIONS.keys()
    assert set(command.Easing) == EASINGS.keys()


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--size=33", ("33x33 px", "even sides", "make them 34x34")),
        ("--size=16386", ("16386x16386 px", "up to 16384 px", "make them 16384x16384")),
        ("--out=walk.gif", ("walk.gif", ".mp4 or .webp")),
        ("--fps=0", ("from 1 to 240", "got 0")),
        ("--seconds=0", ("from 0.1 to", "got 0")),
        ("--seconds=nan", ("from 0.1 to", "got nan")),
        ("--crf=52", ("from 0 to 51", "got 52")),
        ("--grid=2", ("ROWSxCOLUMNS as 2x3", "got '2'")),
        ("--grid=0x2", ("ROWSxCOLUMNS as 2x3", "got '0x2'")),
        ("--grid=2x2", ("4 cells", "got 2 seeds")),
        ("--camera=.5,.5", ("y,x,zoom,degrees", "got '.5,.5'")),
        ("--camera=.5,.5,1;", ("y,x,zoom,degrees", "got '.5,.5,1;'")),
        ("--camera=a,.5,1", ("y,x,zoom,degrees", "got 'a,.5,1'")),
        ("--camera=.5,1.5,1", ("0.5,1.5,1", "from 0 to 1")),
        ("--camera=.5,.5,0", ("0.5,0.5,0", "zoom from 0.001")),
        ("--camera=nan,.5,1", ("nan,0.5,1", "finite")),
        ("--camera=.5,.5,1,inf", ("0.5,0.5,1.0,inf", "finite")),
        ("--camera=.5,.5,1,9e307;.5,.5,1,-9e307", ("9e+307", "float32")),
        ("--camera=.5,.5,1,1e6", ("degrees = 1e+06", "from -360000 to 360000")),
        ("--camera=.5,.5,1e400", ("0.5,0.5,inf,0.0", "finite")),
        ("--camera=.5,.5,1;.5,.5,4e4", ("zoom 40000", "at most 32768", "float32")),
        ("--supersample=0", ("supersample=0", "from 1 up")),
        ("--class=1", ("num_classes=0", "got class 1")),
        ("--truncation=-1", ("from 0 up", "got -1")),
        ("--truncation=1e39", ("from 0 up to 3.40282e+38", "got 1e+39")),
    ],
)
def test_a_wrong_option_is_named_with_its_value(workdir, tmp_path, argument, parts):
    result = creps_video(workdir, tmp_path / "walk.mp4", argument)
    assert_refused(result, argument.split("=")[0], *parts)
    assert names(tmp_path) == []


def test_without_pyav_the_command_says_how_to_install_it(workdir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    result = creps_video(workdir, tmp_path / "walk.mp4")
    assert result.exit_code == 1
    assert result.stderr == "Error: videos need PyAV: pip install 'creps-jax[video]'\n"
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(workdir, tmp_path, monkeypatch):
    result = creps_video(workdir, "/proc/walk.mp4")
    assert_refused(result, "--out", "cannot write there", "'/proc'")
