"""Blocks of a window: all that a list of them would be, without the list."""

import itertools

import numpy as np
import pytest

from creps_jax.rendering.windows import Blocks, Window, in_strips, largest

WINDOW = Window(5, 3, 41, 51)
SIDE, ORIGIN = (8, 6), (1, 2)


def every_other(row):
    return np.arange(9) % 2 == row % 2


def test_some_blocks_are_those_of_the_rows_given():
    every, some = Blocks(WINDOW, SIDE, ORIGIN), Blocks(WINDOW, SIDE, ORIGIN, every_other)
    assert every.grid == (5, 9)
    places = [place for place in itertools.product(range(5), range(9)) if sum(place) % 2 == 0]
    assert [every.place(window) for window in some] == places
    assert len(some) == len(places) < len(every) == 45
    assert all((window in some) == (window in [*some]) for window in every)
    assert every.place(Window(5, 3, 9, 9)) is None and Window(5, 3, 9, 9) not in every
    assert every and not every.where(lambda row: np.zeros(9, bool))


@pytest.mark.parametrize("strip", [1, 7, 12, 100])
def test_strips_have_the_order_that_sorting_gives(strip):
    some = Blocks(WINDOW, SIDE, ORIGIN, every_other)

    def number(x):
        return x // strip

    assert [*in_strips(some, number)] == [*in_strips([*some], number)]
    assert {*in_strips(some, number)} == {*some}


@pytest.mark.parametrize("count", [1, 3, 44, 60])
def test_shares_are_contiguous_and_equal_in_all_blocks(count):
    every, some = Blocks(WINDOW, SIDE, ORIGIN), Blocks(WINDOW, SIDE, ORIGIN, every_other)
    shares = [[*every.share(index, count)] for index in range(count)]
    assert [*itertools.chain(*shares)] == [*every]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for index, share in enumerate(shares):
        assert [*some.share(index, count)] == [window for window in share if window in some]


def test_the_largest_block_is_known_without_a_look_at_all():
    every = Blocks(WINDOW, SIDE, ORIGIN)
    assert largest(every) == largest([*every]) == (8, 6)
    assert largest(Blocks(Window(0, 0, 3, 2))) == (3, 2)


def test_of_millions_of_blocks_only_the_rows_that_are_needed_are_looked_at():
    asked = []

    def rows(row):
        asked.append(row)
        return np.arange(2048) >= 100 * (row == 0)

    whole = Window(0, 0, 2**20, 2**20)
    windows = Blocks(whole, rows=rows)
    assert windows and next(iter(windows)) == Window(0, 51200, 512, 51712)
    assert next(windows.in_strips(lambda x: x // 51200)) == Window(512, 0, 1024, 512)
    assert asked == [0, 1]
    last = windows.share(7, 8)
    assert next(iter(last)) == Window(7 * 2**17, 0, 7 * 2**17 + 512, 512)
    assert asked == [0, 1, 7 * 256]
    assert len(windows) == 2**22 - 100


def test_blocks_cover_a_window_once_along_the_grid():
    windows = Blocks(Window(5, 0, 13, 9), (4, 6), origin=(1, 0))
    assert [*windows] == [(5, 0, 9, 6), (5, 6, 9, 9), (9, 0, 13, 6), (9, 6, 13, 9)]
