"""Where image files lie: a folder or a zip archive, both as names and bytes.

`read` may be called by many threads at once, and containers pickle to worker processes.
"""

import os
import pathlib
import weakref
import zipfile
import zlib
from typing import Any, NamedTuple, NoReturn, Protocol

from creps_jax.data.decode import UnreadableError


class Container(Protocol):
    def names(self) -> list[str]:
        """All files, as paths with '/' relative to the container's root, in no order."""

    def read(self, name: str) -> bytes:
        """A file's content; raises OSError or UnreadableError."""

    def version(self, names: list[str]) -> list[Any]:
        """JSON values that change when one of the named files does."""

    def summary(self, name: str) -> int:
        """A number that tells most other contents from this file's, and survives copying."""


def _raise(error: OSError) -> NoReturn:
    raise error


class Folder:
    """The files under a directory."""

    def __init__(self, root: pathlib.Path):
        if not root.exists():
            raise ValueError(f"data.source: the folder {root} does not exist")
        if not root.is_dir():
            raise ValueError(f"data.source: {root} is a file, not a folder; is it 'zip:{root}'?")
        self.root = root

    def names(self) -> list[str]:
        return [
            pathlib.Path(directory, file).relative_to(self.root).as_posix()
            for directory, _, files in os.walk(self.root, onerror=_raise)
            for file in files
        ]

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def version(self, names: list[str]) -> list[Any]:
        return [self._file_version(name) for name in names]

    def summary(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def _file_version(self, name: str) -> list[int] | None:
        try:
            stat = (self.root / name).stat()
        except OSError:  # A dangling link; reading it says so.
            return None
        return [stat.st_size, stat.st_mtime_ns]


class _Member(NamedTuple):
    header_offset: int
    compressed_size: int
    deflated: bool
    crc: int


class Zip:
    """The members of a zip archive, read by position: no lock, and no seek shared by threads."""

    def __init__(self, path: pathlib.Path):
        if not path.exists():
            raise ValueError(f"data.source: the archive {path} does not exist")
        if path.is_dir():
            raise ValueError(f"data.source: {path} is a folder, not a zip; use 'folder:{path}'")
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"data.source: {path} is not a zip archive, or its end is cut off: {error}"
            ) from error
        for info in infos:
            if info.flag_bits & 1:
                raise ValueError(
                    f"data.source: {info.filename} in {path} is encrypted; unpack the archive and "
                    "use 'folder:PATH'"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"data.source: {info.filename} in {path} has compression method "
                    f"{info.compress_type}, only 0 (stored) and 8 (deflated) are read; pack the "
                    "files again, best with `zip -0 -r`"
                )
        self.path = path
        self._members = {
            info.filename: _Member(
                info.header_offset,
                info.compress_size,
                info.compress_type == zipfile.ZIP_DEFLATED,
                info.CRC,
            )
            for info in infos
        }
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_members": self._members}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        member = self._members[name]
        # Only the local header tells where the data starts: its extra field has its own length.
        header = os.pread(self._descriptor, 30, member.header_offset)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        start = member.header_offset + 30 + name_length + extra_length
        data = os.pread(self._descriptor, member.compressed_size, start)
        try:
            data = zlib.decompress(data, wbits=-zlib.MAX_WBITS) if member.deflated else data
        except zlib.error as error:
            raise UnreadableError(f"damaged in the archive: {error}") from error
        if zlib.crc32(data) != member.crc:
            raise UnreadableError("damaged in the archive: its checksum is wrong")
        return data

    def version(self, names: list[str]) -> list[Any]:
        del names  # They share the archive's time.
        stat = self.path.stat()
        return [stat.st_size, stat.st_mtime_ns]

    def summary(self, name: str) -> int:
        return self._members[name].crc
