"""Image files in a folder, and what holds for files wherever they lie.

Names in archives are never used as paths, and links are followed inside their folder only: nothing
that is read can point out of its container.
"""

import abc
import json
import os
import pathlib
import re
import stat
from typing import Any, NoReturn

from creps_jax.data.decode import UnreadableError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LABELS_FILE = "dataset.json"
MAX_FILE_BYTES = 2**28  # of one file, unpacked: more is no image but a bomb


def is_image(name: str) -> bool:
    """Whether a file's name is an image's, and not hidden."""
    hidden = any(
        (part.startswith(".") and part != "..") or part == "__MACOSX" for part in name.split("/")
    )
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)


def file_version(path: pathlib.Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:  # A dangling link; reading it says so.
        return None
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


class Folder(Files):
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
