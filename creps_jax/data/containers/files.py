"""Image files in a folder, and what holds for files wherever they lie.

Names in archives are never used as paths, and links are followed inside their folder only: nothing
that is read can point out of its container.
"""

import abc
import collections
import errno
import functools
import logging
import os
import pathlib
import re
import stat
from collections.abc import Iterable
from typing import Any, NoReturn

from creps_jax import disk
from creps_jax.data.containers.descriptions import LABELS_FILE, Matched, match, parse
from creps_jax.data.containers.reading import patiently, read
from creps_jax.data.decode import UnreadableError

# HEIC is not read, but an image that is left out must be told.
IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2",
    ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pgm", ".png", ".pnm",
    ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
MAX_FILE_BYTES = 3 * 2**28  # of one file, unpacked: more is no image but a bomb

_log = logging.getLogger(__name__)


def is_image(name: str) -> bool:
    """Whether a file's name is an image's, and not hidden."""
    return not is_hidden(name) and name.lower().endswith(IMAGE_SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether a file is none of a set's: hidden, or what a Mac packs beside it."""
    parts = name.split("/")
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)


def is_labels(name: str) -> bool:
    """Whether a file lists labels."""
    return not is_hidden(name) and name.rpartition("/")[2] == LABELS_FILE


def kinds(names: Iterable[str]) -> dict[str, int]:
    """How many files have each suffix, 'hidden' or 'no suffix', the most frequent first."""

    def kind(name: str) -> str:
        path = pathlib.PurePosixPath(name)
        return "hidden" if is_hidden(name) else path.suffix.lower() or "no suffix"

    return dict(collections.Counter(map(kind, names)).most_common())


def file_version(path: pathlib.Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return None  # A link to nothing; reading it says so.
    return [status.st_size, status.st_mtime_ns]


def check_size(count: int) -> None:
    if count > MAX_FILE_BYTES:
        raise UnreadableError(
            f"{count / 2**20:.0f} MiB are more than the {MAX_FILE_BYTES / 2**20:.0f} of an image"
        )


def check_name(name: str) -> None:
    """Refuses what would lie outside the folder that an archive is unpacked into."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
        raise UnreadableError("its name leads out of what holds it")


class Files(abc.ABC):
    """What containers of named files have in common."""

    @abc.abstractmethod
    def names(self) -> list[str]:
        """All files, as paths with '/' relative to the container's root, in no order."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content; raises OSError or UnreadableError."""

    def images(self) -> list[str]:
        return sorted(filter(is_image, self.names()))

    def labels(self) -> dict[str, Any] | None:
        matched, _ = self._description()
        if matched.unknown:
            _log.warning(
                "The labels are also of %d files that are no images here, such as %s.",
                len(matched.unknown),
                matched.unknown[0],
            )
        return matched.labels or None

    def classes(self) -> list[str]:
        return self._description()[1]

    def ignored(self) -> list[str]:
        return sorted(name for name in self.names() if not is_image(name) and not is_labels(name))

    def _description(self) -> tuple[Matched, list[str]]:
        """The label of each image, and the classes' names, from the dataset.json of all images.

        It lies at the root, or in a folder that holds all of them.
        """
        names = self.names()
        images = sorted(filter(is_image, names))
        files = sorted(filter(is_labels, names), key=lambda name: (name.count("/"), name))
        for file in files:
            folder = file.rpartition("/")[0]
            if not folder or all(image.startswith(f"{folder}/") for image in images):
                labels, classes = parse(read(self, file), file)
                try:
                    return match(labels, images, folder), classes
                except ValueError as error:
                    raise ValueError(f"{file}: {error}") from error
        for file in files:
            if self._has_labels(file):
                raise ValueError(
                    f"{file} has labels, but only of images in its own folder, and others lie "
                    f"outside: open that folder alone, or put one {LABELS_FILE} above all images"
                )
        return Matched({}, []), []

    def _has_labels(self, file: str) -> bool:
        try:
            return bool(parse(read(self, file), file).labels)
        except ValueError:  # Somebody else's.
            return False


class Folder(Files):
    """The files under a directory. Links to files inside it are followed, to others refused."""

    def __init__(self, path: str):
        root = disk.local_path(path)
        if not root.exists():
            raise ValueError(f"the folder {root} does not exist")
        if not root.is_dir():
            raise ValueError(f"{root} is a file, not a folder; is it 'zip:{root}' or 'tar:{root}'?")
        self.root = root

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def names(self) -> list[str]:
        return self._names

    @functools.cached_property
    def _names(self) -> list[str]:
        return patiently(self._walk)

    def _walk(self) -> list[str]:
        return [
            pathlib.Path(directory, file).relative_to(self.root).as_posix()
            for directory, _, files in os.walk(self.root, onerror=_raise)
            for file in files
        ]

    def read(self, name: str) -> bytes:
        check_name(name)
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
        check_size(status.st_size)
        return path.read_bytes()

    def version(self, names: list[str]) -> list[Any]:
        return [file_version(self.root / name) for name in names]

    def summary(self, name: str) -> int:
        return (self.root / name).stat().st_size


def _raise(error: OSError) -> NoReturn:
    raise error
