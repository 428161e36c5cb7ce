"""Images in an LMDB, where they have no files of their own."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from creps_jax import disk
from creps_jax.data.containers.files import check_size, file_version
from creps_jax.data.decode import UnreadableError


class Lmdb:
    """The values of an LMDB of images, such as LSUN's; a name is a key."""

    def __init__(self, path: str):
        self.path = disk.local_path(path)
        if not (self.path / "data.mdb").exists():
            raise ValueError(f"{self.path} is no LMDB: it must be a folder with a data.mdb")
        with _transaction(self.path) as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        self._keys = {_printable(key): key for key in keys}

    def images(self) -> list[str]:
        return list(self._keys)

    def labels(self) -> None:
        return None

    def classes(self) -> list[str]:
        return []

    def ignored(self) -> list[str]:
        return []

    def read(self, name: str) -> bytes:
        with _transaction(self.path) as transaction:
            data = transaction.get(self._keys[name])
        if data is None:
            raise UnreadableError("no longer in the LMDB")
        check_size(len(data))
        return data

    def version(self, names: list[str]) -> list[Any]:
        del names
        return file_version(self.path / "data.mdb")

    def summary(self, name: str) -> int:
        del name  # Its value lies somewhere in a file of many GiB.
        return 0


@contextlib.contextmanager
def _transaction(path: pathlib.Path) -> Iterator[Any]:
    """Reads of an LMDB; whatever is wrong with it is an UnreadableError, a ValueError."""
    environment = _environment(path)
    import lmdb

    try:
        with environment.begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise UnreadableError(f"damaged in the LMDB {path}: {error}") from error


@functools.cache
def _environment(path: pathlib.Path) -> Any:
    """The opened LMDB, once in a process: a second opening is an error of LMDB's.

    Raises:
      ValueError: lmdb is not installed, or the database is damaged.
    """
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs the package lmdb: pip install 'creps-jax[train]'"
        ) from error
    try:
        environment = lmdb.open(
            os.fsencode(path),
            readonly=True,
            lock=False,
            readahead=False,
            meminit=False,
            max_spare_txns=64,
        )
    except lmdb.Error as error:
        raise ValueError(f"{path} is no LMDB, or damaged: {error}") from error
    # Reading beyond the end of a mapped file would kill the process.
    pages = environment.info()["last_pgno"] + 1
    promised, has = pages * environment.stat()["psize"], (path / "data.mdb").stat().st_size
    if has < promised:
        raise ValueError(f"{path} is cut off: {has} of {promised} bytes; download it again")
    return environment


def _printable(key: bytes) -> str:
    """The key as a name: itself where it is text, else 0x and its hexadecimal digits."""
    text = key.decode("ascii", "replace")
    is_text = text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text
    # A text that looks like the digits of another key is written in digits itself.
    return text if is_text and not text.startswith("0x") else f"0x{key.hex()}"
