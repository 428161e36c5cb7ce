"""CREPS in JAX: images as pure functions of (weights, latent, coordinates)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from creps_jax.rendering.painter import Painter

__version__ = "0.1.0"


def load(path: "str | os.PathLike[str]", precision: str = "float32") -> "Painter":
    """A trained generator, ready to paint.

    `creps_jax.load("scenes").render(seed=3, size=(512, 768))` is a uint8 array.

    Args:
      path: a run's workdir, its checkpoints folder, or the folder of one step; ~ is the home. Also
        gs://bucket/folder. Or a file of weights: .safetensors, .npz, an official pickle. Or, where
        there is nothing of that name, a network that comes with the program: scenes.
      precision: 'float32' or 'bfloat16', of the products.

    Raises:
      FileNotFoundError: path is no folder, or there is no checkpoint in it.
      ValueError: the checkpoints there are all damaged or of another format, the file holds no
        generator, the path is none, or the precision is neither; or JAX is set so that no picture
        would be what it should be.
      OSError: the disk fails, or the bucket cannot be reached.
    """
    # Importing creps_jax itself must not load jax.
    from creps_jax import rng
    from creps_jax.interop.generators import load_generator
    from creps_jax.rendering.painter import Painter, check_precision

    check_precision(precision)
    with rng.pinned():
        return Painter(*load_generator(path), precision=precision)
