"""Files that are whole or absent, on disks that fail or cannot do everything."""

import contextlib
import errno
import fcntl
import os

import pytest

from creps_jax import disk


def failing(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(autouse=True)
def nothing_told():
    disk._warned.clear()


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "file"
    disk.write_whole(path, b"old")
    with pytest.raises(InterruptedError), disk.whole_file(path) as file:
        file.write(b"half")
        raise InterruptedError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    disk.write_whole(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_that_cannot_sync_folders_is_told_once(tmp_path, monkeypatch, caplog, code):
    real = os.fsync

    def only_files(descriptor):
        return failing(code)() if os.path.isdir(f"/proc/self/fd/{descriptor}") else real(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    for _ in range(3):
        disk.write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert len(caplog.records) == 1 and str(tmp_path) in caplog.text


def test_a_disk_that_fails_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, failing(errno.EIO))
            with pytest.raises(OSError, match=r"Input/output error: '.*file'") as raised:
                disk.write_whole(tmp_path / "file", b"content")
        assert raised.value.errno == errno.EIO and os.listdir(tmp_path) == []


def test_a_lock_is_held_by_one_or_shared(tmp_path):
    with contextlib.ExitStack() as opened:
        a, b, c = (opened.enter_context((tmp_path / "lock").open("w")) for _ in range(3))
        assert disk.lock(a) and not disk.lock(b)
        assert disk.lock(a, shared=True) and disk.lock(b, shared=True)
        assert not disk.lock(c) and not disk.lock(a)
        b.close()
        assert disk.lock(a, wait=True) and not disk.lock(c, shared=True)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told_once(tmp_path, monkeypatch, caplog, code):
    monkeypatch.setattr(fcntl, "flock", failing(code))
    with (tmp_path / "lock").open("w") as file:
        assert disk.lock(file) and disk.lock(file, shared=True)
    assert len(caplog.records) == 1 and "without locks" in caplog.text


def test_a_lock_on_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with (tmp_path / "lock").open("w") as file, pytest.raises(OSError, match="lock"):
        disk.lock(file)


def test_a_home_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(disk.local_path("~/runs")) == "/home/somebody/runs"
    assert str(disk.local_path("runs/~x")) == "runs/~x"
    with pytest.raises(ValueError, match="~nobody_of_that_name/runs: there is no such home"):
        disk.local_path("~nobody_of_that_name/runs")
