"""CREPS in JAX: images as pure functions of (weights, latent, coordinates)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from creps_jax.rendering.painter import Painter

__version__ = "0.1.0"


def load(path: "str | os.PathLike", precision: str = "float32") -> "Painter":
    """The generator that a run saved last, ready to paint.

    `creps_jax.load("runs/demo").render(seed=3, size=(512, 768))` is a uint8 array.

    Args:
      path: a run's workdir, its checkpoints folder, or the folder of one step.
      precision: 'float32' or 'bfloat16', of the products.

    Raises:
      FileNotFoundError: path is no folder, or there is no checkpoint in it.
      ValueError: the checkpoints there are all damaged, or the precision is neither.
    """
    from creps_jax import checkpoint, rng  # Importing creps_jax itself must not load jax.
    from creps_jax.rendering.painter import Painter

    with rng.pinned():
        return Painter(*checkpoint.load_generator(path), precision=precision)
