"""Disks that are full, damaged, or lack what others do."""

import contextlib
import errno
import fcntl
import json
import os
import resource
import shutil
import stat
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from creps_jax import disk
from creps_jax.rendering.files import formats
from creps_jax.rendering.files.output import output_at
from creps_jax.rendering.files.store import CHUNK
from creps_jax.rendering.files.writing import write
from creps_jax.rendering.windows import Window
from tests.helpers.painted import (
    CHUNKS,
    PICTURE,
    SUFFIXES,
    Painter,
    chunks_of,
    contents,
    interrupt,
    store_of,
    unbroken,
    unused,
)


@contextlib.contextmanager
def largest_file(size):
    """Writing more to any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_goes_on_after_a_full_disk(path, error, painted):
    assert len(str(error).splitlines()) == 1 and path.name in str(error)
    assert os.listdir(path.parent) == [f"{path.name}.partial"]
    painter = Painter()
    write(path, PICTURE, painter)
    assert len(painter.asked) == painted
    assert contents(path.parent) == unbroken(path.suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_chunk_that_cannot_be_written_is_an_oserror(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with largest_file(20_000), pytest.raises(OSError, match="File too large") as error:
        write(path, PICTURE, Painter())
    assert_goes_on_after_a_full_disk(path, error.value, CHUNKS[suffix])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_output_that_cannot_be_written_leaves_the_chunks(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"

    def paint(windows):
        yield from Painter()(windows)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    with largest_file(resource.RLIM_INFINITY), pytest.raises(OSError, match="too large") as error:
        write(path, PICTURE, paint)
    assert set(os.listdir(tmp_path / f"a{suffix}.partial")) == {"lock", "part-0-of-1", "store"}
    assert_goes_on_after_a_full_disk(path, error.value, 0)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_call_goes_on_after_a_disk_was_full_of_chunks(small_disk, suffix):
    path, ballast = small_disk / "out" / f"a{suffix}", small_disk / "ballast"
    painter = Painter(before=lambda: fill(small_disk, ballast))
    with pytest.raises(OSError, match="No space left") as error:
        write(path, PICTURE, painter)
    ballast.unlink()
    assert_goes_on_after_a_full_disk(path, error.value, CHUNKS[suffix])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".dzi"])
def test_the_same_call_goes_on_after_a_disk_had_no_room_for_the_output(small_disk, suffix):
    path, ballast = small_disk / "out" / f"a{suffix}", small_disk / "ballast"

    def paint(windows):
        yield from Painter()(windows)
        fill(small_disk, ballast)

    with pytest.raises(OSError, match="No space left") as error:
        write(path, PICTURE, paint)
    ballast.unlink()
    assert_goes_on_after_a_full_disk(path, error.value, 0)


def fill(disk, ballast):
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 30_000)))


def test_a_disk_that_is_too_small_is_known_before_the_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    path = tmp_path / "a.png"
    interrupt(path, limit=2)
    chunk = CHUNK * CHUNK * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(7 * chunk - 1))
    with pytest.raises(OSError, match=r"takes 6 MB .* only 6 MB are free"):
        write(path, PICTURE, unused)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(7 * chunk))
    assert write(path, PICTURE, Painter())


def truncate(chunk):
    chunk.write_bytes(chunk.read_bytes()[:-1000])


def flip_a_bit(chunk):
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def empty(chunk):
    chunk.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
@pytest.mark.parametrize("suffix", [".png", ".zarr"])
def test_a_damaged_chunk_is_painted_again(tmp_path, caplog, suffix, damage):
    path = tmp_path / f"a{suffix}"
    first = interrupt(path, limit=3)
    damage(chunks_of(path)[1])
    second = Painter()
    write(path, PICTURE, second)
    assert "is damaged" in caplog.text
    assert len(second.painted) == len(first.asked) - 3 + 1
    assert contents(tmp_path) == unbroken(suffix)


@pytest.mark.parametrize("harm", [Path.unlink, flip_a_bit])
def test_a_chunk_that_is_lost_before_the_encoding_is_no_black_square(tmp_path, monkeypatch, harm):
    path = tmp_path / "a.png"

    def lose(store, *args):
        harm(chunks_of(path)[1])
        formats.encode_png(store, *args)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="c/"):
        patch.setitem(formats.ENCODERS, ".png", lose)
        write(path, PICTURE, Painter())
    painter = Painter()
    write(path, PICTURE, painter)
    assert len(painter.painted) == 1
    assert contents(tmp_path) == unbroken(".png")


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00"])
def test_chunks_of_unknown_arguments_are_not_used(tmp_path, caplog, content):
    path = tmp_path / "a.png"
    interrupt(path, PICTURE._replace(key="0"))
    document = store_of(path) / "partial.json"
    document.unlink()
    if content is not None:
        document.write_bytes(content)
    write(path, PICTURE, Painter())
    assert "partial.json is damaged" in caplog.text
    assert contents(tmp_path) == unbroken(".png")


@pytest.fixture
def fresh_disk():
    """What was found out of disks is forgotten, before and after."""

    def forget():
        disk.has_locks.cache_clear()
        disk.syncs_folders.cache_clear()
        disk._warned.clear()

    forget()
    yield
    forget()


def failing(function, code, where=lambda descriptor: True):
    """The function of a descriptor, failing with the code where it should."""

    def call(file, *arguments):
        if where(file):
            raise OSError(code, os.strerror(code))
        return function(file, *arguments)

    return call


def opened(path):
    """How TensorStore opens what is painted."""
    files = output_at(path).store(PICTURE)._files
    return json.dumps(files.spec(retain_context=True).to_json(), separators=(",", ":"))


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_without_locks_is_told_once(tmp_path, monkeypatch, caplog, fresh_disk, suffix, code):
    expected, path = unbroken(suffix), tmp_path / f"a{suffix}"
    for name in ("flock", "lockf"):
        monkeypatch.setattr(fcntl, name, failing(getattr(fcntl, name), code))
    interrupt(path, limit=2)
    assert write(path, PICTURE, Painter())
    assert contents(tmp_path) == expected
    assert caplog.text.count("without locks") == 1
    assert '"file_io_locking":{"mode":"none"}' in opened(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_cannot_sync_folders_is_told(tmp_path, monkeypatch, caplog, fresh_disk, suffix):
    expected, path = unbroken(suffix), tmp_path / f"a{suffix}"
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EINVAL, is_folder))
    assert write(path, PICTURE, Painter())
    assert contents(tmp_path) == expected
    assert caplog.text.count("cannot sync folders") == 1
    assert '"file_io_sync":false' in opened(path)


@pytest.mark.parametrize(
    ("module", "name"), [(os, "fsync"), (fcntl, "flock"), (fcntl, "lockf")], ids=str
)
def test_a_disk_that_fails_is_an_error_with_its_name(
    tmp_path, monkeypatch, fresh_disk, module, name
):
    path = tmp_path / "a.png"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing(getattr(module, name), errno.EIO))
        with pytest.raises(OSError, match=f"Input/output error: .*{tmp_path}"):
            write(path, PICTURE, Painter())
    assert not path.exists()


def test_a_full_disk_is_named_with_what_to_do(small_disk):
    path, ballast = small_disk / "a.zarr", small_disk / "ballast"
    advice = r"No space left on device; free some space and run the same again.*: '.*a\.zarr'"
    with pytest.raises(OSError, match=advice):
        write(path, PICTURE, Painter(before=lambda: fill(small_disk, ballast)))


def test_a_small_png_that_fails_leaves_nothing(tmp_path):
    picture = PICTURE._replace(window=Window(0, 0, 30, 40))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.png", picture, Painter(limit=0))
    with largest_file(100), pytest.raises(OSError, match=r"too large.*a\.png"):
        write(tmp_path / "a.png", picture, Painter())
    assert not os.listdir(tmp_path)
