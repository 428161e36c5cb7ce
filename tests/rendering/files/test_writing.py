"""What is asked of the painter of a picture, whole or continued, and what is there meanwhile."""

import inspect
import itertools
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from creps_jax.rendering.files import output, store
from creps_jax.rendering.files.output import is_finished
from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.files.writing import write
from creps_jax.rendering.windows import Window
from tests.helpers.painted import (
    CHUNKS,
    PICTURE,
    SUFFIXES,
    WINDOW,
    Painter,
    contents,
    interrupt,
    pixels_of,
    read,
    unbroken,
    unused,
)


@pytest.mark.parametrize("suffix", [".png", ".zarr"])
def test_blocks_lie_on_the_grid_of_the_chunks(tmp_path, suffix):
    painter = Painter()
    write(tmp_path / f"a{suffix}", PICTURE, painter, block=(CHUNK, 2 * CHUNK))
    y, x = (WINDOW.y0, WINDOW.x0) if suffix == ".zarr" else (0, 0)
    for window in painter.asked:
        assert window.y0 == WINDOW.y0 or (window.y0 - y) % CHUNK == 0
        assert window.x0 == WINDOW.x0 or (window.x0 - x) % (2 * CHUNK) == 0
    assert len(painter.asked) == (2 if suffix == ".zarr" else 6)
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), pixels_of(WINDOW))


def test_a_block_is_asked_for_again_if_any_chunk_is_missing(tmp_path):
    path = tmp_path / "a.png"
    interrupt(path, limit=1)
    painter = Painter()
    write(path, PICTURE, painter, block=(2 * CHUNK, 2 * CHUNK))
    assert len(painter.asked) == 4  # One chunk was there, of four of its block.
    assert contents(tmp_path) == unbroken(".png")


