"""Devices that are absent or full are told in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import devices
from tests.helpers.commands import names


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


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("place", ["/proc/nowhere", "relative", "~"])
def test_without_a_folder_for_caches_there_is_none(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", place)
    monkeypatch.delenv("XDG_CACHE_HOME")
    devices.cache_compilations()
    assert jax.config.jax_compilation_cache_dir is None and names(tmp_path) == []


@pytest.mark.usefixtures("no_cache")
def test_compiled_programs_are_kept_where_the_user_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # Which the standard has us ignore.
    monkeypatch.setenv("HOME", str(tmp_path))
    devices.cache_compilations()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "creps_jax")
