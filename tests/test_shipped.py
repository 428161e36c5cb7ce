"""The network that comes with the program: small, with its card, there by its name."""

import json

import numpy as np
import pytest

import creps_jax
from creps_jax import shipped
from tests.helpers.commands import creps, read
from tests.helpers.saved import save_run

FILE = shipped.FOLDER / "scenes.safetensors"


@pytest.fixture(scope="module")
def painter():
    return creps_jax.load("scenes")


def test_it_is_small_and_its_card_says_what_it_is():
    assert shipped.names() == ["scenes"]
    assert FILE.stat().st_size < 8 * 2**20
    card = json.loads(FILE.with_name(f"{FILE.name}.json").read_text())
    assert card["licence"] == "Apache-2.0" and card["trained_on"].startswith("procedural:")
    assert card["parameters"].keys() == {"G_ema"} and card["metrics"]["fd_lite"] > 0


def test_it_paints_the_pictures_of_its_card(painter):
    (height, width), card = painter.shape, read(FILE.with_name(f"{FILE.name}.png")).astype(int)
    for i in range(8):
        y, x = height * (i // 4), width * (i % 4)
        found = painter.render(i, truncation=0.7)
        assert np.abs(found - card[y : y + height, x : x + width]).max() <= 1


def test_a_command_and_python_paint_it_by_its_name(painter, tmp_path):
    out = tmp_path / "images"
    result = creps("render", "--model=scenes", "--seeds=0-1", "--size=96x80", f"--out={out}")
    assert result.exit_code == 0, result.output
    for seed in range(2):
        expected = painter.render(seed, size=(96, 80))
        np.testing.assert_array_equal(read(out / f"seed000{seed}.png"), expected)


def test_a_run_of_that_name_comes_first(painter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert creps_jax.load("scenes").shape == painter.shape
    save_run(tmp_path / "scenes")
    assert creps_jax.load("scenes").shape != painter.shape
    assert creps_jax.load(FILE).shape == painter.shape
