"""The paper's data sets, from small trees of the forms that their publishers hand out."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from typer.testing import CliRunner

from creps_jax import cli
from creps_jax.data.containers import tfds_sets
from creps_jax.data.decode import cover, fit
from creps_jax.data.preparation import builders
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config
from tests.helpers.publishers import (
    COUNT,
    PUBLISH,
    picture,
    publish_ffhq,
    publish_flickr_scenery,
    publish_metfaces,
)


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    """Where prepared sets go, of this process and of those that it starts."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def manual(tmp_path):
    (tmp_path / "manual").mkdir()
    return tmp_path / "manual"


def build(name, manual, *options):
    command = ["build", name, f"--manual-dir={manual}", "--any-count", *options]
    return CliRunner().invoke(cli.app, command)


@pytest.mark.parametrize("name", PUBLISH)
def test_a_set_is_built_from_what_its_publishers_hand_out(name, manual, sets):
    originals = PUBLISH[name](manual)
    done = build(f"{name}/256", manual, f"--data-dir={sets}")
    assert done.exit_code == 0, done.output
    builder = tfds.builder(f"{name}/256", data_dir=sets)
    assert builder.info.file_format.value == "array_record"
    assert f"Licence: {builder.info.redistribution_info.license}" in done.output
    assert builder.info.citation and builder.info.homepage and builder.info.description
    records = builder.as_data_source(split="train")
    assert len(records) == COUNT
    scale = cover if name == "flickr_scenery" else fit
    for record, original in zip(records, originals, strict=True):
        np.testing.assert_array_equal(record["image"], np.asarray(scale(original, 256, 256)))
    source = open_source(data_config(f"tfds:{name}/256", shape=(256, 256), resize=True))
    for index, original in enumerate(originals):
        expected = np.asarray(fit(scale(original, 256, 256), 256, 256))
        np.testing.assert_array_equal(source[index]["image"], expected)


def test_credit_is_kept(manual, sets):
    publish_ffhq(manual)
    build("ffhq/256", manual)
    records = tfds.data_source("ffhq/256", split="train", data_dir=sets)
    assert [r["credit"].decode() for r in records] == [f"Author {i}, L, U" for i in (0, 2, 10)]
    assert records[2]["name"] == b"images1024x1024/00000/00010.png"


def test_the_publishers_own_thumbnails_are_taken_at_their_size(manual, sets):
    publish_ffhq(manual)
    build("ffhq/128", manual)
    records = tfds.data_source("ffhq/128", split="train", data_dir=sets)
    np.testing.assert_array_equal(records[0]["image"], np.asarray(picture(0, 128, 128)))


def test_scenery_can_be_cropped_at_random(manual):
    originals = publish_flickr_scenery(manual)
    build("flickr_scenery/256", manual)
    config = data_config("tfds:flickr_scenery/256", shape=(256, 256), random_crop=True)
    source = open_source(config)
    expected = cover(originals[1], 256, 256)
    np.testing.assert_array_equal(source[1]["image"], np.asarray(expected))
    assert source[1]["image"].shape[1] > 256


def test_what_a_killed_command_has_left_is_removed(manual, sets):
    publish_metfaces(manual)
    left = sets / "metfaces" / "256" / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"much")
    assert build("metfaces/256", manual, f"--data-dir={sets}").exit_code == 0
    assert not left.exists()
    assert len(tfds.data_source("metfaces/256", split="train", data_dir=sets)) == COUNT


def test_a_set_that_is_built_is_not_built_again(manual):
    publish_metfaces(manual)
    build("metfaces/256", manual)
    (manual / "metfaces.json").unlink()
    done = build("metfaces/256", manual)
    assert done.exit_code == 0 and "is complete already, 3 images" in done.output


@pytest.mark.parametrize("name", PUBLISH)
def test_a_part_of_the_images_is_no_set_unless_that_is_asked_for(name, manual, sets):
    PUBLISH[name](manual)
    done = CliRunner().invoke(cli.app, ["build", f"{name}/256", f"--manual-dir={manual}"])
    assert done.exit_code == 1
    assert f"{name}: 3 images in {manual}, published are" in done.output
    assert not (sets / name / "256" / "1.0.0").exists()


