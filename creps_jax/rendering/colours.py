"""Colours: float32 about [-1, 1] as they are computed, uint8 as they are shown."""

import numpy as np

from creps_jax.rendering.windows import Window


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> uint8: clip(image * 127.5 + 128, 0, 255), truncated."""
    return np.clip(image * 127.5 + 128.0, 0.0, 255.0).astype(np.uint8)


def to_dtype(window: Window, pixels: np.ndarray, dtype: type) -> np.ndarray:
    """Pixels of a window, float32 about [-1, 1], as the dtype asked for.

    Raises:
      ValueError: a colour is no finite number.
    """
    if not np.isfinite(pixels).all():
        raise ValueError(
            f"the colours at y0,x0,y1,x1 = {','.join(map(str, window))} exceed float32: "
            "the latents, the truncation or the checkpoint's weights are too large"
        )
    return to_uint8(pixels) if np.dtype(dtype) == np.uint8 else pixels
