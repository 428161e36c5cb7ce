"""What Python callers may hand to rendering, checked: anything else is a ValueError of one line."""

import numbers

import numpy as np

from creps_jax.model import coordinates

FLOAT32_MAX = float(np.finfo(np.float32).max)


def is_whole(value: object) -> bool:
    """Whether it is one whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is one real number that float32 can hold."""
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and abs(value) <= FLOAT32_MAX  # Not of NaN.
    )


def as_float32(name: str, values: object, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers as float32 of this very shape.

    Raises:
      ValueError: they have another shape, are no real numbers, or float32 cannot hold them.
    """
    if np.shape(values) != shape:
        raise ValueError(f"{name} has shape {np.shape(values)}, must be {shape}")
    array = np.asarray(values)
    if not (is_real(array) or array.dtype.name == "bfloat16"):
        raise ValueError(f"{name} holds {array.dtype}, must hold real numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers that float32 can hold")
    return array


def is_real(array: np.ndarray) -> bool:
    """Whether the array is of whole or floating-point numbers."""
    return array.dtype.kind in "iuf"


def check_sampling(
    sampling: str | coordinates.Sampling, size: tuple[int, int], trained: tuple[int, int]
) -> coordinates.Sampling:
    """The function that a sampling is, or that its name stands for.

    Args:
      size, trained: height and width of the frame and of the training images, px.

    Raises:
      ValueError: it is neither, or does not give two pixels of an axis a position each.
    """
    if isinstance(sampling, str):
        sampling = coordinates.SAMPLINGS.get(sampling, sampling)
    if not callable(sampling):
        names = ", ".join(coordinates.SAMPLINGS)
        raise ValueError(f"sampling={sampling!r} must be one of {names}, or a function")
    if sampling not in coordinates.SAMPLINGS.values():
        for n, r in zip(size, trained, strict=True):
            try:
                as_float32("t", sampling(np.arange(2), n, r), (2,))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"sampling={sampling!r} must be a function (i, n, r) -> t, one finite position "
                    f"for each pixel i: {error}"
                ) from error
    return sampling
