"""`creps evaluate`: figures of a run, and of one set of images against another."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from creps_jax.data.scenes import procedural
from creps_jax.evaluation import extraction
from tests.helpers import parity_arrays
from tests.helpers.commands import assert_refused, creps
from tests.helpers.saved import save_run

LINE = re.compile(r"(\w+) (\S+)  95% (\S+) to (\S+), (higher|lower) is better")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(extraction, "AT_A_TIME", 2)  # On each of 8 devices.
        yield folder / "creps_jax" / "features"


@pytest.fixture(scope="module")
def workdir(cache, tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


def figures(result):
    assert result.exit_code == 0, result.output
    return {m[1]: tuple(map(float, m.group(2, 3, 4))) for m in LINE.finditer(result.output)}


def test_a_runs_figures_are_printed_and_written(workdir, cache, tmp_path):
    out = tmp_path / "figures.json"
    command = "evaluate", f"--workdir={workdir}", "--metrics=kd_lite,fd_lite", "--images=20"
    result = creps(*command, f"--out={out}")
    found = figures(result)
    assert list(found) == ["kd_lite", "fd_lite"] and found["fd_lite"][0] > 1
    assert all(low < value < high for value, low, high in found.values())
    told = json.loads(out.read_text())
    assert (told["fakes_count"], told["reals_count"]) == (20, 23) and told["figures"]["fd_lite"][
        "value"
    ] == pytest.approx(found["fd_lite"][0], rel=1e-5)
    assert len(list(cache.iterdir())) == 1  # Of the reals; of the fakes nothing is left.
    assert figures(creps(*command)) == found


def test_sets_of_images_are_compared_in_one_size(cache, tmp_path):
    """Scenes with themselves, with others, and with noise; files are larger, of two sizes."""
    for name, first in (("some", 0), ("others", 20), ("noise", None)):
        (tmp_path / name).mkdir()
        for i in range(12):
            shape = (40, 40) if i % 2 else (48, 36)
            random = np.random.default_rng(i)
            noise = random.integers(0, 256, (*shape, 3), np.uint8)
            image = noise if first is None else procedural.scene(first + i, shape, 3)
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")

    def distance(name):
        arguments = f"--fakes=folder:{tmp_path / name}", f"--reals=folder:{tmp_path / 'some'}"
        found = figures(creps("evaluate", *arguments, "--size=32", "--metrics=fd_lite"))
        return found["fd_lite"][0]

    same, others, noise = map(distance, ("some", "others", "noise"))
    assert abs(same) < 1e-6 < 10 < others < noise


def test_files_that_are_replaced_are_seen_again(cache, tmp_path):
    """Also where names and sizes stay."""
    (tmp_path / "some").mkdir()
    arguments = f"--fakes=folder:{tmp_path / 'some'}", "--reals=procedural:12", "--size=32"
    found = []
    for first in (0, 50):
        for i in range(12):
            scene = procedural.scene(first + i, (32, 32), 3)
            Image.fromarray(scene).save(tmp_path / "some" / f"{i}.bmp")
        found.append(figures(creps("evaluate", *arguments, "--metrics=fd_lite"))["fd_lite"][0])
    assert abs(found[0]) < 1e-6 < 10 < found[1]


def test_consistency_needs_no_reals_features(workdir):
    found = figures(creps("evaluate", f"--workdir={workdir}", "--metrics=ppl", "--images=4"))
    assert found.keys() == {"ppl"} and found["ppl"][0] > 0


def test_an_imported_network_is_evaluated(cache, tmp_path):
    """Of three classes; it knows no reals of its own, so that they are given where needed."""
    entries = parity_arrays.load("networks_conditional").group("G/")
    np.savez(tmp_path / "g.npz", **entries)
    assert creps("import", tmp_path / "g.npz", f"--out={tmp_path / 'run'}").exit_code == 0
    command = "evaluate", f"--workdir={tmp_path / 'run'}", "--images=12"
    assert figures(creps(*command, "--metrics=self_ssim"))["self_ssim"][0] < 1
    found = figures(creps(*command, "--metrics=fd_lite", "--reals=procedural:16"))
    assert found["fd_lite"][0] > 10
    assert_refused(creps(*command, "--metrics=fd_lite"), "--reals", "datasets/images")


def test_wrong_options(workdir, tmp_path):
    def evaluate(*arguments):
        return creps("evaluate", *arguments)

    run = f"--workdir={workdir}"
    assert_refused(evaluate(run, "--metrics=fd"), "--metrics", "'fd' is no metric", "fd_lite")
    assert_refused(evaluate(), "--workdir", "give --workdir, --model, or --fakes")
    assert_refused(evaluate(run, "--fakes=folder:a"), "--workdir", "or --fakes")
    assert_refused(evaluate(run, "--images=1"), "--images", "from 2 to")
    assert_refused(evaluate(run, "--size=0"), "--size", "HEIGHTxWIDTH")
    fakes, reals = "--fakes=procedural:9", "--reals=procedural:9"
    assert_refused(evaluate(fakes, reals), "--size", "a set of fakes needs a size")
    assert_refused(evaluate(fakes, "--size=32"), "--reals", "a set of fakes needs reals")
    assert_refused(evaluate(fakes, "--reals=folder:b", "--size=32"), "--reals", "the folder b does")
    assert_refused(evaluate("--fakes=folder:a", reals, "--size=32"), "--fakes", "the folder a does")
    assert_refused(evaluate(fakes, reals, "--truncation=.7"), "--truncation", "is of a network")
    assert_refused(evaluate(run, "--window=999"), "--window", "must be from 1 px to the images'")
    moved = run, "--metrics=fd_lite,eq_t", "--size=64"
    assert_refused(evaluate(*moved), "--size", "eq_t is of the training size")
    for place in ("nowhere/a.json", "."):
        assert_refused(evaluate(run, f"--out={tmp_path / place}"), "--out", str(tmp_path))
    for arguments, message in (
        ((run, "--metrics=precision_lite", "--images=5"), "precision_lite needs 6 fakes at least"),
        ((run, "--metrics=self_ssim"), "self_ssim needs images of 11 x 11 px at least"),
        ((run, "--metrics=fid", f"--inception={tmp_path / 'a.pth'}"), "No such file.*a.pth"),
        ((f"--workdir={tmp_path}",), "no checkpoint"),
    ):
        result = evaluate(*arguments)
        assert result.exit_code == 1 and re.search(message, result.stderr), result.stderr
        assert result.stderr.count("\n") == 1
    (tmp_path / "a.pth").write_bytes(b"\x80\x04N.")
    result = evaluate(run, "--metrics=fid", f"--inception={tmp_path / 'a.pth'}")
    assert result.exit_code == 1 and "a.pth: holds no arrays by name" in result.stderr
