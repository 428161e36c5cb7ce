"""What XLA says of GPUs: which operations of a step it is about, and how it is asked for others."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import sharding
from creps_jax.training import determinism


def mesh_of(platform):
    return SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)]))


def test_a_run_tells_what_may_differ_or_what_it_asks_for():
    found = {"products": ["G main", "D R1"], "scatters": ["D R1"]}
    told = "products (G main, D R1), scatters (D R1)"
    assert determinism.line(found, False) == (
        f"Not deterministic on GPUs, by what XLA says: {told}. The same run may end in other last "
        "bits; --config.deterministic=True asks XLA for slower ones that are."
    )
    asked = f"deterministic=True: XLA is asked for deterministic {told}."
    assert determinism.line(found, True) == asked


@pytest.mark.parametrize(("unique", "kinds"), [(False, ["scatters"]), (True, [])])
def test_where_each_index_comes_once_nothing_is_added(unique, kinds):
    def add(x, i):
        return x.at[i].add(1.0, unique_indices=unique)

    text = jax.jit(add).lower(jnp.zeros(3), jnp.arange(2)).as_text()
    assert determinism.operations(text) == kinds


def test_only_programs_for_gpus_are_asked_to_be_deterministic():
    for platform in ("cpu", "tpu"):
        plain, asked = (sharding.compiler_options(mesh_of(platform), ask) for ask in (False, True))
        assert plain == asked
    assert sharding.compiler_options(mesh_of("gpu"), False) == {}
    options = sharding.compiler_options(mesh_of("gpu"), True)
    # XLA reads the options of all its devices' programs, and refuses those that it does not know.
    assert jax.jit(jnp.negative, compiler_options=options)(1.0) == -1.0
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(jnp.negative, compiler_options={"xla_gpu_no_such": True})(1.0)
