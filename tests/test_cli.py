"""The command in this process, and as a user starts it where that is the point."""

import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
import typer.testing

import creps_jax
from creps_jax import cli
from creps_jax.checkpoint import Checkpoints, load_generator
from creps_jax.config import parse
from creps_jax.model import coordinates
from creps_jax.model.generator import Generator
from creps_jax.rendering.render import TILE, latent, render, to_uint8
from experiments import kill_hunt

CONFIG = kill_hunt.tiny_config()


def draw_variables(config):
    """What init returns, of random numbers, and with images that 8 bits can hold."""
    generator = Generator(parse(config).generator)
    t = coordinates.training_positions(config["resolution"])
    z = np.zeros((1, config["generator"]["z_dim"]), np.float32)
    c = np.zeros((1, config["num_classes"]), np.float32)
    shapes = jax.eval_shape(generator.init, jax.random.key(0), z, c, t, t)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: np.float32(random.standard_normal(x.shape)), shapes)
    params = variables["params"]
    params["mapping"] = jax.tree.map(lambda x: x * 100, params["mapping"])
    for p in (params["pixels"]["rgb"], *(block["to_rgb"] for block in params["pixels"]["refine"])):
        p["weight"] *= 0.1
        p["bias"] *= 0.1
    return jax.tree.map(jax.numpy.asarray, variables)


def save_run(workdir, **changes):
    config = CONFIG | changes
    variables = draw_variables(config)
    with Checkpoints(workdir, keep=2) as checkpoints:
        state = {"step": jax.numpy.zeros(())}
        checkpoints.save(0, state=state, ema=variables, data={}, config=config)
    return workdir


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def grey_workdir(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("grey"), num_classes=3, image_channels=1)


def creps(*arguments):
    return typer.testing.CliRunner().invoke(cli.app, [str(a) for a in arguments])


def creps_render(workdir, out, *arguments):
    return creps("render", f"--workdir={workdir}", f"--out={out}", *arguments)


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def read(path):
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_loaded_generator_has_the_variables_that_were_saved(workdir):
    generator, variables = load_generator(workdir)
    assert generator.config == parse(CONFIG).generator
    saved = draw_variables(CONFIG)
    assert jax.tree.structure(variables) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, variables, saved)


def test_version_and_help_answer_without_importing_jax():
    script = (
        "import sys, typer.testing as t; from creps_jax import cli;"
        "[print(t.CliRunner().invoke(cli.app, a.split()).output)"
        " for a in ('--version', '--help', 'render --help')];"
        "assert not {'jax', 'flax', 'orbax', 'numpy'} & sys.modules.keys()"
    )
    printed = python("-c", script).stdout
    assert f"creps {creps_jax.__version__}\n" in printed
    assert "HEIGHTxWIDTH" in printed and "--class" in printed


def test_off_a_terminal_a_run_prints_one_line(workdir, tmp_path):
    entry = "from creps_jax.cli import app; app()"
    out = tmp_path / "a" / "b"
    result = python("-c", entry, "render", f"--workdir={workdir}", "--seeds=7", f"--out={out}")
    assert result.stdout == f"1 image of 8x8 px, on cpu, to {out}\n"
    assert result.stderr == ""
    assert names(out) == ["seed0007.png"]


