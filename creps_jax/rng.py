"""Every random draw is a function of (seed, stream name, step), whatever JAX is set to.

JAX's settings, of the environment as of the program, reach into every call: another generator of
random numbers, 64 bits, products in fewer bits or no compilation give other numbers. All work of
ours is done while pinned(): the settings that numbers depend on are what they are by default, for
this thread alone and only until it is left.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

IMPLEMENTATION = "threefry2x32"

# What JAX can set for one thread. Nothing here depends on whether types and ranks are promoted
# strictly, and checks of keys change no number: those stay as the user wants them.
_PINNED: tuple[tuple[Callable[[Any], contextlib.AbstractContextManager], Any], ...] = (
    (jax.default_prng_impl, IMPLEMENTATION),
    (jax.threefry_partitionable, True),
    (jax.enable_x64, False),
    (jax.default_matmul_precision, "highest"),  # float32 means float32.
    (jax.default_device, None),
    (jax.disable_jit, False),
    (jax.set_mesh, Mesh(np.empty((), object), ())),
    (jax.enable_checks, False),
    (jax.no_tracing, False),
    # Beyond a picture's edges nothing need be a number, and training stops at NaN by itself.
    (jax.debug_nans, False),
    (jax.debug_infs, False),
    (jax.allow_f16_reductions, True),
    (jax.transfer_guard, "allow"),
)

# What it can set for the whole process alone: another value than these is refused. A release need
# not know all of them.
_REQUIRED: Mapping[str, Any] = {
    "jax_accurate_erf_inv": False,  # Which normal numbers are made with.
    "jax_disable_most_optimizations": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_optimization_level": "UNKNOWN",
    "jax_use_direct_linearize": True,
    "jax_use_hlo_logistic_lowering": None,
    "jax_use_shardy_partitioner": True,
}

_in_use = False  # JAX, by this process.
_forked_in_use = False  # By the process that this one was forked from, whose threads it lacks.


def root(seed: int | np.ndarray) -> jax.Array:
    """The key that a seed from 0 to 2**32 - 1 stands for, or the keys [N] of seeds [N].

    jax_random_seed_offset moves them not.
    """
    seeds = np.asarray(seed, np.uint32)
    words = np.stack([np.zeros_like(seeds), seeds], axis=-1)
    return jax.random.wrap_key_data(words, impl=IMPLEMENTATION)


def stream(root: jax.Array, name: str, step: jax.Array | int) -> jax.Array:
    """The key of stream `name` at `step`, from the run's root key."""
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """JAX as numbers of ours need it, in this thread, until it is left; also a decorator.

    Never around a `yield` to the caller, nor as the decorator of a generator: the caller would be
    pinned too. Other threads need their own.

    Raises:
      ValueError: a setting of the process is not what it must be; says which.
      RuntimeError: this process was forked from one that has used JAX, so JAX would hang here.
    """
    global _in_use
    if _forked_in_use:
        raise RuntimeError(
            "this process was forked from one that has used JAX, which would hang here: start it "
            "with multiprocessing.get_context('spawn')"
        )
    _in_use = True
    _check_settings()
    with contextlib.ExitStack() as settings:
        for setting, value in _PINNED:
            settings.enter_context(setting(value))
        yield


def _check_settings() -> None:
    values = jax.config.values
    for name, needed in _REQUIRED.items():
        value = values.get(name, needed)
        if value != needed:
            raise ValueError(
                f"{name.upper()}={value} makes other numbers, must be {needed}: unset it in the "
                f"environment, or jax.config.update({name!r}, {needed!r})"
            )


def _note_fork() -> None:
    global _forked_in_use
    _forked_in_use = _forked_in_use or _in_use


os.register_at_fork(after_in_child=_note_fork)
