"""SHA256SUMS of a folder: the sums of all its files, as `sha256sum --check` reads them."""

import hashlib
from pathlib import Path

from creps_jax import disk, places

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """Sums the files in the folder, but hidden ones: the number of them first, then a line each.

    Raises:
      OSError: the disk fails.
    """
    # Desktops and network disks strew hidden files.
    files = [f for f in places.files(folder) if not f.name.startswith((".", NAME))]
    lines = [f"{_sum(file)}  {file.relative_to(folder).as_posix()}" for file in files]
    text = "".join(f"{line}\n" for line in (f"# {len(files)} files", *lines))
    places.write_whole(folder / NAME, text.encode())


def damaged_files(folder: Path, skip: tuple[str, ...] = ()) -> list[str]:
    """The summed files that are missing or unlike their sum; files without one are somebody else's.

    Args:
      folder: what `write` was given, or what it has been renamed to.
      skip: beginnings of paths in the folder that are not looked at.

    Raises:
      OSError: the disk fails.
    """
    try:
        text = (folder / NAME).read_bytes().decode(errors="replace")  # Damaged, it may be no text.
    except FileNotFoundError:
        return [NAME]
    first, _, rest = text.partition("\n")
    *lines, rest = rest.split("\n")
    if rest or not lines or first != f"# {len(lines)} files":
        return [NAME]
    pairs = [line.partition("  ")[::2] for line in lines]
    looked_at = [(expected, path) for expected, path in pairs if not path.startswith(skip)]
    return sorted({path or NAME for expected, path in looked_at if not _is(folder, path, expected)})


def _is(folder: Path, path: str, expected: str) -> bool:
    try:
        return bool(path) and _sum(folder / path) == expected
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False


def _sum(file: Path) -> str:
    with disk.naming(file), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
