"""Damage is told from disks that fail, and several processes check one set together."""

import concurrent.futures
import errno
import json
import os
import pathlib
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from creps_jax.data import check, sources
from creps_jax.data.containers import reading
from creps_jax.data.containers.schemes import open_container
from creps_jax.data.decode import UnreadableError
from creps_jax.data.hosts import Hosts
from creps_jax.data.sources import open_source
from tests.helpers.data import data_config

COUNT = 7
TRANSIENT = [errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT]


@pytest.fixture(autouse=True)
def no_waits_and_no_cache(monkeypatch):
    monkeypatch.setattr(reading, "WAITS_SEC", (0, 0, 0))
    monkeypatch.setattr(sources, "CACHE_MIB", 0)


def make(folder, count=COUNT):
    folder.mkdir(parents=True)
    photo = load_sample_images().images[0]
    for i in range(count):
        Image.fromarray(photo[5 * i : 5 * i + 32, :32]).save(folder / f"{i}.png")
    labels = [[f"{i}.png", i % 2] for i in range(count)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return folder


@pytest.fixture
def fail(monkeypatch):
    """Makes reads of the disk fail, the first so many of each file, with an error number."""

    def failing(work, number, times):
        left = {}

        def failing_work(*arguments):
            key = arguments[0] if len(arguments) == 1 else arguments[-1]
            if left.setdefault(key, times):
                left[key] -= 1
                raise OSError(number, os.strerror(number))
            return work(*arguments)

        return failing_work

    def set_up(number, times):
        for owner, name in ((pathlib.Path, "read_bytes"), (os, "pread")):
            monkeypatch.setattr(owner, name, failing(getattr(owner, name), number, times))

    return set_up


@pytest.mark.parametrize("source", ["folder:{0}", "zip:{0}.zip"])
class TestDisksThatFail:
    @pytest.mark.parametrize("number", TRANSIENT)
    def test_for_a_moment_cost_no_image(self, tmp_path, fail, source, number):
        folder, index = make(tmp_path / "images"), tmp_path / "index.json"
        fail(number, times=1)
        assert len(open_source(data_config(source.format(folder)), index)) == COUNT
        assert json.loads(index.read_text())["unreadable"] == {}

    @pytest.mark.parametrize("number", [*TRANSIENT, errno.EACCES, errno.ENOENT])
    def test_stop_the_run_and_name_the_file(self, tmp_path, fail, source, number):
        folder, index = make(tmp_path / "images"), tmp_path / "index.json"
        fail(number, times=1000)
        with pytest.raises(OSError, match=r"0\.png'") as error:
            open_source(data_config(source.format(folder), max_unreadable=1.0), index)
        assert error.value.errno == number
        assert not index.exists()

    def test_during_training_are_read_again(self, tmp_path, fail, source):
        folder = make(tmp_path / "images")
        opened = open_source(data_config(source.format(folder)))
        expected = opened[3]["image"]
        fail(errno.EIO, times=1)
        np.testing.assert_array_equal(opened[3]["image"], expected)
        fail(errno.EIO, times=1000)
        with pytest.raises(OSError, match=r"3\.png was readable .*Input/output error"):
            opened[3]


def test_a_read_that_gives_fewer_bytes_is_gone_on_with(tmp_path, monkeypatch):
    folder, pread = make(tmp_path / "images"), os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: pread(file, min(count, 100), at))
    container = open_container(f"zip:{folder}.zip")
    assert container.read("0.png") == (folder / "0.png").read_bytes()


@pytest.mark.parametrize("times", [1, 1000])
def test_a_disk_that_fails_makes_no_tar_of_another_kind(tmp_path, monkeypatch, times):
    folder, left, opened = make(tmp_path / "images"), [None] * times, tarfile.open
    with opened(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, ".")

    def failing(*arguments):
        if left:
            left.pop()
            raise OSError(errno.EIO, "Input/output error", str(tmp_path / "a.tar"))
        return opened(*arguments)

    monkeypatch.setattr(tarfile, "open", failing)
    if times == 1:
        assert len(open_container(f"tar:{tmp_path}/a.tar").images()) == COUNT
    else:
        with pytest.raises(OSError, match=r"Input/output error: '.*a\.tar'"):
            open_container(f"tar:{tmp_path}/a.tar")