def test_black_is_painted_once(tmp_path):
    def black(windows):
        window = next(iter(windows))
        yield window, np.zeros((*window.shape, 3), np.uint8)
        raise KeyboardInterrupt

    path = tmp_path / "a.zarr"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write(path, PICTURE, black)
    painter = Painter()
    write(path, PICTURE, painter)
    assert len(painter.painted) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda windows: [], "4 of 4 windows were not painted"),
        (lambda windows: [(Window(300, 700, 301, 701), pixels_of(WINDOW))], "not asked for"),
        (
            lambda windows: [(next(iter(windows)), np.zeros((1, 1, 3), np.uint8))],
            r"\(1, 1, 3\).*must be",
        ),
        (lambda windows: [(w, pixels_of(w) / 1.0) for w in windows], "float64"),
    ],
)
def test_what_was_not_asked_for_is_an_error(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.zarr", PICTURE, wrong)
    assert not is_finished(tmp_path / "a.zarr", PICTURE.key)
    painter = Painter()
    write(tmp_path / "a.zarr", PICTURE, painter)
    assert len(painter.asked) == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_after_an_error_only_what_is_missing_is_painted(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    first = interrupt(path, limit=2)
    assert os.listdir(tmp_path) == [f"a{suffix}.partial"]
    second = Painter()
    assert write(path, PICTURE, second)
    assert sorted(first.painted + second.painted) == sorted(first.asked)
    assert contents(tmp_path) == unbroken(suffix)


KILLED = """
import os, pathlib, signal, sys
from creps_jax.rendering import windows
from creps_jax.rendering.files import formats, store, writing

def kill_at(call, owner, name):
    function = getattr(owner, name)
    def until(*args, **kwargs):
        nonlocal call
        if call == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        call -= 1
        return function(*args, **kwargs)
    setattr(owner, name, until)

path, window, key, call, owner, name = sys.argv[1:]
kill_at(int(call), eval(owner), name)
picture = store.Picture(windows.Window(*eval(window)), 3, key)
writing.write(path, picture, lambda windows: ((w, pixels_of(w)) for w in windows))
"""


def test_sigkill_at_any_step_leaves_nothing_that_looks_finished(tmp_path):
    cases = [
        (".png", 3, "store.Store", "write"),
        (".png", 20, "formats", "_filter"),
        (".dzi", 1, "os", "replace"),  # Only the tiles have their final name.
        (".zarr", 2, "store.Store", "write"),
        (".zarr", 0, "os", "replace"),
    ]
    program = "\n".join(["import numpy as np", inspect.getsource(pixels_of), KILLED])
    runs = []
    for number, (suffix, *moment) in enumerate(cases):
        path = tmp_path / str(number) / f"a{suffix}"
        picture = [str(tuple(WINDOW)), PICTURE.key]
        command = [sys.executable, "-c", program, str(path), *picture, *map(str, moment)]
        runs.append((path, moment, subprocess.Popen(command)))
    for path, (call, _, function), process in runs:
        assert process.wait() == -signal.SIGKILL
        assert not path.exists()
        assert not is_finished(path, PICTURE.key)
        painter = Painter()
        write(path, PICTURE, painter)
        left = CHUNKS[path.suffix] - call if function == "write" else 0
        assert len(painter.painted) == left
        assert contents(path.parent) == unbroken(path.suffix)


def test_a_kill_after_the_last_rename_leaves_only_waste(tmp_path, monkeypatch):
    path, rename = tmp_path / "a.png", output._rename

    def rename_and_die(finished):
        rename(finished)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(output, "_rename", rename_and_die)
        write(path, PICTURE, Painter())
    assert set(os.listdir(tmp_path)) == {"a.png", "a.png.partial"}
    assert write(path, PICTURE, unused)
    assert contents(tmp_path) == unbroken(".png")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_arguments_start_anew_and_say_so(tmp_path, caplog, suffix):
    path = tmp_path / f"a{suffix}"
    interrupt(path, PICTURE._replace(key="c0ffee00"), limit=2)
    painter = Painter()
    assert not caplog.text
    write(path, PICTURE, painter)
    assert "of other arguments" in caplog.text and str(path) in caplog.text
    assert painter.painted == painter.asked[::-1]
    assert contents(tmp_path) == unbroken(suffix)


def test_another_window_under_the_same_key_starts_anew(tmp_path):
    interrupt(tmp_path / "a.png", Picture(Window(0, 0, 1300, 1601), 3, PICTURE.key))
    write(tmp_path / "a.png", PICTURE, Painter())
    assert contents(tmp_path) == unbroken(".png")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_finished_file_is_not_written_again(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert not is_finished(path, PICTURE.key)
    write(path, PICTURE, Painter())
    before = contents(tmp_path)
    assert is_finished(path, PICTURE.key)
    assert not is_finished(path, PICTURE.key[:-1])
    assert write(path, PICTURE, unused)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_old_file_stays_until_the_new_one_replaces_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    old = Picture(Window(0, 0, 600, 9), 1, "01d")
    write(path, old, Painter(channels=1))

    def look():
        np.testing.assert_array_equal(read(path), pixels_of(old.window, 1))
        assert is_finished(path, old.key) and not is_finished(path, PICTURE.key)

    assert write(path, PICTURE, Painter(before=look))
    assert contents(tmp_path) == unbroken(suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_bears_the_final_name_before_it_is_complete(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    seen = []

    def look(*_, **options):
        seen.append(os.listdir(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(output, "_rename", look)
        patch.setattr(shutil, "rmtree", look)
        write(path, PICTURE, Painter(before=look))
    assert len(seen) > 5
    assert all(names == [f"a{suffix}.partial"] for names in seen)


@pytest.mark.parametrize("window", [Window(0, 0, 1, 1), Window(520, 600, 700, 1024)])
def test_a_small_png_is_written_at_once_and_is_the_same_file(tmp_path, window):
    picture = PICTURE._replace(window=window)

    def look():
        assert not os.listdir(tmp_path)

    assert write(tmp_path / "a.png", picture, Painter(before=look))
    at_once = contents(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png.partial").mkdir()  # Of an earlier run: to be used, or cleared away.
    assert write(tmp_path / "a.png", picture, Painter())
    assert contents(tmp_path) == at_once


def test_what_is_painted_of_a_huge_picture_is_found_row_by_row(tmp_path, monkeypatch):
    """A frame of four million chunks: begun, killed and continued without a look at all of them."""
    looked, painted = [], store.Store._painted
    monkeypatch.setattr(
        store.Store, "_painted", lambda self, row: looked.append(row) or painted(self, row)
    )
    path, picture = tmp_path / "a.zarr", PICTURE._replace(window=Window(0, 0, 2**20, 2**20))

    def some(count):
        def paint(blocks):
            for window in itertools.islice(blocks, count):
                done.append(window)
                yield window, np.full((*window.shape, 3), 7, np.uint8)
            raise KeyboardInterrupt

        return paint

    done = []
    for _ in range(2):
        looked.clear()
        with pytest.raises(KeyboardInterrupt):
            write(path, picture, some(3))
        if done[3:]:
            assert looked == [0]
    assert done == [Window(0, 512 * i, 512, 512 * (i + 1)) for i in range(6)]
