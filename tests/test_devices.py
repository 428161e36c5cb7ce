"""Devices that are absent or full are told in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import devices


def test_a_full_device_is_a_memory_error_that_says_what_to_do():
    with (
        pytest.raises(MemoryError, match=r"the device \(cpu\) is out of memory .*; paint less$"),
        devices.memory_errors("paint less"),
    ):
        jnp.zeros(2**45).block_until_ready()


def test_another_error_of_a_device_is_none_of_its_memory():
    def fail(x):
        raise OSError("no such file")

    shape = jax.ShapeDtypeStruct((), np.float32)
    told = pytest.raises(jax.errors.JaxRuntimeError, match="no such file")
    with told, devices.memory_errors("paint less"):
        jax.pure_callback(fail, shape, np.float32(1)).block_until_ready()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AssertionError(), r"JAX finds no device; JAX_PLATFORMS=cuda: unset it"),
        (RuntimeError("no backend.\nmore"), r"no device \(no backend\); JAX_PLATFORMS=cuda"),
    ],
)
def test_a_device_that_is_asked_for_and_absent_is_named(monkeypatch, error, message):
    def fail():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(ValueError, match=message):
        devices.check()
