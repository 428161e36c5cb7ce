"""Processes tell one another values; two real ones do in test_hosts.py."""

from creps_jax.training.exchange import gather


def test_the_only_process_gets_its_own_value_back():
    for value in (None, [True, "\N{SNOWMAN}"], {"a.png": "cut off"}, "x" * 1000):
        assert gather(value) == [value]
