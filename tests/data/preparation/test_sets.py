"""Training sets from Python, the same as from the command line."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from creps_jax.arguments import argument_of
from creps_jax.data.preparation.sets import make_set
from tests.helpers.commands import creps, names


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_a_set_is_the_commands_byte_for_byte_and_is_found_again(photos, tmp_path):
    by_command, by_python, told = tmp_path / "command.zip", tmp_path / "python.zip", []
    options = [f"--source={photos}", "--size=16", "--processes=1", f"--out={by_command}"]
    assert creps("dataset", *options).exit_code == 0
    for _ in range(2):
        make_set([str(photos)], by_python, (16, 16), processes=1, note=told.append)
    assert by_python.read_bytes() == by_command.read_bytes()
    assert told[0] == "3 images, 0 of them are prepared already"
    assert told[-1] == f"{by_python} is complete already"


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("source", ["nowhere"]),
        ("out", Path("set.tar")),
        ("size", (2**14, 2**14)),
        ("labels", "nowhere.json"),
    ],
)
def test_an_error_tells_which_argument_it_is_about(photos, tmp_path, argument, wrong, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"source": [str(photos)], "out": Path("set.zip"), "size": (16, 16)}
    with pytest.raises((ValueError, OSError)) as error:
        make_set(**{**given, argument: wrong})
    assert argument_of(error.value) == argument
    assert names(tmp_path) == ["photos"]
