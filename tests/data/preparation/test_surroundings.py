"""Missing homes, extras and names that are no UTF-8: one line that names them, or the work."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from creps_jax import cli
from creps_jax.data.containers import tfds_sets
from creps_jax.data.containers.schemes import open_container
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config
from tests.helpers.publishers import COUNT, PUBLISH


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """As in a container that is run as a user without an entry in passwd."""

    def missing(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing)
    monkeypatch.setattr(pwd, "getpwnam", missing)
    monkeypatch.chdir(tmp_path)


def refused(*arguments):
    """The message of a command that refuses its options."""
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit), done.exception
    assert not Path("~").exists()
    return done.output


def test_homes_that_there_are_not_are_named(homeless, photos, tmp_path):
    set_up = {"--source": photos, "--size": 32, "--out": "a.zip"}
    for option, value in (
        ("--source", "~/photos"),
        ("--source", "zip:~nobody_such/a.zip"),
        ("--source", "lmdb:~nobody_such/a"),
        ("--source", "tfds:~nobody_such/a"),
        ("--out", "~/a.zip"),
        ("--labels", "~nobody_such/l.csv"),
    ):
        words = [f"{name}={given}" for name, given in {**set_up, option: value}.items()]
        output = refused("dataset", *words)
        assert f"'{option}'" in output and "there is no such home folder here" in output
    for options in (["--manual-dir=~/x"], [f"--manual-dir={photos}", "--data-dir=~nobody_such/x"]):
        output = refused("build", "ffhq/256", *options)
        assert options[-1].partition("=")[0] in output and "no such home folder" in output


def test_without_a_home_tfds_sets_need_a_folder(homeless, photos):
    output = refused("build", "ffhq/256", f"--manual-dir={photos}")
    assert "say where they lie with TFDS_DATA_DIR=FOLDER" in output
    with pytest.raises(ValueError, match=r"data\.source: there is no home folder for TFDS's sets"):
        open_source(data_config("tfds:ffhq/256"))


@pytest.mark.parametrize("scheme", ["folder", "zip", "tar", "lmdb", "tfds"])
def test_a_source_in_a_home_that_there_is_not_is_an_error(homeless, scheme):
    with pytest.raises(ValueError, match=r"data\.source: ~nobody_such/x: there is no such home"):
        open_source(data_config(f"{scheme}:~nobody_such/x"))


@pytest.mark.parametrize("out", ["set", "a.zip"])
def test_without_a_home_the_work_is_done(homeless, photos, tmp_path, out):
    words = [f"--source={photos}", "--size=32", f"--out={out}", "--processes=1"]
    done = CliRunner().invoke(cli.app, ["dataset", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    assert not Path("~").exists()


def test_without_a_home_a_set_is_built(homeless, tmp_path):
    (tmp_path / "manual").mkdir()
    PUBLISH["metfaces"](tmp_path / "manual")
    words = ["--manual-dir=manual", "--data-dir=sets", "--any-count"]
    done = CliRunner().invoke(cli.app, ["build", "metfaces/256", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    source = done.output.split("--config.data.source=")[1].strip()
    assert len(open_source(data_config(source, shape=(256, 256)))) == COUNT
    assert not Path("~").exists()


def test_a_missing_extra_is_told_before_the_work(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    hint = "TFDS sets need tensorflow_datasets: pip install 'creps-jax[tfds]'"
    assert hint in refused("dataset", f"--source={photos}", "--size=32", f"--out={tmp_path}/set")
    assert not (tmp_path / "set.partial").exists()
    assert hint in refused("build", "ffhq/256", f"--manual-dir={photos}")
    with pytest.raises(ValueError, match="pip install 'creps-jax"):
        open_source(data_config("tfds:ffhq/256"))
    words = ["dataset", f"--source={photos}", "--size=32", f"--out={tmp_path}/a.zip"]
    assert CliRunner().invoke(cli.app, [*words, "--processes=1"]).exit_code == 0
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "this needs imagecodecs: pip install 'creps-jax[train]'" in refused(*words)


def test_the_extra_for_tfds_is_needed_by_nothing_else(photos):
    """Training and preparing import it only for its sets."""
    program = f"""
import sys
for name in ("tensorflow_datasets", "importlib_resources"):
    sys.modules[name] = None
import creps_jax.training.loop
from creps_jax.data.preparation import labels, outputs, prepare
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config
print(len(open_source(data_config("folder:{photos}"))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr


def odd(path):
    """The path with a byte in its name that is no UTF-8."""
    return os.fsdecode(os.fsencode(path) + b"\xff")


@pytest.mark.parametrize("kind", ["zip", "tfds"])
def test_paths_that_are_no_utf_8_work_or_are_refused_by_name(photos, tmp_path, kind):
    source = odd(tmp_path / "photos")
    photos.rename(source)
    Path(source, odd("4") + ".png").write_bytes(Path(source, "1.png").read_bytes())
    labels = Path(odd(tmp_path / "labels") + ".csv")
    labels.write_text("0.png,a\n1.png,b\n")
    out = Path(odd(tmp_path / "set") + (".zip" if kind == "zip" else ""))
    command = [sys.executable, "-m", "creps_jax.cli", "dataset", f"--source={source}", "--size=32"]
    command += [f"--labels={labels}", f"--out={out}", "--processes=1"]
    done = subprocess.run(command, capture_output=True)
    assert b"Traceback" not in done.stderr
    if kind == "tfds":
        assert done.returncode == 2 and b"is no UTF-8" in done.stderr, done.stderr
        assert not list(tmp_path.glob("set*"))
        return
    assert done.returncode == 0, done.stderr
    assert os.fsencode(out) in done.stdout and b"it has no label" in done.stdout
    opened = open_source(data_config(f"zip:{out}", num_classes=2))
    assert [int(opened[i]["label"]) for i in range(2)] == [0, 1]


def test_sets_of_libraries_under_names_that_are_no_utf_8(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path / "a")) as database, database.begin(write=True) as writing:
        writing.put(b"k", b"v")
    (tmp_path / "a").rename(odd(tmp_path / "b"))
    assert open_container(f"lmdb:{odd(tmp_path / 'b')}").read("k") == b"v"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_info.json").write_text("{}")
    (tmp_path / "set").rename(odd(tmp_path / "set"))
    with pytest.raises(ValueError, match="is no UTF-8"):
        open_container(f"tfds:{odd(tmp_path / 'set')}")


def test_folders_that_are_no_utf_8_name_classes(photos, tmp_path):
    (photos / odd("cats")).mkdir()
    for path in photos.glob("*.png"):
        path.rename(photos / odd("cats") / path.name)
    words = [f"--source={photos}", "--size=32", "--labels=folders", "--processes=1"]
    for out in ("set", "a.zip"):
        done = CliRunner().invoke(cli.app, ["dataset", *words, f"--out={tmp_path}/{out}"])
        assert done.exit_code == 0, (done.output, done.exception)
    assert open_container(f"tfds:{tmp_path}/set").classes() == ["cats\\udcff"]
    assert open_container(f"zip:{tmp_path}/a.zip").classes() == ["cats\\udcff"]


def test_the_default_folder_of_tfds_sets_is_tfdss_own(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tfds_sets.data_dir() == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/sets")
    assert tfds_sets.data_dir() == tmp_path / "sets"
