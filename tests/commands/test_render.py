"""`creps render`, and the files that it leaves."""

import os
import re

import jax
import numpy as np
import pytest
import tifffile
import zarr

import creps_jax
from creps_jax import options, progress
from creps_jax.commands import render as render_command
from creps_jax.model import coordinates
from creps_jax.rendering import painter as painter_module
from creps_jax.rendering.warp import maps
from tests.helpers.commands import assert_refused, creps_render, names, python, read

TILE = 128


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


def test_parts_share_many_images(workdir, tmp_path):
    for index in range(2):
        assert creps_render(workdir, tmp_path, "--seeds=0-2", f"--part={index}/2").exit_code == 0
        assert len(names(tmp_path)) == 2 + index
