"""Any window of an image of any size, from a trained generator.

The frame is the whole image stretched over height x width pixels, also where these two differ;
a window is cut out of that frame. Rows and columns become bi-lines once, then tiles of TILE x TILE
pixels are decoded from them. The tiles are anchored to the frame and always computed whole, with
the neighbouring pixels in what a window or the frame's edge cuts off. So two windows see the same
numbers in the same products: where they overlap they are equal bit for bit, on any device, and one
compilation serves every size.

Notation: pixels (y, x) of the frame, windows half-open; ws [1, num_ws, w_dim], the latents of the
layers of ONE image; images [height, width, channels], about [-1, 1].
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from creps_jax import rng
from creps_jax.model import coordinates
from creps_jax.model.generator import Generator, Variables

TILE = 128  # px


class Window(NamedTuple):
    """The pixels y0 <= y < y1, x0 <= x < x1 of a frame."""

    y0: int
    x0: int
    y1: int
    x1: int


def latent(
    generator: Generator,
    variables: Variables,
    seed: int,
    label: int | None = None,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> jax.Array:
    """The latents that a seed stands for, on their own: float32 ws [1, num_ws, w_dim].

    Args:
      seed: 0 <= seed < 2**32.
      label: the class; None if and only if the generator is unconditional.
      psi: truncation: 1 changes nothing, 0 gives the mean image.
      cutoff: truncate only the latents of the first `cutoff` layers; None: of all.

    Raises:
      ValueError: the label does not fit the generator's num_classes.
    """
    config = generator.config
    check_label(label, config.num_classes)
    z = jax.random.normal(rng.stream(jax.random.key(seed), "z", 0), (1, config.z_dim))
    c = np.zeros((1, config.num_classes), np.float32)
    if label is not None:
        c[0, label] = 1.0
    return _ws(generator, variables, z, c, psi, cutoff)


def check_label(label: int | None, num_classes: int) -> None:
    """Raises ValueError unless the label is a class, or None without classes."""
    if num_classes == 0 and label is not None:
        raise ValueError(f"the generator is unconditional (num_classes=0), got class {label}")
    if num_classes > 0 and (label is None or not 0 <= label < num_classes):
        raise ValueError(
            f"the generator needs a class from 0 to {num_classes - 1} "
            f"(num_classes={num_classes}), got {label}"
        )


def resolve_window(window: tuple[int, int, int, int] | None, size: tuple[int, int]) -> Window:
    """The window; None: the whole frame of size (height, width), px.

    Raises:
      ValueError: the window is empty or not inside the frame.
    """
    height, width = size
    y0, x0, y1, x1 = (0, 0, height, width) if window is None else window
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(
            f"y0,x0,y1,x1 = {y0},{x0},{y1},{x1} must satisfy 0 <= y0 < y1 <= {height} and "
            f"0 <= x0 < x1 <= {width}: the frame is {height} px high and {width} px wide"
        )
    return Window(y0, x0, y1, x1)


def render(
    generator: Generator,
    variables: Variables,
    ws: jax.Array,
    size: tuple[int, int],
    window: tuple[int, int, int, int] | None = None,
    sampling: coordinates.Sampling = coordinates.centers,
) -> np.ndarray:
    """A window of one image: float32 [y1 - y0, x1 - x0, channels], about [-1, 1].

    Takes the memory of the result, a band of tiles and the bi-lines of the window's columns.

    Args:
      ws: [1, num_ws, w_dim], from latent().
      size: (height, width) of the frame, px.
      window: (y0, x0, y1, x1) in pixels of the frame, half-open; None: the whole frame.
      sampling: where in the image the frame's pixels are (coordinates.SAMPLINGS).

    Raises:
      ValueError: the window is empty or not inside the frame, or the frame is too small for the
        sampling.
    """
    height, width = size
    y0, x0, y1, x1 = resolve_window(window, size)
    resolution = generator.config.resolution

    def lines_at(start: int, n: int, axis: int) -> jax.Array:
        t = coordinates.positions(start, start + TILE, n, resolution, sampling)
        return _lines(generator, variables, ws, t, axis)

    image = np.empty((y1 - y0, x1 - x0, generator.config.image_channels), np.float32)
    columns = {x: lines_at(x, width, axis=1) for x in _tile_origins(x0, x1)}
    for y in _tile_origins(y0, y1):
        rows = lines_at(y, height, axis=0)
        # The device computes a band of tiles while the host waits for the first.
        band = {x: _tile(generator, variables, ws, rows, columns[x]) for x in columns}
        for x, tile in band.items():
            _paste(image, np.asarray(tile), y - y0, x - x0)
    return image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> uint8: clip(image * 127.5 + 128, 0, 255), truncated."""
    return np.clip(image * 127.5 + 128.0, 0.0, 255.0).astype(np.uint8)


@functools.partial(jax.jit, static_argnames=("generator", "cutoff"))
def _ws(generator, variables, z, c, psi, cutoff):
    w = generator.apply(variables, z, c, method="map")
    return generator.apply(variables, w, psi, cutoff, method="truncate")


@functools.partial(jax.jit, static_argnames=("generator", "axis"))
def _lines(generator, variables, ws, t, axis):
    """Bi-lines at positions t [TILE]: [1, TILE, K, R, B]; axis 0: rows, 1: columns."""
    return generator.apply(variables, ws, t, method=("row_lines", "column_lines")[axis])


@functools.partial(jax.jit, static_argnames="generator")
def _tile(generator, variables, ws, rows, columns):
    """Image [TILE, TILE, channels] from the bi-lines of its rows and columns."""
    return generator.apply(variables, ws, rows, columns, method="compose")[0]


def _tile_origins(start: int, stop: int) -> range:
    """First pixels of the frame's tiles that hold a pixel start <= i < stop."""
    return range(start // TILE * TILE, stop, TILE)


def _paste(image: np.ndarray, tile: np.ndarray, y: int, x: int) -> None:
    """Copies into the image what of the tile lies inside it, the tile's corner being at (y, x)."""
    inside = image[max(y, 0) : y + TILE, max(x, 0) : x + TILE]
    tile = tile[max(-y, 0) :, max(-x, 0) :]
    inside[...] = tile[: inside.shape[0], : inside.shape[1]]
