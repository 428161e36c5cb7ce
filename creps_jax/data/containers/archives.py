"""Image files in zip and tar archives: see files.py."""

import abc
import os
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from creps_jax import disk
from creps_jax.data.containers.descriptions import canonical
from creps_jax.data.containers.files import (
    Files,
    check_name,
    check_size,
    file_version,
    is_image,
    is_labels,
)
from creps_jax.data.containers.reading import TRANSIENT, patiently, pread
from creps_jax.data.decode import UnreadableError


class _Archive(Files):
    """A file that holds others, read by position: no lock, and no seek shared by threads."""

    kind: str

    def __init__(self, path: str):
        self.path = disk.local_path(path)
        if not self.path.exists():
            raise ValueError(f"the archive {self.path} does not exist")
        if self.path.is_dir():
            raise ValueError(
                f"{self.path} is a folder, not a {self.kind}; use 'folder:{self.path}'"
            )
        self._members = patiently(self._index)
        self._open()

    @abc.abstractmethod
    def _index(self) -> dict[str, Any]:
        """What is in the archive: name -> where and how."""

    def _by_name(self, members: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """The members by their names, in one spelling.

        Raises:
          ValueError: an image, or the labels, are stored twice.
        """
        found: dict[str, Any] = {}
        for stored, member in members:
            name = canonical(stored)
            if name in found and (is_image(name) or is_labels(name)):
                raise ValueError(
                    f"{name} is stored twice in {self.path}: pack the files anew, or unpack the "
                    "archive and use 'folder:PATH'"
                )
            found[name] = member
        return found

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
        check_name(name)
        with disk.naming(self.path / name):
            return self._read(self._members[name])

    @abc.abstractmethod
    def _read(self, member: Any) -> bytes:
        """The content of a member."""

    def version(self, names: list[str]) -> list[Any]:
        del names  # They share the archive's time.
        return file_version(self.path)


class _ZipMember(NamedTuple):
    header_offset: int
    compressed_size: int
    size: int
    deflated: bool
    crc: int


def _file_name(info: zipfile.ZipInfo) -> str:
    """The name of a member: many tools write UTF-8 without saying so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


class Zip(_Archive):
    """The members of a zip archive."""

    kind = "zip"

    def _index(self) -> dict[str, _ZipMember]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise ValueError(
                f"{self.path} is not a zip archive, or its end is cut off: {error}"
            ) from error
        for info in infos:
            if info.flag_bits & 1:
                raise ValueError(
                    f"{info.filename} in {self.path} is encrypted; unpack the archive and use "
                    "'folder:PATH'"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{info.filename} in {self.path} has compression method "
                    f"{info.compress_type}, only 0 (stored) and 8 (deflated) are read; pack the "
                    "files again, best with `zip -0 -r`"
                )
        return self._by_name(
            (
                _file_name(info),
                _ZipMember(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.compress_type == zipfile.ZIP_DEFLATED,
                    info.CRC,
                ),
            )
            for info in infos
            if not info.filename.endswith(("/", "\\"))
        )

    def _read(self, member: _ZipMember) -> bytes:
        check_size(max(member.size, member.compressed_size))
        # Only the local header tells where the data starts: its extra field has its own length.
        header = pread(self._descriptor, 30, member.header_offset)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        start = member.header_offset + 30 + name_length + extra_length
        data = pread(self._descriptor, member.compressed_size, start)
        if member.deflated:
            # No more than the size that is promised, whatever unpacks to more; 0 would be no limit.
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = inflate.decompress(data, member.size + 1)
            except zlib.error as error:
                raise UnreadableError(f"damaged in the archive: {error}") from error
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise UnreadableError("damaged in the archive: its checksum is wrong")
        return data

    def summary(self, name: str) -> int:
        return self._members[name].crc


class _TarMember(NamedTuple):
    offset: int
    size: int
    is_plain: bool


class Tar(_Archive):
    """The members of a tar archive that is not compressed."""

    kind = "tar"

    def _index(self) -> dict[str, _TarMember]:
        try:
            with tarfile.open(self.path, "r:") as archive:
                members = [member for member in archive if not member.isdir()]
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in TRANSIENT:
                raise
            raise ValueError(
                f"{self.path} is not a tar archive, is compressed (unpack it first, as with "
                f"gunzip), or its end is cut off: {error}"
            ) from error
        return self._by_name(
            (
                member.name,
                _TarMember(
                    member.offset_data, member.size, member.isreg() and not member.issparse()
                ),
            )
            for member in members
        )

    def _read(self, member: _TarMember) -> bytes:
        if not member.is_plain:
            raise UnreadableError("a link or a special file in the archive")
        check_size(member.size)
        data = pread(self._descriptor, member.size, member.offset)
        if len(data) != member.size:
            raise UnreadableError("the archive's end is cut off")
        return data

    def summary(self, name: str) -> int:
        return self._members[name].size
