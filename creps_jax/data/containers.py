"""Where image files lie: a folder, a zip, a tar, an LMDB or a TFDS data set, as names and bytes.

`read` may be called by many threads at once, and containers pickle to worker processes. Names in
an archive are never used as paths: nothing that is read can point out of its container.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import stat
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, Protocol

from creps_jax.data import tfds_sets
from creps_jax.data.decode import UnreadableError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LABELS_FILE = "dataset.json"
MAX_FILE_BYTES = 2**28  # of one file, unpacked: more is no image but a bomb


class Container(Protocol):
    """What `open_container` returns."""

    def images(self) -> list[str]:
        """The names of all images, in an order that does not depend on the disk."""

    def labels(self) -> dict[str, Any] | None:
        """The class of each name, unchecked, or None; ValueError if they are broken."""

    def classes(self) -> list[str]:
        """The names of the classes 0, 1, ..., if they have any."""

    def ignored(self) -> list[str]:
        """The files that are taken for no images."""

    def read(self, name: str) -> bytes:
        """A file's content; raises OSError or UnreadableError."""

    def version(self, names: list[str]) -> list[Any]:
        """JSON values that change when one of the named files does."""

    def summary(self, name: str) -> int:
        """A number that tells most other contents from this file's, and survives copying."""


def open_container(source: str) -> Container:
    """The container that SCHEME:PATH names.

    Raises:
      ValueError: the scheme is unknown, or nothing of that kind can be opened there.
    """
    scheme, _, rest = source.partition(":")
    if scheme not in SCHEMES or not rest:
        raise ValueError(f"{source!r} is none of {', '.join(f'{s}:PATH' for s in SCHEMES)}")
    container = SCHEMES[scheme](rest)
    if not container.images():
        raise ValueError(
            f"{source} has no images ({' '.join(IMAGE_SUFFIXES)}); check the path (linked folders "
            "are not followed)"
        )
    return container


def guess_scheme(path: str) -> str:
    """'photos' -> 'folder:photos', 'photos.zip' -> 'zip:photos.zip'; SCHEME:PATH is left alone."""
    if path.partition(":")[0] in SCHEMES:
        return path
    at = pathlib.Path(path).expanduser()
    if (at / "data.mdb").exists():
        return f"lmdb:{path}"
    if (at / "dataset_info.json").exists():
        return f"tfds:{path}"
    if at.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")):
        return f"tar:{path}"  # Which says that it must be unpacked.
    suffix = at.suffix.lower().removeprefix(".")
    return f"{suffix}:{path}" if suffix in ("zip", "tar") and not at.is_dir() else f"folder:{path}"


def is_image(name: str) -> bool:
    """Whether a file's name is an image's, and not hidden."""
    hidden = any(
        (part.startswith(".") and part != "..") or part == "__MACOSX" for part in name.split("/")
    )
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)


