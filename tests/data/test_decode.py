"""Every kind of image file comes out as the right 8-bit pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from sklearn.datasets import load_sample_images

from creps_jax.data.containers.files import is_image
from creps_jax.data.decode import (
    UnreadableError,
    cover,
    fit,
    is_plain,
    read_image,
    read_plain_png,
)


def encode(image, file_format="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(data, channels=3):
    return np.asarray(read_image(data, channels))


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_images().images[0][:200, :300])


def test_rgb_is_unchanged(photo):
    np.testing.assert_array_equal(pixels(encode(photo)), np.asarray(photo))


def test_grey_becomes_three_equal_channels_and_back(photo):
    grey = np.asarray(photo.convert("L"))
    data = encode(Image.fromarray(grey))
    np.testing.assert_array_equal(pixels(data), np.repeat(grey[..., None], 3, -1))
    np.testing.assert_array_equal(pixels(data, 1), grey)


def test_colour_becomes_luma(photo):
    np.testing.assert_array_equal(pixels(encode(photo), 1), np.asarray(photo.convert("L")))


@pytest.mark.parametrize("file_format", ["png", "tiff"])
def test_16_bit_grey_is_divided_by_257(file_format):
    values = np.array([[0, 257, 128 * 257, 65535], [128, 129, 65406, 65407]], np.uint16)
    data = encode(Image.fromarray(values), file_format)
    expected = [[0, 1, 128, 255], [0, 1, 254, 255]]
    np.testing.assert_array_equal(pixels(data, 1), expected)
    np.testing.assert_array_equal(pixels(data)[..., 2], expected)


def test_32_bit_integers_are_16_bit_grey_when_they_fit():
    fits, large = (Image.fromarray(np.array([[0, top]], np.int32)) for top in (65535, 65536))
    np.testing.assert_array_equal(pixels(encode(fits, "tiff"), 1), [[0, 255]])
    with pytest.raises(UnreadableError, match=r"0\.\.65536 are outside the 16-bit range"):
        pixels(encode(large, "tiff"))


def test_float_images_are_refused():
    data = encode(Image.fromarray(np.ones((2, 2), np.float32)), "tiff")
    with pytest.raises(UnreadableError, match="floating-point"):
        pixels(data)


def test_alpha_is_composited_over_white():
    rgba = np.array([[[200, 0, 50, 255], [200, 0, 50, 0], [0, 0, 0, 51]]], np.uint8)
    over = [[[200, 0, 50], [255, 255, 255], [204, 204, 204]]]
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(rgba))), over)
    grey_alpha = Image.merge("LA", [Image.fromarray(rgba[..., c]) for c in (0, 3)])
    np.testing.assert_array_equal(pixels(encode(grey_alpha), 1), [[200, 255, 204]])


def test_palette_and_its_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    np.testing.assert_array_equal(pixels(encode(image)), [[[10, 20, 30], [40, 50, 60]]])
    transparent = pixels(encode(image, transparency=1))
    np.testing.assert_array_equal(transparent, [[[10, 20, 30], [255, 255, 255]]])


def test_a_transparent_colour_of_rgb_is_white():
    image = Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8))
    expected = [[[9, 9, 9], [255, 255, 255]]]
    np.testing.assert_array_equal(pixels(encode(image, transparency=(1, 2, 3))), expected)


def test_one_bit():
    bits = Image.fromarray(np.array([[True, False]]))
    assert bits.mode == "1"
    np.testing.assert_array_equal(pixels(encode(bits)), [[[255] * 3, [0] * 3]])


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
    ],
)
def test_other_colour_spaces(mode, value, expected):
    data = encode(Image.new(mode, (3, 2), value), "tiff")
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.mode == mode
    assert abs(pixels(data)[1, 1].astype(int) - expected).max() <= 1


def test_cmyk_jpeg_looks_like_its_rgb(photo):
    found = pixels(encode(photo.convert("CMYK"), "jpeg", quality=95)).astype(int)
    assert abs(found - np.asarray(photo)).mean() < 4


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(photo, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = np.rot90(np.asarray(photo), turn)
    np.testing.assert_array_equal(pixels(encode(photo, exif=exif)), expected)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data)[0, 0], (255, 0, 0))


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp", "bmp", "gif"])
def test_a_truncated_file_is_unreadable(photo, file_format):
    data = encode(photo, file_format)
    assert pixels(data).shape == (200, 300, 3)
    with pytest.raises(UnreadableError):
        pixels(data[: len(data) // 2])


def test_reasons_say_what_is_wrong():
    with pytest.raises(UnreadableError, match="the file is empty"):
        read_image(b"", 3)
    with pytest.raises(UnreadableError, match="not an image file that Pillow knows"):
        read_image(b"<html>404</html>", 3)


@pytest.mark.parametrize("side", [5, 9])  # Pillow only warns up to the double of a limit.
def test_a_decompression_bomb_is_unreadable(side):
    data = encode(Image.new("L", (side, side)))
    assert pixels(data).shape == (side, side, 3)
    with pytest.raises(UnreadableError, match=r"more than 2e-05 megapixels, the limit"):
        read_image(data, 3, max_megapixels=2e-5)
    assert read_image(encode(Image.new("L", (5, 4))), 3, max_megapixels=2e-5).size == (5, 4)


def test_a_picture_of_102_megapixels_is_read_and_pillows_limit_is_as_before():
    """As a camera of medium format takes it; Pillow alone warns of it, and of its crops."""
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.new("L", (11648, 8736), 7), compress_level=1)
    image = read_image(data, 1)
    assert image.size == (11648, 8736) and fit(image, 8, 10).getextrema() == (7, 7)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableError, match=r"11648x8736 pixels are more than 100 megapixels"):
        read_image(data, 1, max_megapixels=100)


def broken_exif():
    """What no reader of EXIF understands, in several ways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    good = exif.tobytes()
    return {
        "no EXIF at all": b"Exif\0\0" + b"junk" * 20,
        "empty": b"Exif\0\0",
        "cut": good[:-9],
        "the first offset far away": good[:10] + b"\xff\xff\xff\x7f" + good[14:],
        "an orientation that there is not": good.replace(b"\x06\x00", b"\x63\x00"),
    }


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("kind", broken_exif())
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_exif_that_is_broken_does_not_matter(photo, file_format, kind):
    data = encode(photo, file_format, exif=broken_exif()[kind])
    np.testing.assert_array_equal(pixels(data), pixels(encode(photo, file_format)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_as_pillow_turns_it(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file_format in ("png", "tiff", "webp"):
        data = encode(
            photo, file_format, exif=exif, **{"lossless": True} if file_format == "webp" else {}
        )
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(pixels(data), np.asarray(turned))


def large_texts():
    """Chunks with 3 MB of text each, as editors leave them."""
    text = b"x" * 3_000_000
    packed = zlib.compress(text)
    return [
        chunk(b"tEXt", b"Comment\0" + text),
        chunk(b"zTXt", b"Comment\0\0" + packed),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + packed),
        *[chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)] * 30,
    ]


def test_large_texts_do_not_matter(photo):
    plain = encode(photo)
    for place in (33, len(plain) - 12):  # After the header, and at the end.
        for texts in large_texts(), *([text] for text in large_texts()[:5]):
            data = plain[:place] + b"".join(texts) + plain[place:]
            np.testing.assert_array_equal(pixels(data), np.asarray(photo))
            assert is_plain(data, 3) is None


def test_texts_that_turn_the_picture_still_do(photo):
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    plain = encode(photo)
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    data = plain[:33] + text + large_texts()[1] + plain[33:]
    np.testing.assert_array_equal(pixels(data), np.rot90(np.asarray(photo), -1))


def test_a_large_profile_is_used(photo):
    """As of a printer: 3 MB."""
    profile = icc_profile(GREEN, RED, BLUE)
    large = profile + np.random.default_rng(0).bytes(3_000_000)
    large = struct.pack(">I", len(large)) + large[4:]
    plain = encode(photo)
    body = b"name\0\0" + zlib.compress(large)
    found = pixels(plain[:33] + chunk(b"iCCP", body) + plain[33:])
    np.testing.assert_array_equal(found, pixels(encode(photo, icc_profile=profile)))
    assert (found != np.asarray(photo)).any()


@pytest.mark.parametrize(
    ("file_format", "name"),
    [
        ("avif", "a.avif"), ("jpeg2000", "a.jp2"), ("ico", "a.ico"), ("tga", "a.tga"),
        ("ppm", "a.ppm"), ("jpeg", "a.jpe"), ("mpo", "a.JPG"), ("pcx", "a.pcx"), ("sgi", "a.sgi"),
        ("dib", "a.dib"), ("qoi", "a.qoi"),
    ],
)  # fmt: skip
def test_kinds_of_pictures_that_pillow_reads_are_images(photo, file_format, name):
    assert is_image(name)
    small = photo.crop((0, 0, 64, 64))
    found = pixels(encode(small, file_format)).astype(int)
    assert abs(found - np.asarray(small)).mean() < 6


def test_heic_is_told(photo):
    assert is_image("a.HEIC")
    with pytest.raises(UnreadableError, match="HEIC is not read: convert it"):
        read_image(b"\0\0\0\x18ftypheic" + bytes(100), 3)


def test_a_document_is_no_picture(photo):
    """Pillow would have Ghostscript run what is in it."""
    with pytest.raises(UnreadableError, match="not an image file"):
        read_image(encode(photo, "eps"), 3)


def test_cmyk_is_read_alike_with_adobes_marker_and_without(photo):
    """As browsers do: all programs that write CMYK write it as Adobe's does."""
    data = encode(photo.convert("CMYK"), "jpeg", quality=95)
    at = data.index(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    assert data[at + 4 :].startswith(b"Adobe")
    bare = data[:at] + data[at + 2 + length :]
    np.testing.assert_array_equal(pixels(bare), pixels(data))


def icc_profile(red, green, blue, gamma=2.2, name=b"test\0"):
    """A profile of a display whose channels shine in these colours, XYZ under D50."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)
    for letter, colour in zip(b"rgb", (red, green, blue), strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*colour)
        tags[bytes([letter]) + b"TRC"] = curve
    offset, directory, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        directory += tag + struct.pack(">II", offset + len(body), len(data))
        body += data
    content = struct.pack(">I", len(tags)) + directory + body
    header = struct.pack(
        ">I4xI4s4s4s12x4s", 128 + len(content), 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    return header.ljust(68, b"\0") + fixed(0.9642, 1.0, 0.8249) + bytes(48) + content


# The primaries of sRGB under D50.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_icc_profile_is_converted_to_srgb(mode):
    """In these files the first channel shines green, the second red."""
    stored = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [128, 128, 128]]], np.uint8))
    image = stored.quantize() if mode == "P" else stored.convert(mode)
    data = encode(image, icc_profile=icc_profile(GREEN, RED, BLUE))
    expected = [[[0, 255, 0], [255, 0, 0], [128, 128, 128]]]
    assert abs(pixels(data).astype(int) - expected).max() <= 3


def test_a_profile_is_not_taken_for_srgb_by_a_part_of_its_name():
    grey = Image.new("RGB", (1, 1), (128, 128, 128))
    linear = icc_profile(RED, GREEN, BLUE, gamma=1, name=b"Linear sRGB\0")
    assert (pixels(encode(grey, icc_profile=linear)) > 180).all()


def test_a_profile_of_srgb_or_a_broken_one_changes_nothing(photo):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cmyk_sized_junk = icc_profile(RED, GREEN, BLUE)[:150]
    for profile in (srgb, b"junk", cmyk_sized_junk):
        np.testing.assert_array_equal(pixels(encode(photo, icc_profile=profile)), np.asarray(photo))


def test_a_profile_of_other_channels_than_the_image_changes_nothing(photo):
    grey = photo.convert("L")
    data = encode(grey, icc_profile=icc_profile(GREEN, RED, BLUE))
    np.testing.assert_array_equal(pixels(data, 1), np.asarray(grey))


def test_fit_takes_the_centre_and_scales_with_lanczos(photo):
    wide = photo.crop((50, 0, 250, 200)).resize((64, 64), Image.Resampling.LANCZOS)
    assert fit(photo, 64, 64) == wide
    upright = photo.transpose(Image.Transpose.ROTATE_90)
    tall = upright.crop((0, 50, 200, 250)).resize((64, 64), Image.Resampling.LANCZOS)
    assert fit(upright, 64, 64) == tall
    panorama = photo.crop((0, 25, 300, 175)).resize((128, 64), Image.Resampling.LANCZOS)
    assert fit(photo, 64, 128) == panorama


def test_cover_keeps_the_whole_image(photo):
    assert cover(photo, 100, 100) == photo.resize((150, 100), Image.Resampling.LANCZOS)
    assert cover(photo.crop((0, 0, 200, 1)), 3, 3).size == (600, 3)
    assert cover(photo, 200, 200) is photo and fit(photo, 200, 300) is photo


def chunk(kind, body):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_png():
    """A PNG file of 3 channels of 16 bits, which Pillow reads and does not write."""
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    rows = zlib.compress(4 * (b"\0" + bytes(range(24))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_plain_file_has_nothing_to_convert(photo):
    turned, upright = Image.Exif(), Image.Exif()
    turned[0x0112], upright[0x0112] = 6, 1
    grey = photo.convert("L")
    assert is_plain(encode(photo), 3) == is_plain(encode(grey), 1) == ".png"
    assert is_plain(encode(photo, "jpeg", exif=upright), 3) == ".jpg"
    for data in (
        encode(photo, "webp"),
        encode(photo, exif=turned),
        encode(photo, icc_profile=icc_profile(RED, GREEN, BLUE)),
        encode(photo, transparency=(1, 2, 3)),
        encode(photo.convert("P")),
        encode(photo) + bytes(2**20),  # Whatever that is, it is no image.
        encode(photo, save_all=True, append_images=[photo.rotate(90)]),
        deep_png(),
    ):
        assert is_plain(data, 3) is None
    assert is_plain(encode(grey), 3) is None and is_plain(encode(photo), 1) is None


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("settings", [{}, {"compress_level": 0}, {"optimize": True}])
def test_plain_png_files_are_read_as_pillow_reads_them(photo, mode, channels, settings):
    image = photo.crop((0, 0, 200, 200)).convert(mode)
    plain = read_plain_png(encode(image, **settings), 200, 200, channels)
    assert plain.shape == (200, 200, channels) and plain.dtype == np.uint8
    np.testing.assert_array_equal(plain.squeeze(), np.asarray(image))


def test_other_files_are_not_plain(photo):
    square = photo.crop((0, 0, 100, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encode(square)
    turned_late = plain[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]
    others = {
        "another size": (encode(photo), 100, 3),
        "grey is wanted": (plain, 100, 1),
        "colour is wanted": (encode(square.convert("L")), 100, 3),
        "alpha": (encode(square.convert("RGBA")), 100, 3),
        "a palette": (encode(square.quantize()), 100, 3),
        "a transparent colour": (encode(square, transparency=(1, 2, 3)), 100, 3),
        "a profile": (encode(square, icc_profile=b"?" * 200), 100, 3),
        "turned": (encode(square, exif=exif), 100, 3),
        "turned at its end": (turned_late, 100, 3),
        "animated": (encode(square, save_all=True, append_images=[square.rotate(9)]), 100, 3),
        "JPEG": (encode(square, "jpeg"), 100, 3),
        "cut": (plain[:-12], 100, 3),
        "cut in a chunk": (plain[:40], 100, 3),
        "empty": (b"", 100, 3),
        "damaged pixels": (plain[:300] + bytes([plain[300] ^ 1]) + plain[301:], 100, 3),
    }  # fmt: skip
    assert read_plain_png(plain, 100, 100, 3) is not None
    assert [
        why
        for why, (file, side, channels) in others.items()
        if read_plain_png(file, side, side, channels) is not None
    ] == []


def test_sixteen_bit_and_interlaced_files_are_not_plain(photo):
    plain = encode(photo.crop((0, 0, 8, 8)))
    for at, value in ((24, 16), (28, 1)):  # depth and interlacing
        header = bytearray(plain[16:29])
        header[at - 16] = value
        assert read_plain_png(plain[:8] + chunk(b"IHDR", header) + plain[33:], 8, 8, 3) is None