@pytest.mark.parametrize("name", ["ffhq", "metfaces"])
def test_a_damaged_file_is_named_and_no_set_is_left(name, manual, sets):
    PUBLISH[name](manual)
    path = sorted(manual.glob("images*/**/*.png"))[1]
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    done = build(f"{name}/256", manual)
    assert done.exit_code == 1
    assert f"{path.relative_to(manual)}: its MD5 is not" in done.output
    assert not (sets / name / "256" / "1.0.0").exists()


@pytest.mark.parametrize(
    ("name", "remove", "expected"),
    [
        ("ffhq", "ffhq-dataset-v2.json", "ffhq-dataset-v2.json is missing: Download"),
        ("ffhq", "images1024x1024/00000/00002.png", "1 of 3 images are missing in"),
        ("metfaces", "metfaces.json", "metfaces.json is missing: Download"),
        ("metfaces", "images/1-00.png", "the first is images/1-00.png"),
        ("lsun_church", "church_outdoor_train_lmdb/data.mdb", "is no LMDB: it must be a folder"),
    ],
)
def test_what_is_missing_is_said(name, remove, expected, manual):
    PUBLISH[name](manual)
    (manual / remove).unlink()
    done = build(f"{name}/256", manual)
    assert done.exit_code == 1
    assert expected in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("content", ["{", "[]", '{"0": {}}', '{"a": 1}', "7"])
@pytest.mark.parametrize(
    ("name", "file"), [("ffhq", "ffhq-dataset-v2.json"), ("metfaces", "metfaces.json")]
)
def test_broken_metadata_are_named(name, file, content, manual):
    (manual / file).write_text(content)
    done = build(f"{name}/256", manual)
    assert done.exit_code == 1, done.output
    assert file in done.output or f"lists no images in {manual}" in done.output


def test_a_wrong_name_or_folder_is_said(tmp_path, manual):
    done = build("ffhq/100", manual)
    assert done.exit_code == 2
    assert "'ffhq/100' is none of ffhq/1024, ffhq/512" in done.output
    for folder in (tmp_path / "none", manual):  # The second is empty.
        done = build("ffhq/256", folder)
        assert done.exit_code == 2
        assert f"{folder} is no folder, or empty. Download ffhq" in done.output


def test_the_names_of_all_configs_are_built_by_someone():
    from configs import church, ffhq, metfaces, scenery

    built = {
        f"tfds:{builder.name}/{config.name}"
        for builder in builders.BUILDERS
        for config in builder.BUILDER_CONFIGS
    }
    for config in (church, ffhq, metfaces, scenery):
        source = config.get_config().data.source
        assert source in built
        assert f"creps build {source.removeprefix('tfds:')} --manual-dir=" in config.__doc__


def test_what_reading_knows_to_be_built_is_built():
    assert {builder.name for builder in builders.BUILDERS} == set(tfds_sets.BUILT_HERE)


def test_training_says_what_to_run_when_the_images_are_not_there(tmp_path):
    command = [sys.executable, "-m", "creps_jax.main", "--config=configs/church.py"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}/run"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 1
    assert "tfds:lsun_church/256 is not prepared in" in done.stderr
    assert done.stderr.endswith("  creps build lsun_church/256 --manual-dir=FOLDER\n")


def test_neither_building_nor_reading_loads_tensorflow(manual, sets):
    publish_metfaces(manual)
    program = f"""
import sys
from typer.testing import CliRunner
from creps_jax import cli
from creps_jax.data.containers.schemes import open_container
CliRunner().invoke(cli.app, ["build", "metfaces/256", "--manual-dir={manual}", "--any-count"])
container = open_container("tfds:metfaces/256")
print(len(container.read("00000001")) > 1000, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True False\n", done.stderr
