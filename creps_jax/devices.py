"""The devices that JAX computes on: whether they are there, and what to do when they are full."""

import contextlib
import os
from collections.abc import Iterator

import jax

# What helps where a generator of some size must be computed.
FOR_PAINTING = "end what else uses it, or compute on the CPU: JAX_PLATFORMS=cpu"


def check() -> None:
    """Starts JAX's devices.

    Raises:
      ValueError: there are none of the kind that the environment asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # Of a kind without its plugin, JAX asserts.
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS={asked}: unset it, or" if asked else "for an accelerator,"
        raise ValueError(
            f"JAX finds no device{_because(error)}; {where} pip install 'creps-jax[cuda]' for "
            "NVIDIA's GPUs, 'creps-jax[tpu]' for TPUs"
        ) from error


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
