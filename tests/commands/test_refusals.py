"""What `creps render` refuses, by the name of the option."""

import pytest

from tests.helpers.commands import assert_refused, creps, creps_render, names


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


def test_seeds_and_out_are_required():
    for left_out in ("--seeds", "--out"):
        given = {"--workdir", "--seeds", "--out"} - {left_out}
        result = creps("render", *(f"{option}=3" for option in given))
        assert result.exit_code == 2 and f"Missing option '{left_out}'" in result.stderr


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


def test_a_part_must_be_one_of_the_parts(tmp_path):
    for part in ("2/2", "0/0", "1", "-1/2", "a/b"):
        result = creps_render("nowhere", tmp_path, "--seeds=0", f"--part={part}")
        assert_refused(result, "--part", repr(part), "INDEX/COUNT")
