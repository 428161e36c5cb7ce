"""Pictures to files from Python, the same as from the command line; parts of several machines."""

import jax
import numpy as np
import pytest
import zarr

import creps_jax
from creps_jax.arguments import argument_of
from creps_jax.rendering import saving
from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.painter import Painter
from tests.helpers.commands import creps_render, names, read
from tests.helpers.generators import make_generator
from tests.helpers.saved import save_run

ARGUMENTS = {
    "--size=40x30": {"size": (40, 30)},
    "--window=1,2,13,24": {"window": (1, 2, 13, 24)},
    "--truncation=.7": {"truncation": 0.7},
    "--cutoff=2": {"cutoff": np.int64(2)},
    "--styles=5:2-3": {"styles": {2: 5, 3: 5}},
    "--sampling=endpoints": {"sampling": "endpoints"},
    "--supersample=2": {"supersample": 2},
    "--warp=shear:.2": {"warp": "shear:0.2"},
}


READ = {"png": read, "zarr": lambda path: zarr.open(path, mode="r")[:]}


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def test_python_goes_on_with_what_the_command_has_begun_and_the_other_way_round(tmp_path):
    painter = creps_jax.load(save_run(tmp_path / "run"))
    given = {name: value for options in ARGUMENTS.values() for name, value in options.items()}
    by_command, by_python = tmp_path / "command.png", tmp_path / "python.png"
    assert creps_render(tmp_path / "run", by_command, "--seeds=1", *ARGUMENTS).exit_code == 0
    assert painter.save(by_python, 1, **given)
    assert by_command.read_bytes() == by_python.read_bytes()
    np.testing.assert_array_equal(read(by_python), painter.render(1, **given))
    again = creps_render(tmp_path / "run", by_python, "--seeds=1", *ARGUMENTS)
    assert "is complete already" in again.stdout
    before = by_command.stat().st_mtime_ns
    assert painter.save(by_command, 1, **given) and by_command.stat().st_mtime_ns == before


def test_several_seeds_and_a_window_are_the_commands_files_byte_for_byte(tmp_path):
    run, told = save_run(tmp_path / "run"), []
    by_command, by_python = tmp_path / "command", tmp_path / "python"
    options = ["--seeds=5,0", "--size=300x20", "--window=100,3,290,20"]
    assert creps_render(run, by_command, *options).exit_code == 0
    painter = creps_jax.load(run)
    given = {"size": (300, 20), "window": (100, 3, 290, 20)}
    assert painter.save(by_python, [5, 0, 5], **given, note=told.append)
    assert told == [f"2 images of 190x17 px, on {painter.device}, to {by_python}"]
    assert names(by_python) == names(by_command) == ["seed0000.png", "seed0005.png"]
    for name in names(by_python):
        assert (by_python / name).read_bytes() == (by_command / name).read_bytes()


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("path", {"path": "a.jpg"}),
        ("path", {"path": "/proc/nowhere/a.png"}),
        ("path", {"path": "a.png", "seed": [1, 2]}),
        ("seed", {"seed": []}),
        ("seed", {"seed": [1, -1]}),
        ("seed", {"seed": [[1]]}),
        ("part", {"part": (2, 2)}),
        ("size", {"size": 0}),
        ("window", {"window": (0, 0, 99, 1)}),
        ("sampling", {"sampling": "corners"}),
        ("supersample", {"supersample": 0}),
        ("warp", {"warp": "twirl:3"}),
        ("label", {"label": 1}),
        ("truncation", {"truncation": -1}),
        ("truncation", {"truncation": 3e38}),
        ("cutoff", {"cutoff": 99}),
        ("styles", {"styles": {99: 1}}),
        (None, {"seed": None}),
        (None, {"seed": None, "ws": np.zeros((7, 12)), "cutoff": 1}),
    ],
)
def test_an_error_tells_which_argument_it_is_about(painter, tmp_path, argument, wrong, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError)) as error:
        painter.save(**{"path": "a.png", "seed": 0, **wrong})
    assert argument_of(error.value) == argument
    assert names(tmp_path) == []


def test_latents_are_one_image_and_need_a_file(painter, tmp_path):
    ws = painter.latents(3)
    assert painter.save(tmp_path / "ws.png", ws=ws) and painter.save(tmp_path / "seed.png", 3)
    assert (tmp_path / "ws.png").read_bytes() == (tmp_path / "seed.png").read_bytes()
    with pytest.raises(ValueError, match=r"must end in one of \.png, \.tif"):
        painter.save(tmp_path / "folder", ws=ws)


@pytest.mark.parametrize("ending", ["png", "zarr"])
def test_parts_of_another_release_of_jax_are_refused_and_nothing_is_lost(
    painter, tmp_path, ending, monkeypatch
):
    out = tmp_path / f"a.{ending}"
    options = {"size": (600, 30)}
    assert not painter.save(out, 0, part=(0, 2), **options)
    begun = {path: path.read_bytes() for path in tmp_path.rglob("c/**/*") if path.is_file()}
    assert begun
    with monkeypatch.context() as other:
        other.setattr(jax, "__version__", "0.99.0")
        with pytest.raises(OSError, match=r"another release of JAX: .* or delete .*\.partial"):
            painter.save(out, 0, part=(1, 2), **options)
    assert all(path.read_bytes() == chunk for path, chunk in begun.items())
    assert painter.save(out, 0, part=(1, 2), **options)
    np.testing.assert_array_equal(READ[ending](out), painter.render(0, **options))
    assert names(tmp_path) == [out.name]


def test_a_picture_of_another_release_is_painted_anew(painter, tmp_path, monkeypatch):
    out = tmp_path / "a.png"
    painter.save(out, 0)
    key = saving.picture(painter, *painter.chosen(0)).key
    monkeypatch.setattr(jax, "__version__", "0.99.0")
    painter.save(out, 0)
    assert not is_finished(out, key)