def test_an_error_of_the_disk_that_a_library_words_is_no_damage(tmp_path, monkeypatch):
    class Records:
        def __getitem__(self, index):
            raise RuntimeError("pread() failed: Input/output error" if index else "wrong checksum")

    from creps_jax.data.containers.tfds_sets import Split, Tfds

    split = Split(Records(), False, [], [])
    monkeypatch.setattr("creps_jax.data.containers.tfds_sets.open_split", lambda name: split)
    with pytest.raises(OSError, match="Input/output error: '00000001'"):
        reading.read(Tfds("set"), "00000001")
    with pytest.raises(UnreadableError, match="wrong checksum"):
        reading.read(Tfds("set"), "00000000")


def run_hosts(configs, index_path=None):
    """What `open_source` gives or raises in each of several threads that stand for processes."""
    count = len(configs)
    barrier, told = threading.Barrier(count, timeout=20), [None] * count

    def open_as(index):
        def gather(value):
            told[index] = json.loads(json.dumps(value))
            barrier.wait()
            everything = list(told)
            barrier.wait()
            return everything

        path = index_path and index_path.with_name(f"{index}.json")
        try:
            return open_source(configs[index], path, Hosts(index, count, gather))
        except (ValueError, OSError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(open_as, range(count)))


@pytest.fixture
def decoded(monkeypatch):
    """The names of all images that are decoded."""
    names, load = [], check.load

    def counted(container, name, config):
        names.append(name)
        return load(container, name, config)

    monkeypatch.setattr(check, "load", counted)
    return names


def test_processes_check_a_share_each_and_know_of_all(tmp_path, decoded):
    config = data_config(f"folder:{make(tmp_path / 'images')}", num_classes=2)
    for name in ("1.png", "4.png"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    found = run_hosts([config] * 3, tmp_path / "index")
    assert sorted(decoded) == [f"{i}.png" for i in range(COUNT)]
    alone = open_source(config)
    for source in found:
        assert source.names == alone.names == ["0.png", "2.png", "3.png", "5.png", "6.png"]
        assert source.fingerprint == alone.fingerprint
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    decoded.clear()
    again = run_hosts([config] * 3, tmp_path / "index")
    assert [source.names for source in again] == [alone.names] * 3
    assert decoded == []


def test_a_process_with_other_images_stops_all_and_is_named(tmp_path):
    configs = [data_config(f"folder:{make(tmp_path / str(k) / 'images')}") for k in range(3)]
    (tmp_path / "1" / "images" / "3.png").unlink()
    for error in run_hosts(configs):
        assert isinstance(error, ValueError)
        assert "process 1 has 6 images and process 0 has 7;" in str(error)


@pytest.mark.parametrize("change", ["name", "size", "label"])
def test_as_many_other_images_are_told_by_their_fingerprints(tmp_path, change):
    folders = [make(tmp_path / str(k) / "images") for k in range(2)]
    if change == "name":
        (folders[1] / "3.png").rename(folders[1] / "8.png")
        for folder in folders:
            (folder / "dataset.json").write_text(
                json.dumps({"labels": [[f"{i}.png", 0] for i in range(9)]})
            )
    elif change == "size":
        (folders[1] / "3.png").write_bytes((folders[1] / "3.png").read_bytes() + b"0")
    else:
        (folders[1] / "dataset.json").write_text(
            json.dumps({"labels": [[f"{i}.png", 0] for i in range(COUNT)]})
        )
    for error in run_hosts([data_config(f"folder:{each}", num_classes=2) for each in folders]):
        assert "process 1 has as many images as process 0, 7, of other names, sizes" in str(error)


def test_processes_compare_drawn_scenes_too():
    for error in run_hosts([data_config(f"procedural:{n}") for n in (5, 6)]):
        assert "process 1 has 6 images and process 0 has 5" in str(error)


def test_an_error_of_one_process_is_raised_in_all(tmp_path):
    folder = make(tmp_path / "images")
    configs = [data_config(f"folder:{each}") for each in (folder, tmp_path / "none", folder)]
    own = f"the folder {tmp_path}/none does not exist"
    for index, error in enumerate(run_hosts(configs)):
        assert isinstance(error, ValueError) and own in str(error)
        assert ("process 1 of 3: " in str(error)) == (index != 1)


def test_a_wrong_size_in_one_share_stops_all(tmp_path):
    folder = make(tmp_path / "images")
    Image.new("RGB", (9, 9)).save(folder / "1.png")
    for error in run_hosts([data_config(f"folder:{folder}")] * 2):
        assert isinstance(error, ValueError) and "1.png has 9x9 pixels" in str(error)
