"""Options' texts in, checked values out."""

import pytest

from creps_jax import options


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("0,5, 9-12", [0, 5, 9, 10, 11, 12]),
        ("4,2-5,2", [4, 2, 3, 4, 5, 2]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_seeds_are_listed_in_their_order_as_often_as_named(text, seeds):
    assert options.parse_seeds(text) == seeds


def test_size_is_height_then_width_or_one_number_for_both():
    assert options.parse_size("512x256") == (512, 256)
    assert options.parse_size("64") == (64, 64)
