"""Every random draw is a function of (seed, stream name, step); no key is ever stored."""

import zlib

import jax


def stream(root: jax.Array, name: str, step: jax.Array | int) -> jax.Array:
    """The key of stream `name` at `step`, from the run's root key."""
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)
