"""What a run may use of the machine is known before it is used."""

import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from creps_jax import machine
from creps_jax.training import memory
from creps_jax.training.run import prepare
from experiments.kill_hunt import tiny_config


def test_arrays_may_use_what_the_process_does_not_hold_besides(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 8 * 2**30)
    before = memory.limit_bytes()
    held = jnp.ones(2**26).block_until_ready()  # An array, which is no other.
    assert abs(memory.limit_bytes() - before) < 2**24
    monkeypatch.setattr(memory, "_resident_bytes", lambda: 4 * 2**30 + held.nbytes)
    assert memory.limit_bytes() <= 2**29 + held.nbytes
    monkeypatch.setattr(memory, "_resident_bytes", lambda: 9 * 2**30)
    assert memory.limit_bytes() < 2**29


def test_processes_that_could_not_share_batches_are_not_started(tmp_path, monkeypatch):
    config = tiny_config({"batch_size": 1600, "data.workers": 2})
    small = SimpleNamespace(free=2**20)  # 2 workers hold 3 batches of 1600 * 8 * 8 * 3 bytes each.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    expected = r"data.workers=2 needs 2 MiB of shared memory.* has 1 MiB left: give .*workers=0"
    with pytest.raises(ValueError, match=expected):
        prepare(config, tmp_path)
    memory.check_shared(0, 2**40)
    memory.check_shared(2, 2**16)
