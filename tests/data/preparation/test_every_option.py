"""Every option of `creps dataset` and `creps build`, in a command that does its work."""

import pytest
import typer.main
from PIL import Image
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

from creps_jax import cli
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config
from tests.helpers.publishers import COUNT, PUBLISH

# Each is a command; {photos} has 3 images in each of two folders.
DATASET = [
    ["--source={photos}", "--size=32", "--out={tmp}/a.zip", "--labels=folders", "--processes=1"],
    ["--source={photos}/cats", "--source={photos}/dogs", "--size=32", "--no-crop", "--out={tmp}/b"],
    ["--source={photos}", "--size=32x48", "--grey", "--deduplicate", "--out={tmp}/c.zip"],
    [
        "--source={photos}",
        "--size=80",
        "--crop",
        "--min-size=60",
        "--max-megapixels=1",
        "--out={tmp}/d.zip",
    ],
]
BUILD = [
    ["metfaces/256", "--manual-dir={tmp}/manual", "--data-dir={tmp}/sets", "--any-count"],
]


@pytest.mark.parametrize(("name", "commands"), [("dataset", DATASET), ("build", BUILD)])
def test_every_option_is_in_a_command(name, commands):
    command = typer.main.get_command(cli.app).commands[name]
    options = {
        option
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name != "help"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert options and options == {
        word.partition("=")[0] for words in commands for word in words if word.startswith("--")
    }


@pytest.fixture
def photos(tmp_path):
    photo = load_sample_images().images[0]
    for i in range(6):
        path = tmp_path / "photos" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[5 * i : 5 * i + 60, 3 * i : 3 * i + 90]).save(path)
    return tmp_path / "photos"


def done(name, words, **places):
    found = CliRunner().invoke(cli.app, [name, *(word.format(**places) for word in words)])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


@pytest.mark.parametrize("words", DATASET, ids=" ".join)
def test_a_set_is_made_and_opens_with_the_flags_it_tells(photos, tmp_path, words):
    output = done("dataset", words, photos=photos, tmp=tmp_path)
    flags = dict(
        word.removeprefix("--config.").split("=")
        for word in output.split()
        if word.startswith("--config.")
    )
    height = int(flags["resolution"])
    width = int(flags.get("width", height))
    source = open_source(
        data_config(
            flags["data.source"],
            shape=(height, width),
            random_crop=flags.get("data.random_crop") == "True",
            image_channels=int(flags.get("image_channels", 3)),
            num_classes=int(flags.get("num_classes", 0)),
        )
    )
    assert len(source) == 6


def test_a_set_is_built(tmp_path):
    for words in BUILD:
        (tmp_path / "manual").mkdir()
        PUBLISH["metfaces"](tmp_path / "manual")
        output = done("build", words, tmp=tmp_path)
        source = output.split("--config.data.source=")[1].strip()
        assert len(open_source(data_config(source, shape=(256, 256)))) == COUNT
