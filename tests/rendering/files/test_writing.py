"""Files of every format are written, interrupted and damaged in tmp_path, and read by others."""

import contextlib
import errno
import fcntl
import functools
import inspect
import io
import itertools
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr
from sklearn.datasets import load_sample_images

from creps_jax import disk
from creps_jax.rendering.files import formats, output, store
from creps_jax.rendering.files.output import is_finished, output_at
from creps_jax.rendering.files.store import CHUNK, Picture
from creps_jax.rendering.files.writing import check, write
from creps_jax.rendering.windows import Window

SUFFIXES = [".png", ".tif", ".dzi", ".zarr"]
WINDOW = Window(300, 700, 1300, 1601)  # 3x3 chunks of the frame's grid, or 2x2 of its own.
PICTURE = Picture(WINDOW, 3, "c0ffee")
CHUNKS = {".png": 9, ".tif": 9, ".dzi": 9, ".zarr": 4}


def pixels_of(window, channels=3):
    """What the frame holds there: smooth, with noise that tells every pixel from the next."""
    y, x = np.ogrid[window.y0 : window.y1, window.x0 : window.x1]
    noise = (y * 7919 + x * 104729) % 31
    planes = [100 + 90 * np.sin(y / 60 + c) * np.cos(x / 70 - c) + noise for c in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


class Painter:
    """Paints the frame, backwards; counts, and fails after `limit` windows."""

    def __init__(self, channels=3, limit=None, before=lambda: None):
        self.asked, self.painted = [], []
        self.channels, self.limit, self.before = channels, limit, before

    def __call__(self, windows):
        self.asked += windows
        for window in reversed([*windows]):
            if len(self.painted) == self.limit:
                raise KeyboardInterrupt
            self.before()
            yield window, pixels_of(window, self.channels)
            self.painted.append(window)


def unused(windows):
    raise AssertionError(f"asked to paint {windows}")


def read(path):
    """The picture as another program reads it: uint8 [height, width, channels]."""
    if path.suffix == ".png":
        pixels = np.asarray(PIL.Image.open(path))
    elif path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif path.suffix == ".zarr":
        pixels = zarr.open(path, mode="r")[:]
    else:
        levels = dzi_levels(path)
        pixels = levels[max(levels)]
    return pixels if pixels.ndim == 3 else pixels[..., None]


def dzi_levels(path):
    """{level: its tiles stitched}, with the sizes checked that Deep Zoom prescribes."""
    levels = {}
    for folder in (path.parent / f"{path.stem}_files").iterdir():
        tiles = {tuple(map(int, file.stem.split("_"))): file for file in folder.iterdir()}
        across, down = (max(n) + 1 for n in zip(*tiles, strict=True))
        rows = [
            [np.atleast_3d(np.asarray(PIL.Image.open(tiles[x, y]))) for x in range(across)]
            for y in range(down)
        ]
        assert {t.shape[:2] for row in rows[:-1] for t in row[:-1]} <= {(CHUNK, CHUNK)}
        levels[int(folder.name)] = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return levels


def contents(folder):
    """{path: bytes} of everything below, without what tells where it lies."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@functools.cache
def unbroken(suffix, picture=PICTURE):
    with tempfile.TemporaryDirectory() as folder:
        assert write(Path(folder, f"a{suffix}"), picture, Painter(picture.channels))
        return contents(Path(folder))


def interrupt(path, picture=PICTURE, limit=4):
    painter = Painter(picture.channels, limit)
    with pytest.raises(KeyboardInterrupt):
        write(path, picture, painter)
    return painter


def store_of(path):
    partial = path.with_name(f"{path.name}.partial")
    return partial / "new" / path.name if path.suffix == ".zarr" else partial / "store"


def chunks_of(path):
    return sorted(file for file in (store_of(path) / "c").rglob("*") if file.is_file())


# Pixels.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 1, 1), Window(512, 0, 1024, 1024), Window(0, 0, 3, 1030), WINDOW],
    ids=lambda window: "-".join(map(str, window)),
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_programs_read_what_was_painted(tmp_path, suffix, window, channels):
    path = tmp_path / f"a{suffix}"
    assert write(path, Picture(window, channels, "0"), Painter(channels))
    np.testing.assert_array_equal(read(path), pixels_of(window, channels))
    names = {"a.dzi", "a_files"} if suffix == ".dzi" else {path.name}
    assert set(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("window", [WINDOW, Window(0, 0, 1, 1), Window(0, 0, 5, 1)])
def test_each_level_of_deep_zoom_has_the_means_of_the_finer(tmp_path, window):
    write(tmp_path / "a.dzi", Picture(window, 3, "0"), Painter())
    levels = dzi_levels(tmp_path / "a.dzi")
    deepest = max(levels)
    assert set(levels) == set(range(deepest + 1))
    assert levels[0].shape == (1, 1, 3)
    assert 2 ** (deepest - 1) < max(window.shape) <= 2**deepest
    for level in range(deepest):
        finer = levels[level + 1]
        assert levels[level].shape[:2] == tuple((n + 1) // 2 for n in finer.shape[:2])
        sums, counts = np.zeros(levels[level].shape, int), np.zeros(levels[level].shape, int)
        for y, x in itertools.product(range(2), range(2)):
            part = finer[y::2, x::2]
            sums[: len(part), : part.shape[1]] += part
            counts[: len(part), : part.shape[1]] += 1
        np.testing.assert_array_equal(levels[level], np.floor(sums / counts + 0.5))


def test_zarr_names_its_axes_and_tells_its_window(tmp_path):
    write(tmp_path / "a.zarr", PICTURE, Painter())
    array = zarr.open(tmp_path / "a.zarr", mode="r")
    assert array.metadata.dimension_names == ("y", "x", "c")
    assert array.attrs["window"] == list(WINDOW)


def test_photographs_take_hardly_more_than_pillows_png(tmp_path):
    for name, photograph in enumerate(load_sample_images().images):
        path, shape = tmp_path / f"{name}.png", photograph.shape
        write(path, Picture(Window(0, 0, *shape[:2]), 3, "0"), functools.partial(cut, photograph))
        np.testing.assert_array_equal(read(path), photograph)
        pillows = io.BytesIO()
        PIL.Image.fromarray(photograph).save(pillows, "PNG")
        assert path.stat().st_size < 1.03 * pillows.tell()


def test_rows_that_repeat_take_hardly_any_space(tmp_path):
    row = np.random.default_rng(0).integers(0, 256, (1, 700, 3), dtype=np.uint8)
    image, path = np.tile(row, (1100, 1, 1)), tmp_path / "a.png"
    write(path, Picture(Window(0, 0, 1100, 700), 3, "0"), functools.partial(cut, image))
    np.testing.assert_array_equal(read(path), image)
    assert path.stat().st_size < 4 * row.size


def cut(image, windows):
    return ((w, image[w.y0 : w.y1, w.x0 : w.x1]) for w in windows)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_thin_pictures_take_the_disk_that_their_pixels_need(tmp_path, shape):
    picture = Picture(Window(0, 0, *shape), 3, "0")
    interrupt(tmp_path / "a.tif", picture)
    sizes = [chunk.stat().st_size for chunk in chunks_of(tmp_path / "a.tif")]
    assert len(sizes) == 4
    assert max(sizes) == 3 * CHUNK + 4  # and a checksum
    write(tmp_path / "a.tif", picture, Painter())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        sides = tiff.pages[0].tilelength, tiff.pages[0].tilewidth
    assert sides == tuple(16 if n == 1 else CHUNK for n in shape)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels_of(picture.window))


# What is asked of the painter.


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


# Interrupted and continued.


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


# Full and damaged disks.


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


# Small pictures.


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


def test_a_small_png_that_fails_leaves_nothing(tmp_path):
    picture = PICTURE._replace(window=Window(0, 0, 30, 40))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.png", picture, Painter(limit=0))
    with largest_file(100), pytest.raises(OSError, match=r"too large.*a\.png"):
        write(tmp_path / "a.png", picture, Painter())
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_are_no_utf8_are_written_or_refused_in_a_line(tmp_path, suffix):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix.encode()))
    with pytest.raises(ValueError, match=r"\\xff.* must be UTF-8"):
        write(path, PICTURE, unused)
    assert not os.listdir(tmp_path)
    if suffix == ".png":
        assert write(path, PICTURE._replace(window=Window(0, 0, 3, 4)), Painter())
        assert is_finished(path, PICTURE.key)


# Millions of chunks.


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


# Errors before the work.


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


# Several processes.


def together(path, painters, block=(CHUNK, CHUNK)):
    """What the parts return, each written on a thread of its own."""
    results = {}

    def run(index):
        part = (index, len(painters))
        results[index] = write(path, PICTURE, painters[index], block=block, part=part)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(painters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[i] for i in range(len(painters))]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_share_the_blocks(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    first = interrupt(path, limit=1)
    # None is through before the last one has begun.
    meet = threading.Barrier(3, timeout=20)
    painters = [Painter(before=functools.cache(meet.wait)) for _ in range(3)]
    assert any(together(path, painters))
    shares = [painter.asked for painter in painters]
    assert sorted([*first.painted, *itertools.chain(*shares)]) == sorted(first.asked)
    assert [*itertools.chain(*shares)] == [
        w for w in first.asked if w not in first.painted
    ]  # Contiguous.
    assert contents(tmp_path) == unbroken(suffix)
    assert together(path, [unused] * 3) == [True] * 3


@pytest.mark.parametrize("suffix", [".png", ".zarr"])
def test_parts_may_come_one_after_the_other(tmp_path, suffix):
    path, painters = tmp_path / f"a{suffix}", [Painter(), Painter()]
    assert not write(path, PICTURE, painters[1], part=(1, 2))
    assert not path.exists()
    assert write(path, PICTURE, painters[0], part=(0, 2))
    assert not {*painters[0].painted} & {*painters[1].painted}
    assert contents(tmp_path) == unbroken(suffix)


def test_a_part_without_a_block_paints_nothing(tmp_path):
    painters = [unused] * 4 + [Painter()]
    assert together(tmp_path / "a.png", painters, block=(4 * CHUNK, 4 * CHUNK))[-1]
    assert contents(tmp_path) == unbroken(".png")


def test_a_chunk_that_is_lost_is_an_error(tmp_path):
    path = tmp_path / "a.zarr"

    def lose():
        if chunks := chunks_of(path):
            chunks[0].unlink()

    with pytest.raises(OSError, match=r"a\.zarr: \d painted blocks were lost"):
        write(path, PICTURE, Painter(before=lose))
    assert not path.exists()


def test_other_arguments_do_not_delete_what_is_being_painted(tmp_path):
    path = tmp_path / "a.png"

    def run_other():
        with pytest.raises(OSError, match=r"another run is writing .*a\.png with other arguments"):
            write(path, PICTURE._replace(key="0"), unused, part=(1, 2))

    assert not write(path, PICTURE, Painter(before=run_other), part=(0, 2))
    assert write(path, PICTURE, Painter(), part=(1, 2))
    assert contents(tmp_path) == unbroken(".png")


def test_a_finished_file_does_not_delete_what_replaces_it(tmp_path):
    path = tmp_path / "a.png"
    write(path, PICTURE, Painter())
    other = PICTURE._replace(key="0")

    def run_the_finished_one():
        assert write(path, PICTURE, unused)

    assert not write(path, other, Painter(before=run_the_finished_one), part=(0, 2))
    assert write(path, other, Painter(), part=(1, 2))
    assert contents(tmp_path) == unbroken(".png", other)


def test_a_second_run_on_the_same_output_is_an_error(tmp_path):
    path = tmp_path / "a.png"

    def run_again():
        with pytest.raises(OSError, match=r"another run is writing .*a\.png"):
            write(path, PICTURE, unused)

    write(path, PICTURE, Painter(before=run_again))
    assert contents(tmp_path) == unbroken(".png")


# Buckets, for which a file:// URL stands in: written in place, without renaming or locks.


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