def test_files_hold_the_images_of_their_seeds_in_8_bits(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=0-1,12345", "--truncation=.7")
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["seed0000.png", "seed0001.png", "seed12345.png"]
    model = load_generator(workdir)
    for seed in (0, 1, 12345):
        expected = to_uint8(render(*model, latent(*model, seed, psi=0.7), (8, 8)))
        image = read(tmp_path / f"seed{seed:04d}.png")
        assert image.dtype == np.uint8 and len(np.unique(image)) > 20
        np.testing.assert_array_equal(image, expected)


def test_a_tilde_is_the_home_folder(workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(workdir)
    assert creps_render("~/run", "~/images", "--seeds=3").exit_code == 0
    assert names(tmp_path / "images") == ["seed0003.png"]


def test_an_image_depends_on_its_seed_alone(workdir, tmp_path):
    creps_render(workdir, tmp_path / "all", "--seeds=0-3")
    creps_render(workdir, tmp_path / "one", "--seeds=2")
    images = [read(path) for path in sorted((tmp_path / "all").iterdir())]
    np.testing.assert_array_equal(read(tmp_path / "one" / "seed0002.png"), images[2])
    assert not np.array_equal(images[1], images[2])


def test_a_window_is_the_crop_of_the_whole(workdir, tmp_path):
    size = f"--size={TILE + 20}x{TILE + 40}"
    y0, x0, y1, x1 = TILE - 5, TILE - 9, TILE + 3, TILE + 1
    creps_render(workdir, tmp_path / "whole", "--seeds=0", size)
    window = f"--window={y0},{x0},{y1},{x1}"
    creps_render(workdir, tmp_path / "part", "--seeds=0", size, window)
    whole, part = (read(tmp_path / name / "seed0000.png") for name in ("whole", "part"))
    assert whole.shape == (TILE + 20, TILE + 40, 3)
    np.testing.assert_array_equal(part, whole[y0:y1, x0:x1])


def test_sampling_moves_the_pixels(workdir, tmp_path):
    for sampling in ("centers", "endpoints"):
        creps_render(
            workdir, tmp_path / sampling, "--seeds=0", "--size=16", f"--sampling={sampling}"
        )
    centers, endpoints = (read(tmp_path / name / "seed0000.png") for name in cli.Sampling)
    model = load_generator(workdir)
    ws = latent(*model, 0)
    expected = to_uint8(render(*model, ws, (16, 16), sampling=coordinates.endpoints))
    np.testing.assert_array_equal(endpoints, expected)
    assert not np.array_equal(centers, endpoints)


def test_the_samplings_offered_are_those_there_are():
    assert set(cli.Sampling) == coordinates.SAMPLINGS.keys()


def test_grey_classes_become_grey_files_that_differ(grey_workdir, tmp_path):
    for label in (0, 2):
        creps_render(grey_workdir, tmp_path / str(label), "--seeds=0", f"--class={label}")
    zero, two = (read(tmp_path / label / "seed0000.png") for label in "02")
    assert zero.shape == two.shape == (8, 8)
    model = load_generator(grey_workdir)
    expected = to_uint8(render(*model, latent(*model, 0, label=2), (8, 8)))
    np.testing.assert_array_equal(two, expected[..., 0])
    assert not np.array_equal(zero, two)


def test_a_file_that_is_there_is_replaced(workdir, tmp_path):
    (tmp_path / "seed0000.png").write_text("half a file")
    creps_render(workdir, tmp_path, "--seeds=0")
    assert read(tmp_path / "seed0000.png").shape == (8, 8, 3)
    assert names(tmp_path) == ["seed0000.png"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(workdir, tmp_path, monkeypatch):
    (tmp_path / "seed0000.png").write_text("old")

    def full(self, path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PIL.Image.Image, "save", full)
    result = creps_render(workdir, tmp_path, "--seeds=0")
    assert result.exit_code == 1 and result.stderr == "Error: [Errno 28] No space left on device\n"
    assert (tmp_path / "seed0000.png").read_text() == "old" and len(names(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("0,5, 9-12", [0, 5, 9, 10, 11, 12]),
        ("4,2-5,2", [4, 2, 3, 5]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_seeds_are_listed_once_in_their_order(text, seeds):
    assert cli.parse_seeds(text) == seeds


def test_size_is_height_then_width_or_one_number_for_both():
    assert cli.parse_size("512x256") == (512, 256)
    assert cli.parse_size("64") == (64, 64)


def assert_refused(result, option, *parts):
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("seeds", ["", "x", "-1", "7-3", "1,", "0-", "1.5", "4294967296"])
def test_wrong_seeds_are_named(tmp_path, seeds):
    result = creps_render("nowhere", tmp_path, f"--seeds={seeds}")
    assert_refused(result, "--seeds", repr(seeds), "as 3, 0-7 or 0,5,9-12")


def test_a_million_seeds_are_the_most(tmp_path):
    result = creps_render("nowhere", tmp_path, "--seeds=0-4000000000")
    assert_refused(result, "--seeds", "at most 1000000", "4000000001")


@pytest.mark.parametrize("size", ["", "0", "8x0", "8x8x8", "-8", "axb", "8X8", "1048577", "8.5"])
def test_a_wrong_size_is_named(tmp_path, size):
    result = creps_render("nowhere", tmp_path, "--seeds=0", f"--size={size}")
    assert_refused(result, "--size", repr(size), "HEIGHTxWIDTH", "1048576")


@pytest.mark.parametrize("window", ["", "1,2,3", "0,0,4,x", "0,0,1.5,2", "0,0,4,4,4"])
def test_a_window_has_four_whole_numbers(tmp_path, window):
    result = creps_render("nowhere", tmp_path, "--seeds=0", f"--window={window}")
    assert_refused(result, "--window", repr(window), "y0,x0,y1,x1")


@pytest.mark.parametrize("window", ["0,0,9,8", "-1,0,4,4", "4,0,4,4"])
def test_a_window_lies_inside_the_frame(workdir, tmp_path, window):
    result = creps_render(workdir, tmp_path, "--seeds=0", f"--window={window}")
    assert_refused(result, "--window", window, "8 px high and 8 px wide")


@pytest.mark.parametrize("psi", ["-0.1", "nan", "inf"])
def test_truncation_is_a_finite_number_from_0_up(tmp_path, psi):
    result = creps_render("nowhere", tmp_path, "--seeds=0", f"--truncation={psi}")
    assert_refused(result, "--truncation", psi, "from 0 up")


def test_endpoints_of_one_pixel_are_refused(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=0", "--size=8x1", "--sampling=endpoints")
    assert_refused(result, "--size", "at least 2 pixels")


def test_an_unknown_sampling_is_refused(tmp_path):
    result = creps_render("nowhere", tmp_path, "--seeds=0", "--sampling=corners")
    assert_refused(result, "--sampling", "corners", "endpoints")


@pytest.mark.parametrize("arguments", [(), ("--class=3",), ("--class=-1",)])
def test_a_conditional_model_needs_one_of_its_classes(grey_workdir, tmp_path, arguments):
    result = creps_render(grey_workdir, tmp_path, "--seeds=0", *arguments)
    assert_refused(result, "--class", "from 0 to 2", "num_classes=3")


def test_an_unconditional_model_has_no_classes(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=0", "--class=1")
    assert_refused(result, "--class", "num_classes=0", "got class 1")


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_out_must_be_a_folder(workdir, tmp_path, folder):
    (tmp_path / "file").touch()
    result = creps_render(workdir, tmp_path / folder, "--seeds=0")
    assert_refused(result, "--out", str(tmp_path / folder))


def test_out_must_be_writable(workdir, tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    result = creps_render(workdir, tmp_path, "--seeds=0")
    assert_refused(result, "--out", str(tmp_path), "Permission denied")


def test_a_missing_workdir_is_one_line(tmp_path):
    result = creps_render(tmp_path / "no", tmp_path / "out", "--seeds=0")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'no'} is no folder")
    assert result.stderr.count("\n") == 1


def test_a_workdir_without_a_checkpoint_is_one_line(tmp_path):
    result = creps_render(tmp_path, tmp_path / "out", "--seeds=0")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no checkpoint")
    assert result.stderr.count("\n") == 1


def test_an_image_larger_than_the_memory_is_one_line(workdir, tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError("Unable to allocate 12.0 TiB")

    monkeypatch.setattr("creps_jax.rendering.render.render", refuse)
    result = creps_render(workdir, tmp_path, "--seeds=0", "--size=1048576")
    assert result.exit_code == 1 and result.stderr == "Error: Unable to allocate 12.0 TiB\n"


def test_workdir_seeds_and_out_are_required():
    for left_out in ("--workdir", "--seeds", "--out"):
        given = {"--workdir", "--seeds", "--out"} - {left_out}
        result = creps("render", *(f"{option}=3" for option in given))
        assert result.exit_code == 2 and f"Missing option '{left_out}'" in result.stderr
