"""One picture written by several processes."""

import functools
import itertools
import threading

import pytest

from creps_jax.rendering.files.store import CHUNK
from creps_jax.rendering.files.writing import write
from tests.helpers.painted import (
    PICTURE,
    SUFFIXES,
    Painter,
    chunks_of,
    contents,
    interrupt,
    unbroken,
    unused,
)


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
