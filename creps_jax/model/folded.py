"""An image whose latent is in its weights: per position and pixel only the products are left."""

import math
from typing import Any

import jax.numpy as jnp

from creps_jax.model import biline
from creps_jax.model.biline import Image, Styles
from creps_jax.model.layers import Array, Parameters, Style


def fold(image: Image, dtype: Any) -> Image:
    """The same image, computed in dtype."""

    def folded(p: Parameters, style: Styles) -> Parameters:
        return {name: fold_layer(p[name], style[name]) for name in style}

    def unstyled(blocks: list[Styles]) -> list[Styles]:
        return [dict.fromkeys(style) for style in blocks]

    lines, of_lines = image.lines, image.line_styles
    pixels, of_pixels = image.pixels, image.pixel_styles
    whole = Image(
        freqs=image.freqs,
        lines={
            "block_4": fold_layer(lines["block_4"], of_lines["block_4"]),
            "blocks": list(map(folded, lines["blocks"], of_lines["blocks"])),
        },
        line_styles={
            "table": of_lines["table"],
            "block_4": None,
            "blocks": unstyled(of_lines["blocks"]),
        },
        pixels={
            "decoders": pixels["decoders"],
            "rgb": pixels["rgb"],
            "refine": list(map(folded, pixels["refine"], of_pixels["refine"])),
        },
        pixel_styles={"refine": unstyled(of_pixels["refine"])},
    )
    return biline.in_dtype(whole, dtype)


def fold_layer(p: Parameters, style: Style | Array) -> Parameters:
    """A layer with its style in the weight, W'[i,o] = s[i] weight[i,o] d[o]."""
    if isinstance(style, Style):
        weight = style.scale[:, None] * p["weight"] * style.demodulation[None, :]
    else:
        weight = style[:, None] * p["weight"]
    return {"weight": weight, "bias": p["bias"]}


def in_float32(image: Image) -> Image:
    """The image computed in float32, from the same weights."""
    return biline.in_dtype(image, jnp.float32)


def line_shape(image: Image) -> tuple[int, int, int]:
    """K, R and B, the shape of one position's bi-line."""
    thickness, width = image.freqs.shape[1], image.pixels["rgb"]["weight"].shape[0]
    return len(image.lines["blocks"]), thickness, width


def line_bytes(image: Image) -> int:
    """Bytes of one position's bi-line, float32."""
    return 4 * math.prod(line_shape(image))
