"""Public files, downloaded once into the user's cache folder."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from creps_jax import devices, disk
from creps_jax.progress import Progress, Silent

CHUNK_BYTES = 2**20
SILENT_SEC = 60.0  # without a byte: the server has gone


def cached(url: str, shown: Progress | None = None) -> Path:
    """The file of a URL, in the cache folder; downloaded if it is not there.

    Args:
      url: ends with NAME-SUM.EXTENSION, where SUM is the first digits of the file's SHA-256, as
        PyTorch's hub has it.
      shown: where to show how far the download is.

    Raises:
      OSError: it cannot be downloaded or kept, or is another file; says what to do.
    """
    name = Path(url).name
    if (folder := devices.cache_folder()) is None:
        raise OSError(
            f"there is no cache folder to keep {name} in; download {url} by hand, and give its path"
        )
    remedy = f"download {url} by hand, as this file"
    if not (file := folder / name).exists():
        try:
            disk.write_whole(file, _download(url, shown or Silent()))
        except (OSError, http.client.HTTPException) as error:
            raise OSError(f"{file} cannot be had: {error}; {remedy}") from error
    return file


def sum_of(url: str) -> str:
    """The first digits of the file's SHA-256, which end its name."""
    return Path(url).stem.rpartition("-")[2]


def _download(url: str, shown: Progress) -> bytes:
    """What is there, if it has the sum that the URL says."""
    data = bytearray()
    with urllib.request.urlopen(url, timeout=SILENT_SEC) as response:
        shown.stage(int(response.headers.get("Content-Length", 0)) / 2**20, "MiB")
        while chunk := response.read(CHUNK_BYTES):
            data += chunk
            shown.advance(len(chunk) / 2**20)
    expected = sum_of(url)
    found = hashlib.sha256(data).hexdigest()[: len(expected)]
    if found != expected:
        raise OSError(f"the SHA-256 of its {len(data):,} bytes begins {found}, not {expected}")
    return bytes(data)
