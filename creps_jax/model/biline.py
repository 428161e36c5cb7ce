"""The bi-line generator as pure functions of ONE line position and ONE pixel.

An image is the sum over r of products of row features and column features, decoded pixel by
pixel. A line position becomes K x R x B numbers on its own; a pixel is decoded from those of its
row and of its column on its own. An image of any size, shape or window is these functions,
vmapped over other coordinates: `lines` and `pixels`, for training, rendering and whatever else.

Notation:
  R  thickness of a line.              K  number of compositions: blocks 8, 16, ..., 4 * 2^k.
  C  channels of a line layer.         B  bi-line channels.
  t  position of a line, float32: y of a row, x of a column (see coordinates.py).
  w  latents of the layers, [num_ws, w_dim].

Parameters are plain dicts (see layers.py); their initial values are drawn by generator.py.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from creps_jax.model import layers, ops
from creps_jax.model.composition import compose
from creps_jax.model.layers import Array, Parameters

Styles = dict[str, Any]


class Image(NamedTuple):
    """All that an image is made of: the parameters of its lines and pixels, and their styles.

    The trees are those of line_styles() and pixel_styles(); a layer whose style is None has it in
    its weight.
    """

    freqs: Array  # [C/2, R], cycles per image
    lines: Parameters
    line_styles: Styles
    pixels: Parameters
    pixel_styles: Styles


# To vmap over the images of one generator: what differs are the styles.
IMAGES = Image(freqs=None, lines=None, line_styles=0, pixels=None, pixel_styles=0)


def image(freqs: Array, lines: Parameters, pixels: Parameters, w: Array) -> Image:
    """The image of w [num_ws, w_dim]."""
    return Image(freqs, lines, line_styles(lines, w), pixels, pixel_styles(pixels, w))


def in_dtype(image: Image, dtype: Any) -> Image:
    """The image computed in dtype, but for its waves: see ops.py."""
    lines, line_styles, pixels, pixel_styles = ops.in_dtype(image[1:], dtype)
    line_styles["table"] = image.line_styles["table"]
    return Image(image.freqs, lines, line_styles, pixels, pixel_styles)


def dtype_of(image: Image) -> Any:
    """The dtype that an image is computed in."""
    return image.pixels["rgb"]["weight"].dtype


def line_shape(image: Image) -> tuple[int, int, int]:
    """K, R and B, the shape of one position's bi-line."""
    thickness, width = image.freqs.shape[1], image.pixels["rgb"]["weight"].shape[0]
    return len(image.lines["blocks"]), thickness, width


def line_bytes(image: Image) -> int:
    """Bytes of one position's bi-line, float32."""
    return 4 * math.prod(line_shape(image))


# One line position.


def encoding_table(p: Parameters, w: Array) -> Array:
    """Amplitudes of the Fourier features of one image: [2, C, R], rows first, then columns.

    table = weight * reshape(affine(w_0)) / sqrt(C), weight [C, 2R].
    """
    channels, lines = p["weight"].shape
    with ops.in_float32("styles"):
        table = p["weight"] * layers.linear(p["affine"], w).reshape(channels, lines)
    table = table / math.sqrt(channels)
    return jnp.stack(jnp.split(table, 2, axis=1))


def encode(freqs: Array, table: Array, t: Array) -> Array:
    """Fourier features of one position: freqs [C/2, R], table [C, R], t [] -> [R, C].

    sin(2 pi t freqs) in the first C/2 channels, the cosines in the rest, times the table.
    """
    phase = (2.0 * math.pi) * t * freqs
    return (jnp.concatenate([jnp.sin(phase), jnp.cos(phase)]) * table).T


def line_styles(p: Parameters, w: Array) -> Styles:
    """Styles of all line layers from w [num_ws, w_dim], in the parameters' tree.

    Encoding: w_0. Block 4: w_1. Block i = 0, 1, ... (8, 16, ...): w_2i+1, w_2i+2 and w_2i+3, so
    that the last layer of a block shares its latent with the first of the next (quirk Q2).
    """
    return {
        "table": encoding_table(p["encoding"], w[0]),
        "block_4": layers.style(p["block_4"], w[1]),
        "blocks": [
            {
                "layer_0": layers.style(block["layer_0"], w[2 * i + 1]),
                "layer_1": layers.style(block["layer_1"], w[2 * i + 2]),
                "to_biline": layers.projection_style(block["to_biline"], w[2 * i + 3]),
            }
            for i, block in enumerate(p["blocks"])
        ],
    }


