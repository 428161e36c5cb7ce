"""What is painted of a picture so far: a Zarr v3 array of uint8 [height, width, channels].

    c/0/0/0  c/0/1/0 ...   chunks of CHUNK x CHUNK px, or of a thin picture's whole height or width:
                           one that is there is painted, whole
    partial.json           what will be zarr.json, so that nothing can be opened before it is whole

TensorStore writes each chunk under another name, syncs it and renames it. So the chunks are their
own journal: what painted them may be killed at any moment and goes on from those that are there.
"""

import contextlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from creps_jax.rendering.windows import Blocks, Window

CHUNK = 512  # px
MARK = "creps_jax:"

_log = logging.getLogger(__name__)

_UNFINISHED, _FINISHED = "partial.json", "zarr.json"


class Picture(NamedTuple):
    """What is written."""

    window: Window  # of the frame, px: the file holds these pixels.
    channels: int  # 1 or 3.
    key: str  # Hex digest of weights and arguments: what makes the pixels what they are.


def signature(key: str) -> str:
    """What a finished file bears near its start: MARK and the key."""
    return f"{MARK}{key};"


class Store:
    """The chunks of one picture. All errors of the disk or the network are OSErrors."""

    def __init__(self, place: str | dict[str, Any], picture: Picture, is_output: bool) -> None:
        """Touches nothing yet.

        Args:
          place: a folder, as the specification or the URL of a TensorStore key-value store.
          is_output: the array is the window and compressed. If not, it starts at the multiples of
            CHUNK px of the frame before the window, as the painter's tiles do.
        """
        self.window, self.channels, self.key = picture
        self.on_read: Callable[[int], None] = lambda pixels: None

        # Where the grid of chunks and the array start in the frame, and how large the array is.
        y0, x0, y1, x1 = picture.window
        self._start = (y0, x0) if is_output else (0, 0)  # of the grid of chunks, px
        self._origin = (y0, x0) if is_output else (y0 - y0 % CHUNK, x0 - x0 % CHUNK)
        ends = zip(self._origin, (y1, x1), strict=True)
        shape = [end - first for first, end in ends]
        self._grid = tuple(-(-n // CHUNK) for n in shape)
        self._chunk = [*(min(n, CHUNK) for n in shape), picture.channels]

        metadata = _metadata(picture, shape, self._chunk, is_output)
        self._document = json.dumps(metadata, indent=2).encode()

        # Opened without a look at the disk: it is as the metadata say, or empty.
        spec = {
            "driver": "zarr3",
            "kvstore": place,
            "metadata": metadata,
            "assume_metadata": True,
            "store_data_equal_to_fill_value": True,  # Black is painted too.
            "fill_missing_data_reads": False,
        }
        with _os_errors():
            self._files = ts.KvStore.open(place).result()
            # Indexed by the frame's pixels.
            self._array = ts.open(spec).result()[ts.d["y", "x"].translate_by[self._origin]]

    def begin(self) -> None:
        """Keeps the chunks of this very picture, and deletes everything else."""
        if self.is_begun():
            return
        with _os_errors():
            # Whatever else is there was painted with other arguments.
            documents = [self._files.read(name).result().value for name in (_UNFINISHED, _FINISHED)]
            if any(documents) or any(self._painted(row).any() for row in range(self._grid[0])):
                _log.warning(
                    "%s holds a picture of other arguments, or its %s is damaged: "
                    "deleting it, everything is painted anew.",
                    self._files.url,
                    _UNFINISHED,
                )
                self._files.write(_FINISHED, None).result()  # First: not to be opened any more.
            self._files.delete_range(ts.KvStore.KeyRange()).result()
            self._files.write(_UNFINISHED, self._document).result()

    def is_begun(self) -> bool:
        """Whether the chunks that may be there are of this very picture."""
        with _os_errors():
            documents = [self._files.read(name).result().value for name in (_UNFINISHED, _FINISHED)]
        return self._document in documents

    def is_foreign(self) -> bool:
        """Whether something lies there that no picture of ours was written to."""
        with _os_errors():
            documents = [self._files.read(name).result().value for name in (_UNFINISHED, _FINISHED)]
            if any(MARK.encode() in document for document in documents):
                return False
            return bool(self._files.list().result())

    def blocks(self, side: tuple[int, int]) -> Blocks:
        """The window cut along a grid whose sides are multiples of CHUNK px."""
        return Blocks(self.window, side, self._start)

    def missing(self, blocks: Blocks) -> Blocks:
        """Those of some blocks() that lack any chunk; a row is looked at when it is asked for."""
        # The edges of rows and columns of blocks, counted in chunks.
        edges_y, edges_x = (
            [(edge - first) // CHUNK for edge in edges[:-1]] + [chunks]
            for edges, first, chunks in zip(
                (blocks.y, blocks.x), self._origin, self._grid, strict=True
            )
        )

        def lacking(row: int) -> np.ndarray:
            # A column of chunks is there if it is in all the block's rows; a block if all are.
            chunks = range(edges_y[row], edges_y[row + 1])
            painted = np.all([self._painted(chunk) for chunk in chunks], axis=0)
            return ~np.logical_and.reduceat(painted, edges_x[:-1])

        return blocks.where(lacking)

    def missing_bytes(self, free: int) -> int:
        """Bytes that the missing chunks take, uncompressed; counted until they are seen to fit."""
        (down, across), chunk = self._grid, math.prod(self._chunk)
        needed = down * across * chunk
        for row in range(down):
            if needed <= free:
                break
            needed -= int(self._painted(row).sum()) * chunk
        return needed

    def drop_damaged(self, block: Window) -> bool:
        """Deletes the chunks of a block that cannot be read, and says so; whether there were any.

        Not of what lies in a bucket: that is whole.
        """
        dropped = False
        if not self._files.url.startswith("file:"):
            return dropped
        for chunk in Blocks(block, (CHUNK, CHUNK), self._start):
            try:
                with _os_errors():
                    self._at(chunk).read().result()
            except OSError:
                y, x = ((n - at) // CHUNK for n, at in zip(chunk[:2], self._origin, strict=True))
                name, dropped = f"c/{y}/{x}/0", True
                _log.warning("%s%s is damaged: painting it again.", self._files.url, name)
                with _os_errors():
                    self._files.write(name, None).result()
        return dropped

    def write(self, window: Window, pixels: np.ndarray) -> None:
        """Writes a block of missing(), uint8 [height, width, channels]: durable on return.

        Raises:
          ValueError: the pixels have another shape or type.
        """
        check_pixels(window, pixels, self.channels)
        with _os_errors():
            self._at(window).write(pixels).result()

    def read(self, window: Window) -> np.ndarray:
        """Pixels of finished chunks: uint8 [height, width, channels]."""
        pixels = np.empty((*window.shape, self.channels), np.uint8)
        # One by one: TensorStore would hold all of them at once.
        for chunk in Blocks(window, (CHUNK, CHUNK), self._start):
            y, x = chunk.y0 - window.y0, chunk.x0 - window.x0
            with _os_errors():
                part = self._at(chunk).read().result()
            pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
            self.on_read(part.shape[0] * part.shape[1])
        return pixels

    def publish(self) -> None:
        """Makes it an array that can be opened."""
        with _os_errors():
            self._files.write(_FINISHED, self._document).result()
            self._files.write(_UNFINISHED, None).result()

    def holds_another(self) -> bool:
        """Whether another picture has been begun there, and not finished."""
        with _os_errors():
            return self._files.read(_UNFINISHED).result().value not in (b"", self._document)

    def _at(self, window: Window) -> ts.TensorStore:
        return self._array[window.y0 : window.y1, window.x0 : window.x1]

    def _painted(self, row: int) -> np.ndarray:
        """Which chunks of a row are there: bool [columns]."""
        painted = np.zeros(self._grid[1], bool)
        with _os_errors():
            # From c/3/ up to c/30, which follows c/3/9...: the slash is the character before 0.
            names = self._files.list(ts.KvStore.KeyRange(f"c/{row}/", f"c/{row}0")).result()
        columns = [int(m[1]) for name in names if (m := re.fullmatch(rb"c/\d+/(\d+)/0", name))]
        painted[[column for column in columns if column < len(painted)]] = True
        return painted


def _metadata(
    picture: Picture, shape: Sequence[int], chunk: Sequence[int], is_output: bool
) -> dict[str, Any]:
    """The array [*shape, channels] as its zarr.json describes it."""
    zstd = [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "attributes": {"key": signature(picture.key), "window": picture.window},
        "shape": [*shape, picture.channels],
        "dimension_names": ["y", "x", "c"],
        "data_type": "uint8",
        "fill_value": 0,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": chunk},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        # The checksum tells damaged chunks.
        "codecs": [{"name": "bytes"}, *(zstd if is_output else []), {"name": "crc32c"}],
    }


def check_pixels(window: Window, pixels: np.ndarray, channels: int) -> None:
    """Raises ValueError unless the pixels are uint8 [height, width, channels] of the window."""
    if pixels.shape != (*window.shape, channels) or pixels.dtype != np.uint8:
        raise ValueError(
            f"painted {pixels.dtype} {pixels.shape} for {window}, "
            f"must be uint8 {(*window.shape, channels)}"
        )


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Raises TensorStore's errors, which are ValueErrors, as OSErrors of one line."""
    try:
        yield
    except ValueError as error:
        text = re.split(r" \[\w+=|\n", str(error))[0]
        code = re.search(r"os_error_code='(\d+)'", str(error))
        raise (OSError(int(code[1]), text) if code else OSError(text)) from error


def read_document(url: str) -> bytes:
    """The zarr.json of the array at a URL; empty if there is none.

    Unlike what comes later, gives up within ten seconds where there is no network.
    """
    tried = {"max_retries": 4, "initial_delay": "500ms"}  # For 8 s.
    retries = {f"{scheme}_request_retries": tried for scheme in ("gcs", "s3")}
    with _os_errors():
        files = ts.KvStore.open(f"{url}/", context=ts.Context(retries)).result()
        return files.read(_FINISHED).result().value