class _Files:
    """What containers of named files have in common."""

    def names(self) -> list[str]:
        """All files, as paths with '/' relative to the container's root, in no order."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        raise NotImplementedError

    def images(self) -> list[str]:
        return sorted(filter(is_image, self.names()))

    def labels(self) -> dict[str, Any] | None:
        return dict(self._description()["labels"]) or None

    def classes(self) -> list[str]:
        return self._description()["classes"]

    def ignored(self) -> list[str]:
        return sorted(name for name in self.names() if not is_image(name) and name != LABELS_FILE)

    def _description(self) -> dict[str, Any]:
        """The StyleGAN form {"labels": [[name, class], ...]}, to which we add "classes": names."""
        if LABELS_FILE not in self.names():
            return {"labels": {}, "classes": []}
        try:
            content = json.loads(self.read(LABELS_FILE))
            classes = list(map(str, content.get("classes") or []))
            return {"labels": dict(content.get("labels") or []), "classes": classes}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f'{LABELS_FILE} does not have the form {{"labels": [["name.png", 0], ...]}}: '
                f"{error}"
            ) from error


class Folder(_Files):
    """The files under a directory. Links to files inside it are followed, to others refused."""

    def __init__(self, path: str):
        root = pathlib.Path(path).expanduser()
        if not root.exists():
            raise ValueError(f"the folder {root} does not exist")
        if not root.is_dir():
            raise ValueError(f"{root} is a file, not a folder; is it 'zip:{root}' or 'tar:{root}'?")
        self.root = root

    def names(self) -> list[str]:
        return [
            pathlib.Path(directory, file).relative_to(self.root).as_posix()
            for directory, _, files in os.walk(self.root, onerror=_raise)
            for file in files
        ]

    def read(self, name: str) -> bytes:
        _check_name(name)
        path = self.root / name
        if path.is_symlink():
            if not path.exists():
                raise UnreadableError("a link to nothing")
            target = pathlib.Path(os.path.realpath(path))
            if not target.is_relative_to(os.path.realpath(self.root)):
                raise UnreadableError(
                    f"a link to {target}, outside the folder: copy that file, or read its folder"
                )
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        _check_size(status.st_size)
        return path.read_bytes()

    def version(self, names: list[str]) -> list[Any]:
        return [_file_version(self.root / name) for name in names]

    def summary(self, name: str) -> int:
        return (self.root / name).stat().st_size


class _Archive(_Files):
    """A file that holds others, read by position: no lock, and no seek shared by threads."""

    kind: str

    def __init__(self, path: str):
        self.path = pathlib.Path(path).expanduser()
        if not self.path.exists():
            raise ValueError(f"the archive {self.path} does not exist")
        if self.path.is_dir():
            raise ValueError(
                f"{self.path} is a folder, not a {self.kind}; use 'folder:{self.path}'"
            )
        self._members = self._index()
        self._open()

    def _index(self) -> dict[str, Any]:
        """What is in the archive: name -> where and how."""
        raise NotImplementedError

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

    def version(self, names: list[str]) -> list[Any]:
        del names  # They share the archive's time.
        return _file_version(self.path)


class _ZipMember(NamedTuple):
    header_offset: int
    compressed_size: int
    size: int
    deflated: bool
    crc: int


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
        return {
            info.filename: _ZipMember(
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.compress_type == zipfile.ZIP_DEFLATED,
                info.CRC,
            )
            for info in infos
        }

    def read(self, name: str) -> bytes:
        _check_name(name)
        member = self._members[name]
        _check_size(max(member.size, member.compressed_size))
        # Only the local header tells where the data starts: its extra field has its own length.
        header = os.pread(self._descriptor, 30, member.header_offset)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        start = member.header_offset + 30 + name_length + extra_length
        data = os.pread(self._descriptor, member.compressed_size, start)
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
            raise ValueError(
                f"{self.path} is not a tar archive, is compressed (unpack it first, as with "
                f"gunzip), or its end is cut off: {error}"
            ) from error
        return {
            member.name.removeprefix("./"): _TarMember(
                member.offset_data, member.size, member.isreg() and not member.issparse()
            )
            for member in members
        }

    def read(self, name: str) -> bytes:
        _check_name(name)
        member = self._members[name]
        if not member.is_plain:
            raise UnreadableError("a link or a special file in the archive")
        _check_size(member.size)
        data = os.pread(self._descriptor, member.size, member.offset)
        if len(data) != member.size:
            raise UnreadableError("the archive's end is cut off")
        return data

    def summary(self, name: str) -> int:
        return self._members[name].size


class Lmdb:
    """The values of an LMDB of images, such as LSUN's; a name is a key."""

    def __init__(self, path: str):
        self.path = pathlib.Path(path).expanduser()
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
        _check_size(len(data))
        return data

    def version(self, names: list[str]) -> list[Any]:
        del names
        return _file_version(self.path / "data.mdb")

    def summary(self, name: str) -> int:
        del name  # Its value lies somewhere in a file of many GiB.
        return 0


class Tfds:
    """The images of a prepared TFDS data set, undecoded; TensorFlow is not needed.

    The set is NAME or NAME/CONFIG in the folder of TFDS ($TFDS_DATA_DIR), or the path of one. Its
    split 'train' must have a feature 'image', and may have a 'label'.
    """

    def __init__(self, name: str):
        self._split = tfds_sets.open_split(name)

    def images(self) -> list[str]:
        return [f"{index:08d}" for index in range(len(self._split.records))]

    def labels(self) -> dict[str, Any] | None:
        if not self._split.has_labels:
            return None
        records = self._split.records
        try:
            return {name: tfds_sets.label_of(records[int(name)]) for name in self.images()}
        except Exception as error:  # Of array_record's or protobuf's own.
            raise ValueError(f"the labels are damaged: {error}") from error

    def classes(self) -> list[str]:
        return self._split.classes

    def ignored(self) -> list[str]:
        return []

    def read(self, name: str) -> bytes:
        try:
            return tfds_sets.image_of(self._split.records[int(name)])
        except Exception as error:
            raise UnreadableError(f"damaged in the data set: {error}") from error

    def version(self, names: list[str]) -> list[Any]:
        del names
        return self._split.version

    def summary(self, name: str) -> int:
        del name
        return zlib.crc32(json.dumps(self._split.version).encode())


def _raise(error: OSError) -> NoReturn:
    raise error


def _file_version(path: pathlib.Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:  # A dangling link; reading it says so.
        return None
    return [status.st_size, status.st_mtime_ns]


def _check_size(count: int) -> None:
    if count > MAX_FILE_BYTES:
        raise UnreadableError(
            f"{count / 2**20:.0f} MiB are more than the {MAX_FILE_BYTES / 2**20:.0f} of an image"
        )


def _check_name(name: str) -> None:
    """Refuses what would lie outside the folder that an archive is unpacked into."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
        raise UnreadableError("its name leads out of what holds it")


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
            str(path), readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=64
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
    """The key as a name: itself where it is text, else in hexadecimal digits."""
    text = key.decode("ascii", "replace")
    return text if text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else key.hex()


SCHEMES: dict[str, Callable[[str], Container]] = {
    "folder": Folder,
    "zip": Zip,
    "tar": Tar,
    "lmdb": Lmdb,
    "tfds": Tfds,
}
