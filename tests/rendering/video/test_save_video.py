"""Videos to files from Python, the same as from the command line."""

import jax
import numpy as np
import pytest

import creps_jax
from creps_jax.arguments import argument_of
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera
from creps_jax.rendering.video.saving import save_video
from tests.helpers.commands import creps, names
from tests.helpers.generators import make_generator
from tests.helpers.saved import save_run


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def test_a_video_is_the_commands_byte_for_byte(tmp_path):
    run = save_run(tmp_path / "run")
    options = ["--seeds=0-3", "--size=16x24", "--seconds=.5", "--fps=8", "--grid=1x2", "--loop"]
    more = ["--camera=.5,.5,1;.4,.3,2", "--interpolation=cubic", "--truncation=.7"]
    by_command, by_python = tmp_path / "command.webp", tmp_path / "python.webp"
    result = creps("video", f"--workdir={run}", f"--out={by_command}", *options, *more)
    assert result.exit_code == 0, result.output
    save_video(
        creps_jax.load(run),
        by_python,
        [0, 1, 2, 3],
        size=(16, 24),
        seconds=0.5,
        fps=8,
        grid=(1, 2),
        loop=True,
        camera=[Camera(), Camera(0.4, 0.3, 2)],
        interpolation="cubic",
        truncation=0.7,
    )
    assert by_python.read_bytes() == by_command.read_bytes()


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("path", "walk.gif"),
        ("path", "/proc/nowhere/walk.mp4"),
        ("seeds", []),
        ("size", 33),
        ("seconds", 0.0),
        ("seconds", np.nan),
        ("seconds", "1"),
        ("fps", 0),
        ("interpolation", "quintic"),
        ("camera", []),
        ("camera", [Camera(zoom=1e9)]),
        ("easing", "sudden"),
        ("grid", (1, 3)),
        ("grid", (0, 1)),
        ("grid", 2),
        ("supersample", 0),
        ("truncation", -1.0),
        ("label", 1),
        ("crf", 52),
    ],
)
def test_an_error_tells_which_argument_it_is_about(painter, tmp_path, argument, wrong, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError)) as error:
        save_video(painter, **{"path": "walk.mp4", "seeds": [0, 1], "size": 16, argument: wrong})
    assert argument_of(error.value) == argument
    assert names(tmp_path) == []
