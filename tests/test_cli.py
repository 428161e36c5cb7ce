"""The command in this process, and as a user starts it where that is the point."""

import itertools
import os
import re
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
import tifffile
import typer.testing
import zarr

import creps_jax
from creps_jax import cli, devices, options, progress
from creps_jax.checkpoint import Checkpoints, load_generator
from creps_jax.commands import render as render_command
from creps_jax.config import parse
from creps_jax.model import coordinates
from creps_jax.model.generator import Generator
from creps_jax.rendering import painter as painter_module
from creps_jax.rendering.warp import maps
from experiments import kill_hunt

CONFIG = kill_hunt.tiny_config()
TILE = 128


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
    """In a process of its own, with one device."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


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
    painter = creps_jax.load(workdir)
    for seed in (0, 1, 12345):
        expected = painter.render(seed, truncation=0.7)
        image = read(tmp_path / f"seed{seed:04d}.png")
        assert image.dtype == np.uint8 and len(np.unique(image)) > 20
        np.testing.assert_array_equal(image, expected)


def test_a_tilde_is_the_home_folder(workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(workdir)
    assert creps_render("~/run", "~/images", "--seeds=3").exit_code == 0
    assert names(tmp_path / "images") == ["seed0003.png"]


def test_a_seed_named_twice_is_one_image(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=1,0-1")
    assert result.stdout.startswith("2 images of 8x8 px"), result.output
    assert names(tmp_path) == ["seed0000.png", "seed0001.png"]


@pytest.fixture
def no_cache():
    """No folder of compiled programs, for a while."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("no_cache")
def test_without_a_home_nothing_is_kept_nor_named_by_a_tilde(workdir, tmp_path, monkeypatch):
    """As in a container under a user that it does not know."""

    def unknown(*_):
        raise KeyError

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    result = creps_render(workdir, "images", "--seeds=3")
    assert result.exit_code == 0 and result.stderr == ""
    assert jax.config.jax_compilation_cache_dir is None
    for option, arguments in (("--out", (workdir, "~/a")), ("--workdir", ("~nobody here", "a"))):
        result = creps_render(*arguments, "--seeds=3")
        assert_refused(result, option, "no such home folder here; write the path in full")
    assert names(tmp_path) == ["images"]


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("place", ["/proc/nowhere", "relative", "~"])
def test_without_a_folder_for_caches_there_is_none(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", place)
    monkeypatch.delenv("XDG_CACHE_HOME")
    devices.cache_compilations()
    assert jax.config.jax_compilation_cache_dir is None and names(tmp_path) == []


@pytest.mark.usefixtures("no_cache")
def test_compiled_programs_are_kept_where_the_user_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # Which the standard has us ignore.
    monkeypatch.setenv("HOME", str(tmp_path))
    devices.cache_compilations()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "creps_jax")


def test_a_zarr_may_be_at_a_url(workdir, tmp_path):
    result = creps_render(workdir, f"file://{tmp_path}/a.zarr", "--seeds=3")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.zarr" / "zarr.json").exists()


