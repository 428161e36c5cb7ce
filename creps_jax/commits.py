"""Which checkpoints there are: when one is complete, on a disk and in a bucket.

    <directory>/
      1000/ 2000/     complete: the files of a checkpoint, and SHA256SUMS of all of them
      unfinished/     on a disk, what is being written or deleted
      damaged-3000/   on a disk, set aside when its files no longer matched SHA256SUMS

On a disk a checkpoint is written inside unfinished/ and renamed: what is named by a step was
complete once. A bucket renames nothing: there a checkpoint is written in its place, and is one as
long as it has its SHA256SUMS, the last object to be written and the first to be deleted.
"""

import errno
import logging
import re
import shutil
from pathlib import Path

from creps_jax import checksums, disk, places

_log = logging.getLogger(__name__)

_DAMAGED = "DAMAGED"  # What SHA256SUMS is called in a bucket once files no longer match it.


def of(directory: Path) -> "OnDisk | InBucket":
    """The checkpoints of a directory, which is touched by nothing but the methods."""
    return InBucket(directory) if places.is_in_bucket(directory) else OnDisk(directory)


class OnDisk:
    """Checkpoints by renaming."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unfinished = directory / "unfinished"

    def clear(self) -> None:
        """Makes the directory, and deletes what a killed process left unfinished in it."""
        self._unfinished.mkdir(parents=True, exist_ok=True)
        for folder in filter(Path.is_dir, self._unfinished.iterdir()):
            _tell_unfinished(folder)
            self._remove(folder)

    def begin(self, step: int) -> Path:
        """The folder to write a checkpoint's files to."""
        return self._unfinished / str(step)

    def finish(self, folder: Path) -> None:
        """Makes a checkpoint of what was written to a folder of begin()."""
        checksums.write(folder)
        disk.rename(folder, self._directory / folder.name)

    def delete(self, folder: Path) -> None:
        """Deletes a checkpoint."""
        self._remove(folder.rename(self._unfinished / folder.name))

    def set_aside(self, folder: Path) -> str:
        """Makes a damaged checkpoint none, without deleting it; returns what it is called then."""
        aside = folder.with_name(f"damaged-{folder.name}")
        if aside.exists():  # Training has been at this step before and saved it anew since.
            shutil.rmtree(aside)
        folder.rename(aside)
        return aside.name

    def damaged(self) -> list[str]:
        """Names of those that were set aside."""
        return sorted(folder.name for folder in self._directory.glob("damaged-*"))

    def folders(self) -> list[Path]:
        """The folders of the checkpoints, oldest first."""
        return [folder for folder in _named_by_a_step(self._directory) if self.has(folder)]

    def has(self, folder: Path) -> bool:
        """Whether there is, still, a checkpoint in the folder."""
        return folder.is_dir()

    def _remove(self, folder: Path) -> None:
        """Deletes a folder, or what can be: a network disk keeps files that others read."""
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
                raise
            _log.warning("%s is in use and is deleted at the next start.", folder)


class InBucket:
    """Checkpoints by an object that is written last; the methods are those of OnDisk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def clear(self) -> None:
        for folder in _named_by_a_step(self._directory):
            if not self.has(folder) and not (folder / _DAMAGED).exists():
                _tell_unfinished(folder)
                folder.rmtree()

    def begin(self, step: int) -> Path:
        return self._directory / str(step)

    def finish(self, folder: Path) -> None:
        with places.errors(folder):
            checksums.write(folder)

    def delete(self, folder: Path) -> None:
        with places.errors(folder):
            (folder / checksums.NAME).unlink()
            folder.rmtree()

    def set_aside(self, folder: Path) -> str:
        sums = folder / checksums.NAME
        (folder / _DAMAGED).write_bytes(sums.read_bytes())
        sums.unlink()
        return f"{folder.name}/{_DAMAGED}"

    def damaged(self) -> list[str]:
        folders = _named_by_a_step(self._directory)
        return [f"{folder.name}/{_DAMAGED}" for folder in folders if (folder / _DAMAGED).exists()]

    def folders(self) -> list[Path]:
        return [folder for folder in _named_by_a_step(self._directory) if self.has(folder)]

    def has(self, folder: Path) -> bool:
        return (folder / checksums.NAME).exists()


def _named_by_a_step(directory: Path) -> list[Path]:
    """What is named so, in the order of the steps."""
    if places.is_in_bucket(directory) and not directory.is_dir():  # Nothing makes it but a file.
        return []
    named = (path for path in directory.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name))
    return sorted(named, key=lambda path: int(path.name))


def _tell_unfinished(folder: Path) -> None:
    _log.warning("Deleting %s, left unfinished by an earlier process.", folder)
