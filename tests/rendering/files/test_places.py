"""Where pictures may be written: names, folders, and URLs, for whose buckets file:// stands in."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.files.writing import check, write
from creps_jax.rendering.windows import Window
from tests.helpers.painted import PICTURE, SUFFIXES, Painter, contents, unbroken, unused


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_are_no_utf8_are_written_or_refused_in_a_line(tmp_path, suffix):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix.encode()))
    with pytest.raises(ValueError, match=r"\\xff.* must be UTF-8"):
        write(path, PICTURE, unused)
    assert not os.listdir(tmp_path)
    if suffix == ".png":
        assert write(path, PICTURE._replace(window=Window(0, 0, 3, 4)), Painter())
        assert is_finished(path, PICTURE.key)


@pytest.mark.parametrize("name", ["a.jpg", "a", ".png", "gs://bucket-of-a/a.png"])
def test_an_unknown_suffix_names_what_is_possible(tmp_path, name):
    with pytest.raises(ValueError, match=r"must be one of .*\.zarr"):
        check(name, PICTURE)
    with pytest.raises(ValueError, match=r"must be one of .*\.zarr"):
        write(name, PICTURE, unused)


@pytest.mark.parametrize("scheme", ["http://", "https://", "memory://", "://", "GS://", "s3:/"])
def test_an_unknown_scheme_names_what_is_possible(scheme):
    url = f"{scheme}host/a.zarr"
    with pytest.raises(ValueError, match=f"{url} must be a local path or begin with gs://, s3://"):
        check(url, PICTURE)


def test_a_bucket_that_cannot_be_reached_is_an_error_soon(monkeypatch):
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", "http://127.0.0.1:9")  # Nobody listens there.
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(OSError, match="retry attempts failed"):
        check("gs://bucket-of-a/a.zarr", PICTURE)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("picture", "block", "message"),
    [
        (PICTURE._replace(channels=2), (CHUNK, CHUNK), "channels=2 must be 1 or 3"),
        (PICTURE, (CHUNK, 100), "block=512x100 must be multiples of 512"),
        (PICTURE, (0, CHUNK), "block=0x512 must be multiples of 512"),
        (Picture(Window(0, 0, 1, 2**31), 1, "0"), (CHUNK, CHUNK), "1x2147483648 px.*2147483647"),
    ],
)
def test_a_picture_that_cannot_be_is_an_error(tmp_path, picture, block, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.png", picture, unused, block=block)
    assert not os.listdir(tmp_path)


def test_parent_folders_are_made(tmp_path):
    check(tmp_path / "b" / "c" / "a.png", PICTURE)
    assert not os.listdir(tmp_path / "b" / "c")


def test_a_parent_that_cannot_be_written_is_an_oserror(tmp_path):
    (tmp_path / "file").touch()
    for parent in ("file", "file/b"):
        with pytest.raises(OSError, match="file"):
            check(tmp_path / parent / "a.png", PICTURE)
    # Root may write everywhere, so be somebody else for a while.
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        os.seteuid(user or 65534)
        try:
            with pytest.raises(PermissionError, match=folder):
                check(Path(folder, "a.png"), PICTURE)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize(
    ("name", "taken"),
    [("a.png", "a.png"), ("a.dzi", "a.dzi"), ("a.dzi", "a_files"), ("a.zarr", "a.zarr")],
)
def test_a_folder_that_we_did_not_write_is_not_replaced(tmp_path, name, taken):
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "precious").touch()
    with pytest.raises(OSError, match=taken):
        write(tmp_path / name, PICTURE, unused)
    assert set(contents(tmp_path)) == {f"{taken}/precious"}


def test_an_array_at_a_url_can_be_opened_only_when_it_is_complete(tmp_path):
    path, url = tmp_path / "a.zarr", f"file://{tmp_path}/a.zarr"

    def look():
        assert not (path / "zarr.json").exists()
        assert not is_finished(url, PICTURE.key)

    with pytest.raises(KeyboardInterrupt):
        write(url, PICTURE, Painter(limit=3, before=look))
    painter = Painter(before=look)
    assert write(url, PICTURE, painter)
    assert len(painter.painted) == 1
    assert contents(tmp_path) == unbroken(".zarr")
    assert is_finished(url, PICTURE.key)
    assert write(url, PICTURE, unused)


def test_an_array_at_a_url_is_replaced_by_other_arguments(tmp_path, caplog):
    url = f"file://{tmp_path}/a.zarr"
    write(url, Picture(Window(0, 0, 2000, 600), 1, "01d"), Painter(channels=1))
    write(url, PICTURE, Painter())
    assert "of other arguments" in caplog.text
    assert contents(tmp_path) == unbroken(".zarr")


def test_what_was_not_written_by_creps_at_a_url_is_not_deleted(tmp_path):
    (tmp_path / "a.zarr" / "mine").mkdir(parents=True)
    (tmp_path / "a.zarr" / "mine" / "x").write_text("precious")
    with pytest.raises(FileExistsError, match=r"a\.zarr holds what was not written by creps"):
        write(f"file://{tmp_path}/a.zarr", PICTURE, unused)
    assert contents(tmp_path) == {"a.zarr/mine/x": b"precious"}