def test_names_that_are_no_utf_8_are_refused_in_one_line(workdir, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for option, result in (
        ("--out", creps_render(workdir, f"{tmp_path}/{name}", "--seeds=3")),
        ("--workdir", creps_render(f"{tmp_path}/{name}", "images", "--seeds=3")),
    ):
        assert_refused(result, option, "/caf\\xe9' is no UTF-8: rename it")
    with pytest.raises(ValueError, match="is no UTF-8"):
        creps_jax.load(tmp_path / name)


def test_help_has_a_short_name_in_all_commands():
    for command in ((), ("render",), ("video",), ("dataset",), ("build",)):
        short, long = creps(*command, "-h"), creps(*command, "--help")
        assert short.exit_code == 0 and short.stdout == long.stdout and "Usage" in long.stdout


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
    centers, endpoints = (
        read(tmp_path / name / "seed0000.png") for name in render_command.Sampling
    )
    expected = creps_jax.load(workdir).render(0, size=(16, 16), sampling=coordinates.endpoints)
    np.testing.assert_array_equal(endpoints, expected)
    assert not np.array_equal(centers, endpoints)


def test_the_samplings_offered_are_those_there_are():
    assert set(render_command.Sampling) == coordinates.SAMPLINGS.keys()


def test_grey_classes_become_grey_files_that_differ(grey_workdir, tmp_path):
    for label in (0, 2):
        creps_render(grey_workdir, tmp_path / str(label), "--seeds=0", f"--class={label}")
    zero, two = (read(tmp_path / label / "seed0000.png") for label in "02")
    assert zero.shape == two.shape == (8, 8)
    expected = creps_jax.load(grey_workdir).render(0, label=2)
    np.testing.assert_array_equal(two, expected[..., 0])
    assert not np.array_equal(zero, two)


def test_a_file_that_is_there_is_replaced(workdir, tmp_path):
    (tmp_path / "seed0000.png").write_text("half a file")
    creps_render(workdir, tmp_path, "--seeds=0")
    assert read(tmp_path / "seed0000.png").shape == (8, 8, 3)
    assert names(tmp_path) == ["seed0000.png"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("0,5, 9-12", [0, 5, 9, 10, 11, 12]),
        ("4,2-5,2", [4, 2, 3, 4, 5, 2]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_seeds_are_listed_in_their_order_as_often_as_named(text, seeds):
    assert options.parse_seeds(text) == seeds


def test_size_is_height_then_width_or_one_number_for_both():
    assert options.parse_size("512x256") == (512, 256)
    assert options.parse_size("64") == (64, 64)


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


@pytest.mark.parametrize("psi", ["-0.1", "nan", "inf", "1e+39"])
def test_truncation_is_a_finite_number_from_0_up(tmp_path, psi):
    result = creps_render("nowhere", tmp_path, "--seeds=0", f"--truncation={psi}")
    assert_refused(result, "--truncation", psi, "from 0 up")


def test_endpoints_of_one_pixel_are_refused(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=0", "--size=8x1", "--sampling=endpoints")
    assert_refused(result, "--size", "at least 2 px")


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
def test_a_file_is_no_folder_to_write_in(workdir, tmp_path, folder):
    (tmp_path / "file").touch()
    result = creps_render(workdir, tmp_path / folder, "--seeds=0")
    assert_refused(result, "--out", str(tmp_path / folder))


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


def test_a_picture_larger_than_the_disk_is_refused_before_the_work(workdir, tmp_path):
    result = creps_render(workdir, tmp_path, "--seeds=0", "--size=1048576")
    assert_refused(result, "--out", "seed0000.png: what is still to be painted takes", "are free")
    assert names(tmp_path) == []


def test_workdir_seeds_and_out_are_required():
    for left_out in ("--workdir", "--seeds", "--out"):
        given = {"--workdir", "--seeds", "--out"} - {left_out}
        result = creps("render", *(f"{option}=3" for option in given))
        assert result.exit_code == 2 and f"Missing option '{left_out}'" in result.stderr


def test_every_option_changes_the_picture_as_the_painter_says(workdir, tmp_path):
    painter = creps_jax.load(workdir)
    for name, arguments, options_ in [
        ("plain", [], {}),
        ("styles", ["--styles=5:2-3"], {"styles": {2: 5, 3: 5}}),
        ("cutoff", ["--truncation=.5", "--cutoff=2"], {"truncation": 0.5, "cutoff": 2}),
        ("supersample", ["--size=12", "--supersample=3"], {"size": (12, 12), "supersample": 3}),
        ("small", ["--size=4"], {"size": (4, 4), "supersample": 4}),
        ("warp", ["--size=16", "--warp=rotate:30"], {"size": (16, 16), "warp": maps.rotate(30)}),
    ]:
        result = creps_render(workdir, tmp_path / f"{name}.png", "--seeds=1", *arguments)
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(read(tmp_path / f"{name}.png"), painter.render(1, **options_))
    assert re.search(r"warp.png: its pixels are 0\.0.* at most in a sample", result.stdout)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 6


def test_bfloat16_is_close(workdir, tmp_path):
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.png"
        assert creps_render(workdir, out, "--seeds=0", f"--precision={precision}").exit_code == 0
    exact, close = (read(path).astype(int) for path in sorted(tmp_path.iterdir(), reverse=True))
    assert 0 < np.abs(exact - close).mean() < 4


def test_each_ending_picks_its_writer(workdir, tmp_path):
    expected = creps_jax.load(workdir).render(0, size=(40, 30))
    for ending in ("png", "tif", "zarr", "dzi"):
        result = creps_render(workdir, tmp_path / f"a.{ending}", "--seeds=0", "--size=40x30")
        assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["a.dzi", "a.png", "a.tif", "a.zarr", "a_files"]
    np.testing.assert_array_equal(read(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    np.testing.assert_array_equal(zarr.open(tmp_path / "a.zarr", mode="r")[:], expected)
    np.testing.assert_array_equal(read(tmp_path / "a_files" / "6" / "0_0.png"), expected)


def test_what_is_complete_is_left_as_it_is(workdir, tmp_path):
    creps_render(workdir, tmp_path, "--seeds=0-1")
    first = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = creps_render(workdir, tmp_path, "--seeds=0-2")
    assert again.stdout.count("is complete already") == 2
    assert first.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}.items()
    (tmp_path / "seed0002.png").unlink()
    creps_render(workdir, tmp_path, "--seeds=0-1", "--truncation=.5")
    assert all(path.stat().st_mtime_ns > first[path] for path in tmp_path.iterdir())


def test_a_file_holds_one_seed(workdir, tmp_path):
    result = creps_render(workdir, tmp_path / "a.png", "--seeds=0-1")
    assert_refused(result, "--out", "holds one image, got 2 seeds")


def test_a_format_that_is_not_written_is_named(workdir, tmp_path):
    result = creps_render(workdir, tmp_path / "a.jpg", "--seeds=0")
    assert_refused(result, "--out", "a.jpg", ".png, .tif, .tiff, .zarr, .dzi")


@pytest.mark.parametrize("styles", ["", "5", "5:", "5:x", "5:3-2", "-1:2", "5:2,6:2"])
def test_wrong_styles_are_named(tmp_path, styles):
    result = creps_render("nowhere", tmp_path, "--seeds=0", f"--styles={styles}")
    assert_refused(result, "--styles", repr(styles))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--styles=5:9", "layer 9 must be from 0 to 4"),
        ("--cutoff=9", "cutoff=9 must be a whole number from 0 to 5"),
        ("--supersample=0", "supersample=0"),
        ("--warp=twirl:3", "'twirl:3'"),
        ("--warp=fisheye:2", "fisheye:2 must be from 0 up to"),
        ("--warp=shear:1e39", "'shear:1e39' must be NAME:AMOUNT with one of rotate"),
        ("--truncation=3e38", "truncation=3e+38 makes latents that float32 cannot hold"),
        ("--precision=float16", "float16"),
    ],
)
def test_what_is_out_of_range_is_named(workdir, tmp_path, argument, message):
    result = creps_render(workdir, tmp_path, "--seeds=0", argument)
    assert_refused(result, argument.partition("=")[0], message)


def test_the_precisions_offered_are_those_there_are():
    assert set(options.Precision) == painter_module.PRECISIONS.keys()


def test_writing_tells_how_far_it_is(workdir, tmp_path, monkeypatch):
    advanced = []
    monkeypatch.setattr(
        progress.Progress, "advance", lambda self, *a: advanced.append((self._unit, *a))
    )
    for ending in ("png", "tif", "dzi"):
        advanced.clear()
        creps_render(workdir, tmp_path / f"a.{ending}", "--seeds=0", "--size=600x700")
        for unit, tiles in (("tiles painted", 4), ("tiles written", 600 * 700 / 512**2)):
            of_unit = [a for a in advanced if a[0] == unit]
            assert sum(a[1] for a in of_unit) == pytest.approx(tiles)
            assert sum(a[2] for a in of_unit) == 600 * 700
    advanced.clear()
    creps_render(workdir, tmp_path, "--seeds=0-2", "--size=600x700")
    assert {a[0] for a in advanced} == {"images"} and len(advanced) == 3 * 4
    assert sum(a[1] for a in advanced) == pytest.approx(3)
    advanced.clear()
    creps_render(workdir, tmp_path, "--seeds=0-3", "--size=600x700")
    assert advanced[:3] == [("images", 1, 0)] * 3
    assert sum(a[1] for a in advanced[3:]) == pytest.approx(1)


@pytest.mark.parametrize("out", ["", "a.npy", "large.tfi"])
def test_a_suffix_of_no_format_needs_a_slash(workdir, tmp_path, out, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = creps("render", f"--workdir={workdir}", "--seeds=0", f"--out={out}")
    if out:
        assert_refused(result, "--out", out, "a folder, with a / at its end")
        assert creps_render(workdir, f"{out}/", "--seeds=0").exit_code == 0
        assert names(tmp_path / out) == ["seed0000.png"]
    else:
        assert_refused(result, "--out", "empty")


def test_lines_tell_how_far_each_stage_is(monkeypatch, capsys):
    clock = itertools.chain([0.0, 1.0, 20.0, 20.0], itertools.repeat(31.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with progress.progress() as shown:
        for _ in range(2):
            shown.stage(6, "tiles painted")
            shown.advance(1, 4_000_000)
        shown.stage(1.5, "tiles written")
        shown.advance(0.5, 5_500_000)
    assert capsys.readouterr().err == (
        "2/6 tiles painted  0.40 Mpixel/s  0m 40s left\n"
        "0/2 tiles written  0.50 Mpixel/s  0m 22s left\n"
    )


def test_lines_tell_how_far_a_vast_image_is_from_its_first_tile_on(monkeypatch, capsys):
    clock = itertools.count(0.0, 20.0)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    tile = (512 / 2**20) ** 2
    with progress.progress() as shown:
        shown.stage(1, "images")
        shown.advance(0)
        shown.advance(tile, 512**2)
        shown.advance(1 - tile, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0/1 images  0 a second"
    assert lines[1] == "0/1 images  0.01 Mpixel/s  46603h 22m left"
    assert lines[2] == "1/1 images  0.00 Mpixel/s  0m 00s left"


def test_a_part_must_be_one_of_the_parts(tmp_path):
    for part in ("2/2", "0/0", "1", "-1/2", "a/b"):
        result = creps_render("nowhere", tmp_path, "--seeds=0", f"--part={part}")
        assert_refused(result, "--part", repr(part), "INDEX/COUNT")


def test_parts_share_many_images(workdir, tmp_path):
    for index in range(2):
        assert creps_render(workdir, tmp_path, "--seeds=0-2", f"--part={index}/2").exit_code == 0
        assert len(names(tmp_path)) == 2 + index
