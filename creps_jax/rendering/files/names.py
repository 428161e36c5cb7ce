"""The files that pictures are written to, by their names; imports nothing that takes long."""

import os
import re
from collections.abc import Sequence
from pathlib import PurePath

from creps_jax import disk

# Formats of one picture; any other name is a folder's.
SUFFIXES = (".png", ".tif", ".tiff", ".zarr", ".dzi")
URL = r"(\w{2,})?:/"  # Also one with a slash too few, but no drive C:/
SCHEMES = ("gs://", "s3://", "file://")


def files_of(path: str | os.PathLike[str], seeds: Sequence[int | None]) -> list[str]:
    """The file of each seed: the path itself where it ends as a picture's, else in that folder.

    Args:
      path: ~ is the home; .zarr also at a URL. A folder has no suffix, or a / at its end, or is
        there already.
      seeds: None for a picture without one, whose file the path must name.

    Raises:
      ValueError: it is no path, the format is not written, or one file is to hold several images.
    """
    if path == "":
        raise ValueError("must not be empty: name a folder or a file")
    is_url = isinstance(path, str) and re.match(URL, path)
    local = None if is_url else disk.utf8_path(path)  # No shell replaces ~ behind a "=".
    is_folder = os.fspath(path).endswith("/") or (local is not None and local.is_dir())
    name = str(path if local is None else local)
    suffix = PurePath(name).suffix.lower()
    if suffix and suffix not in SUFFIXES and not is_folder:
        raise ValueError(
            f"cannot write {name}: name a file that ends in {', '.join(SUFFIXES)}, or a folder, "
            "with a / at its end if it has a suffix"
        )
    if suffix in SUFFIXES:
        if len(seeds) > 1:
            raise ValueError(f"{name} holds one image, got {len(seeds)} seeds: name a folder")
        return [name]
    if is_url:
        raise ValueError(f"{name} must end in .zarr: folders of images are written to a disk")
    if None in seeds:
        raise ValueError(f"{name} must end in one of {', '.join(SUFFIXES)}: it holds one image")
    return [f"{name}/seed{seed:04d}.png" for seed in seeds]
