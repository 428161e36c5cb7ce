"""From an encoded image file to 8-bit pixels: pure functions around Pillow."""

import contextlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from creps_jax.data import png

Image.init()
# Kinds of pictures; Pillow also knows documents, fonts and programs.
PICTURES = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI",
    "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
FORMATS = [name for name in PICTURES if name in Image.OPEN]  # AVIF may be missing.
MAX_MEGAPIXELS = 128.0
LARGE_PX = 2**26  # Of larger images one at a time is decoded in a process.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pillows_limit = threading.RLock()


class UnreadableError(ValueError):
    """A file that cannot be decoded; the message is the reason, without the file's name."""


def read_image(data: bytes, channels: int, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """The image in an encoded file, wholly decoded: 'L' for 1 channel, 'RGB' for 3.

    The EXIF orientation is applied; an ICC profile is converted to sRGB; transparency is composited
    over white; of an animation the first frame is taken. While it is decoded, each of its pixels
    takes up to 12 bytes.

    Raises:
      UnreadableError: it cannot be decoded, or has more than so many million pixels.
    """
    if not data:
        raise UnreadableError("the file is empty")
    try:
        with _opened(data, max_megapixels) as image, _room_for(image.width * image.height):
            image.load()
            image = _opaque(_to_srgb(_upright(image)))
            return _in_mode(image, "L" if channels == 1 else "RGB")
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        is_heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1")
        raise UnreadableError(
            "HEIC is not read: convert it to JPEG or PNG"
            if is_heic
            else "not an image file that Pillow knows, or its head is cut"
        ) from error
    except MemoryError:  # Another machine may well read it.
        raise
    except Exception as error:  # Damaged files make codecs raise nearly every exception there is.
        raise UnreadableError(str(error) or type(error).__name__) from error


def _opened(data: bytes, max_megapixels: float) -> Image.Image:
    """The image in a file, not yet decoded."""
    limit = int(max_megapixels * 1e6)
    bare, profile = png.without_large_texts(data)
    too_many = (
        f"more than {max_megapixels:g} megapixels, the limit (data.max_megapixels, "
        "--max-megapixels)"
    )
    try:
        with _limit_for_pillow(limit):
            image = Image.open(io.BytesIO(bare), formats=FORMATS)
    except Image.DecompressionBombError as error:  # More than twice as many.
        raise UnreadableError(too_many) from error
    if image.width * image.height > limit:
        raise UnreadableError(f"{image.width}x{image.height} pixels are {too_many}")
    if profile:
        image.info["icc_profile"] = profile
    return image


@contextlib.contextmanager
def _room_for(pixels: int) -> Iterator[None]:
    """Around work on so many pixels: large images wait for one another."""
    with _limit_for_pillow(pixels) if pixels > LARGE_PX else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _limit_for_pillow(pixels: int) -> Iterator[None]:
    """Pillow's own limit, of all threads, is another for a moment."""
    with _pillows_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _orientation(image: Image.Image) -> int:
    """As the EXIF says, from 1 to 8; 1, upright, if it does not say so clearly."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Broken EXIF raises nearly anything; what shows pictures ignores it.
        return 1
    return orientation if orientation in TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def read_plain_png(data: bytes, height: int, width: int, channels: int) -> np.ndarray | None:
    """The pixels, uint8 [height, width, channels], of a PNG file of this form and no more.

    For any other file None: `read_image` knows them all. Prepared sets consist of such files, and
    for them this is 1.5 times as fast.
    """
    colour_type = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    if not data.startswith(png.SIGNATURE + b"\x00\x00\x00\x0dIHDR" + header):
        return None
    at, kind = 33, b"IDAT"  # The first chunk after the header.
    while kind == b"IDAT" and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += length + 12
    if kind != b"IEND":  # Colours or comments that may matter, or a file that is cut.
        return None
    try:
        return imagecodecs.png_decode(data).reshape(height, width, channels)
    except imagecodecs.PngError:
        return None


def _to_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB, if it has an ICC profile of other colours; 16 bit are left alone."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L", "P"):
        return image
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        colours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(colours).strip().startswith("sRGB"):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, colours, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):  # Broken, or of another colour space than the image.
        return image


def _opaque(image: Image.Image) -> Image.Image:
    """The image as 'L' or 'RGB'."""
    if image.mode == "F":
        raise UnreadableError("floating-point pixels have no known range; save it with 8 or 16 bit")
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "L" else _in_mode(image, "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in this mode; convert() would copy one that is."""
    return image if image.mode == mode else image.convert(mode)


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bit ('I;16*', or 'I' within 0..65535) as 'L': 65535 / 257 = 255."""
    grey = np.asarray(image).astype(np.int64)
    low, high = grey.min(), grey.max()
    if low < 0 or high > 65535:
        raise UnreadableError(f"grey values {low}..{high} are outside the 16-bit range 0..65535")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred window of this shape, scaled to height x width px (Lanczos)."""
    if image.size == (width, height):
        return image
    # The window's sides, whole pixels: one of them is the image's.
    across = min(image.width, max(1, round(image.height * width / height)))
    down = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    with _room_for(across * down):
        window = image.crop((left, top, left + across, top + down))
    return window.resize((width, height), Image.Resampling.LANCZOS)


def cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """The whole image, scaled until it just holds a window of height x width px (Lanczos)."""
    if image.width * height <= image.height * width:  # The window is as wide as the image.
        size = width, max(height, round(image.height * width / image.width))
    else:
        size = max(width, round(image.width * height / image.height)), height
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def encode_png(image: Image.Image) -> bytes:
    """The PNG file of an image; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "png")  # Without the file's own comments.
    return buffer.getvalue()


def is_plain(data: bytes, channels: int) -> str | None:
    """'.png' or '.jpg' for a file with 8 bits a channel and nothing to convert; None for others."""
    if png.without_large_texts(data)[0] is not data:  # Other programs may refuse it.
        return None
    with _opened(data, MAX_MEGAPIXELS) as image:
        suffix = {"PNG": ".png", "JPEG": ".jpg"}.get(image.format or "")
        is_bare = not ({"icc_profile", "transparency"} & image.info.keys())
        upright = _orientation(image) == 1
        # Pillow tells of deep PNG files only in their head: the depth is its 25th byte.
        is_deep = image.format == "PNG" and data[24] != 8
        is_still = not getattr(image, "is_animated", False)
        raw_bytes = image.width * image.height * channels
        plain = image.mode == ("L" if channels == 1 else "RGB") and is_bare and upright
        plain = plain and is_still and not is_deep and len(data) < raw_bytes + 2**16
        return suffix if plain else None
