"""Every option of the commands that paint, started for real; the networks are tiny."""

import enum
import inspect
import typing

import av
import numpy as np
import PIL.Image
import pytest

from creps_jax.commands.render import render
from creps_jax.commands.video import video
from tests.helpers.commands import creps, read

# The options of each start beside --workdir and --out, and the picture's height and width, px.
RENDER = [
    (["--seeds=0-1", "--class=2", "--cutoff=2", "--styles=5:2-3", "--truncation=.7"], (8, 8)),
    (["--seeds=3", "--size=20x12", "--class=0", "--window=1,2,14,12"], (13, 10)),
    (["--seeds=3", "--size=12", "--class=1", "--sampling=endpoints", "--supersample=2"], (12, 12)),
    (["--seeds=3", "--class=1", "--warp=cylinder:90", "--precision=bfloat16"], (8, 8)),
    (["--seeds=3", "--class=1", "--sampling=centers", "--part=0/1"], (8, 8)),
]
VIDEO = [
    (["walk.mp4", "--seeds=0,5,0", "--class=2", "--loop", "--truncation=.7"], (16, 16)),
    (["grid.webp", "--seeds=0-3", "--class=0", "--grid=1x2", "--interpolation=cubic"], (16, 32)),
    (["z.mp4", "--seeds=0-1", "--class=1", "--interpolation=spherical", "--crf=30"], (16, 16)),
    (["one.webp", "--seeds=3", "--class=1", "--camera=.5,.5,1;.4,.3,2,20"], (16, 16)),
    (["k.mp4", "--seeds=3-4", "--class=1", "--supersample=2", "--easing=linear"], (16, 16)),
    (["b.mp4", "--seeds=3-4", "--class=1", "--precision=bfloat16"], (16, 16)),
]
SHORT = ["--size=16", "--fps=5", "--seconds=.6"]
EVERYWHERE = ["--workdir", "--out", "--model"]  # The last in test_import_export.py.


def options_of(function):
    """Every option's name, with its choices but the default: that is in all other rows."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, option = typing.get_args(hints[name])
        choices = kind if isinstance(kind, type) and issubclass(kind, enum.Enum) else ()
        named = (option.default, *(option.param_decls or ()), f"--{name}")
        yield (
            next(text for text in named if "--" in str(text)),
            [c.value for c in choices if c != parameter.default],
        )


@pytest.mark.parametrize(
    ("function", "rows", "more"), [(render, RENDER, []), (video, VIDEO, SHORT)]
)
def test_every_option_and_every_choice_is_in_a_row(function, rows, more):
    given = {*EVERYWHERE, *more, *(text for row, _ in rows for text in row)}
    names = {text.partition("=")[0] for text in given}
    options = dict(options_of(function))
    assert len(options) > 10
    assert options.keys() - names == set()
    for name, choices in options.items():
        assert {f"{name}={choice}" for choice in choices} - given == set()


@pytest.mark.parametrize(("arguments", "shape"), RENDER)
def test_a_picture_is_rendered_with(grey_workdir, tmp_path, arguments, shape):
    result = creps("render", f"--workdir={grey_workdir}", f"--out={tmp_path}", *arguments)
    assert result.exit_code == 0, result.output
    for path in tmp_path.iterdir():
        assert read(path).shape == shape and len(np.unique(read(path))) > 5


@pytest.mark.parametrize(("arguments", "shape"), VIDEO)
def test_a_video_is_written_with(grey_workdir, tmp_path, arguments, shape):
    out, *rest = arguments
    result = creps("video", f"--workdir={grey_workdir}", f"--out={tmp_path / out}", *SHORT, *rest)
    assert result.exit_code == 0, result.output
    if out.endswith(".webp"):
        with PIL.Image.open(tmp_path / out) as image:
            assert image.size == shape[::-1] and image.n_frames == 3
        return
    with av.open(tmp_path / out) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.frames) == (*shape, 3)