def line(image: Image, t: Array, axis: Array) -> Array:
    """Bi-line of ONE position: t [] -> [K, R, B]; axis [] 0: t is a row's y, 1: a column's x.

    Entry k is the running sum of the to-bi-line layers up to block k, scaled by sqrt(1/2).
    """
    p, styles = image.lines, image.line_styles
    # The layers see one vector of C channels; a position has R of them.
    modulated = jax.vmap(layers.modulated, (None, None, 0))
    projection = jax.vmap(layers.projection, (None, None, 0))

    x = encode(image.freqs, jnp.where(axis == 0, *styles["table"]), t)
    x = x.astype(dtype_of(image))
    x = modulated(p["block_4"], styles["block_4"], x)
    biline, running = [], 0.0
    for block, style in zip(p["blocks"], styles["blocks"], strict=True):
        x = modulated(block["layer_0"], style["layer_0"], x)
        x = modulated(block["layer_1"], style["layer_1"], x)
        projected = projection(block["to_biline"], style["to_biline"], x)
        running = running + projected.astype(jnp.float32)
        biline.append((running * math.sqrt(0.5)).astype(x.dtype))
    return jnp.stack(biline)


# One pixel.


def pixel_styles(p: Parameters, w: Array) -> Styles:
    """Styles of the refinement layers, all from the last latent of w [num_ws, w_dim]."""
    return {
        "refine": [
            {
                "layer_0": layers.style(block["layer_0"], w[-1]),
                "layer_1": layers.style(block["layer_1"], w[-1]),
                "to_rgb": layers.projection_style(block["to_rgb"], w[-1]),
            }
            for block in p["refine"]
        ]
    }


def decode(decoder: list[Parameters], f: Array) -> Array:
    """Four equalised linear layers with lrelu, B -> 2B -> 4B -> 2B -> B, of ONE pixel: [B]."""
    for p in decoder:
        f = ops.lrelu(layers.linear(p, f))
    return f


def refine(p: Parameters, styles: Styles, f: Array) -> Array:
    """Colour of ONE pixel: f [B] -> [channels]; linear, plus two modulated blocks' to-RGB."""
    rgb = layers.linear(p["rgb"], f).astype(jnp.float32)
    for block, style in zip(p["refine"], styles["refine"], strict=True):
        f = layers.modulated(block["layer_0"], style["layer_0"], f)
        f = layers.modulated(block["layer_1"], style["layer_1"], f)
        rgb = rgb + layers.projection(block["to_rgb"], style["to_rgb"], f).astype(jnp.float32)
    return rgb


def pixel(image: Image, row: Array, column: Array) -> Array:
    """Colour of ONE pixel from its row's and its column's bi-line, [K, R, B] each: [channels].

    f = decoder_k(f + compose(row_k, column_k)) for k = 0, ..., K-1 from f = 0, then refined.
    """
    row, column = ops.in_dtype((row, column), dtype_of(image))
    f = jnp.zeros(row.shape[-1], row.dtype)
    for k, decoder in enumerate(image.pixels["decoders"]):
        f = decode(decoder, f + compose(row[k], column[k]))
    return refine(image.pixels, image.pixel_styles, f)


# An image: what depends on its latent alone is done once, the rest vmapped over coordinates.


def lines(image: Image, t: Array, axis: Array) -> Array:
    """Bi-lines at positions t [L], axis [L] (0: row, 1: column): [L, K, R, B]."""
    return jax.vmap(line, (None, 0, 0))(image, t, axis)


def pixels(image: Image, rows: Array, columns: Array) -> Array:
    """Pixels where rows [H, K, R, B] and columns [W, K, R, B] cross: [H, W, channels]."""
    of_row = jax.vmap(pixel, (None, None, 0))
    return jax.vmap(of_row, (None, 0, None))(image, rows, columns)


def row_and_column_lines(image: Image, y: Array, x: Array) -> tuple[Array, Array]:
    """Bi-lines of rows y [H] and of columns x [W] in one pass.

    Which is half the program and has products twice as large.
    """
    axis = (jnp.arange(len(y) + len(x)) >= len(y)).astype(jnp.int32)
    both = lines(image, jnp.concatenate([y, x]), axis)
    return both[: len(y)], both[len(y) :]
