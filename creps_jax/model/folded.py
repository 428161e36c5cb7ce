"""An image whose latent is in its weights: per position and pixel only the products are left."""

from typing import Any

from creps_jax.model import biline
from creps_jax.model.biline import Image, Styles
from creps_jax.model.layers import Array, Parameters, Style


def fold(image: Image, dtype: Any) -> Image:
    """The same image, computed in dtype."""
    return fold_pixels(fold_lines(image), dtype)


def fold_lines(image: Image) -> Image:
    """The same image with the styles of its lines in their weights."""
    p, styles = image.lines, image.line_styles
    return image._replace(
        lines={
            "block_4": fold_layer(p["block_4"], styles["block_4"]),
            "blocks": list(map(fold_block, p["blocks"], styles["blocks"])),
        },
        line_styles={
            "table": styles["table"],
            "block_4": None,
            "blocks": list(map(dict.fromkeys, styles["blocks"])),
        },
    )


def fold_pixels(image: Image, dtype: Any) -> Image:
    """The same image with the styles of its pixels in their weights, computed in dtype."""
    p, styles = image.pixels, image.pixel_styles["refine"]
    folded = image._replace(
        pixels={**p, "refine": list(map(fold_block, p["refine"], styles))},
        pixel_styles={"refine": list(map(dict.fromkeys, styles))},
    )
    return biline.in_dtype(folded, dtype)


def fold_block(p: Parameters, styles: Styles) -> Parameters:
    """The layers of a block, each with its style in the weight."""
    return {name: fold_layer(p[name], style) for name, style in styles.items()}


def fold_layer(p: Parameters, style: Style | Array) -> Parameters:
    """A layer with its style in the weight, W'[i,o] = s[i] weight[i,o] d[o]."""
    if isinstance(style, Style):
        weight = style.scale[:, None] * p["weight"] * style.demodulation[None, :]
    else:
        weight = style[:, None] * p["weight"]
    return {"weight": weight, "bias": p["bias"]}
