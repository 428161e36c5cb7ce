"""An image whose latent is in its weights: per position and pixel only the products are left."""

from typing import Any

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
