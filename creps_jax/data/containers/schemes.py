"""SCHEME:PATH to where images lie, by name and bytes: a folder, a zip, a tar, an LMDB, a TFDS set.

`read` may be called by many threads at once, and containers pickle to worker processes.
"""

from collections.abc import Callable
from typing import Any, Protocol

from creps_jax import disk
from creps_jax.data.containers.archives import Tar, Zip
from creps_jax.data.containers.databases import Lmdb
from creps_jax.data.containers.files import IMAGE_SUFFIXES, Folder
from creps_jax.data.containers.tfds_sets import Tfds


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
    at = disk.local_path(path)
    if (at / "data.mdb").exists():
        return f"lmdb:{path}"
    if (at / "dataset_info.json").exists():
        return f"tfds:{path}"
    if at.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")):
        return f"tar:{path}"  # Which says that it must be unpacked.
    suffix = at.suffix.lower().removeprefix(".")
    return f"{suffix}:{path}" if suffix in ("zip", "tar") and not at.is_dir() else f"folder:{path}"


SCHEMES: dict[str, Callable[[str], Container]] = {
    "folder": Folder,
    "zip": Zip,
    "tar": Tar,
    "lmdb": Lmdb,
    "tfds": Tfds,
}
