"""The devices that JAX computes on: whether they are there, what to do when they are full.

And where the programs that were compiled for them are kept.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from creps_jax import machine

# What helps where a generator of some size must be computed.
FOR_PAINTING = "end what else uses it, or compute on the CPU: JAX_PLATFORMS=cpu"


def without_tpu() -> None:
    """Before JAX's devices start: where there is no TPU, libtpu shall not look for one."""
    if "TPU_SKIP_MDS_QUERY" in os.environ:  # JAX has set it: this machine has none.
        for name, value in machine.WITHOUT_TPU.items():
            os.environ.setdefault(name, value)


def check() -> None:
    """Starts JAX's devices.

    Raises:
      ValueError: there are none of the kind that the environment asks for.
    """
    without_tpu()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # Of a kind without its plugin, JAX asserts.
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS={asked}: unset it, or" if asked else "for an accelerator,"
        raise ValueError(
            f"JAX finds no device{_because(error)}; {where} pip install 'creps-jax[cuda]' for "
            "NVIDIA's GPUs, 'creps-jax[cuda12]' with older drivers, 'creps-jax[tpu]' for TPUs"
        ) from error


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, unless the environment says where.

    Users without a home, or with one that cannot be written, compile anew each time.
    """
    if not jax.config.jax_compilation_cache_dir and (folder := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cache_folder() -> Path | None:
    """The user's cache folder for our files, made if need be; None if nothing can be kept there."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "creps_jax"
        if not folder.is_absolute():
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: there is no home.
        return None


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Around work on devices: that one of them is full becomes a MemoryError with the remedy."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        kind = jax.local_devices()[0].device_kind
        raise MemoryError(
            f"the device ({kind}) is out of memory{_because(error)}; {remedy}"
        ) from error


def _because(error: Exception) -> str:
    """The first line of what JAX says, if it does."""
    return f" ({str(error).splitlines()[0].rstrip('.')})" if str(error) else ""
