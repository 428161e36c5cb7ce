"""PNG files without their large comments, for which Pillow refuses the whole picture."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PILLOWS_LIMIT = 2**20  # bytes of a text or a profile, unpacked
MAX_TEXT_BYTES = 2**16  # as it lies in the file
MAX_PROFILE_BYTES = 2**24
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
TURNING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that may turn the picture


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk of a PNG file, where it begins and ends; none beyond a cut."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + length + 12 > len(data):
            return
        yield kind, at, at + length + 12
        at += length + 12


def without_large_texts(data: bytes) -> tuple[bytes, bytes | None]:
    """The file, and the colour profile where that is too large to be left in it.

    A file that has none, or is of another kind, is returned itself.
    """
    if not data.startswith(SIGNATURE):
        return data, None
    kept, begin, profile = [], 0, None
    turning = list(TURNING)  # Of several, the first counts, however long.
    for kind, start, end in chunks(data):
        body = data[start + 8 : end - 4]
        if kind in TEXTS:
            name = next((name for name in TURNING if body.startswith(name)), None)
            if not _is_large(kind, body) and (name in turning or len(body) <= MAX_TEXT_BYTES):
                turning = [other for other in turning if other != name]
                continue
        elif kind == b"iCCP" and _is_large(kind, body):
            profile = _inflated(_packed(kind, body), MAX_PROFILE_BYTES)
        else:
            continue
        kept.append(data[begin:start])
        begin = end
    return b"".join([*kept, data[begin:]]) if kept else data, profile


def _packed(kind: bytes, body: bytes) -> bytes:
    """What may be packed in a text or a profile: it follows names and how it is packed."""
    after_name = body.partition(b"\0")[2]
    if kind == b"iTXt":  # Two bytes, a language and the name in that.
        return after_name[2:].partition(b"\0")[2].partition(b"\0")[2]
    return after_name[1:]


def _is_large(kind: bytes, body: bytes) -> bool:
    """Whether a chunk unpacks to more than Pillow takes."""
    unpacked = _inflated(_packed(kind, body), PILLOWS_LIMIT + 1)
    return len(unpacked or b"") > PILLOWS_LIMIT


def _inflated(packed: bytes, most: int) -> bytes | None:
    """The unpacked bytes, at most so many; None if they are not packed or damaged."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return None
