"""From an encoded image file to 8-bit pixels: pure functions around Pillow."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class UnreadableError(ValueError):
    """A file that cannot be decoded; the message is the reason, without the file's name."""


def read_image(data: bytes, channels: int) -> Image.Image:
    """The image in an encoded file, wholly decoded: 'L' for 1 channel, 'RGB' for 3.

    The EXIF orientation is applied; transparency is composited over white; of an animation the
    first frame is taken. Raises UnreadableError for whatever cannot be decoded.
    """
    if not data:
        raise UnreadableError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise UnreadableError(
                    f"{image.width}x{image.height} pixels are more than Pillow's limit of "
                    f"{Image.MAX_IMAGE_PIXELS} (decompression bomb?)"
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _opaque(image).convert("L" if channels == 1 else "RGB")
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("not an image file that Pillow knows, or its head is cut") from error
    except Exception as error:  # Damaged files make codecs raise nearly every exception there is.
        raise UnreadableError(f"{error or type(error).__name__}") from error


def _opaque(image: Image.Image) -> Image.Image:
    """The image as 'L' or 'RGB'."""
    if image.mode == "F":
        raise UnreadableError("floating-point pixels have no known range; save it with 8 or 16 bit")
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bit ('I;16*', or 'I' within 0..65535) as 'L': 65535 / 257 = 255."""
    grey = np.asarray(image).astype(np.int64)
    low, high = grey.min(), grey.max()
    if low < 0 or high > 65535:
        raise UnreadableError(f"grey values {low}..{high} are outside the 16-bit range 0..65535")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def fit_square(image: Image.Image, resolution: int) -> Image.Image:
    """The largest centred square of the image, scaled to resolution x resolution (Lanczos)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)
