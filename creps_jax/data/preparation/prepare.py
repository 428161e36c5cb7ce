"""What `creps dataset` does: any images in, a checked training set out.

OUT.partial holds what is done of OUT, in parts of PART images: any of them that is there is whole,
so that the work may be killed at any moment and goes on from these. Last, OUT is made of the parts
under another name and renamed (outputs.py). The result does not depend on the number of processes.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import json
import logging
import multiprocessing
import pathlib
import shutil
import signal
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from creps_jax import disk
from creps_jax.data.containers.descriptions import as_utf_8
from creps_jax.data.containers.reading import patiently, read
from creps_jax.data.containers.schemes import Container
from creps_jax.data.decode import (
    UnreadableError,
    cover,
    encode_png,
    fit,
    is_plain,
    read_image,
)
from creps_jax.data.processes import end_with_parent

PART = 128  # images
FORMAT = 2  # of the parts: another number makes them anew
OUTCOMES = "outcomes.json"
MAX_PX = 2**26  # of a prepared image

_log = logging.getLogger(__name__)


class Options(NamedTuple):
    """How each image is prepared."""

    height: int  # px
    width: int
    crop: bool  # False: keep the whole image, its shorter side as long as the height (a square's)
    channels: int  # 3: RGB, 1: grey
    min_px: int  # images whose shorter side is less are dropped
    max_megapixels: float  # and those of more pixels


class Item(NamedTuple):
    """An image of one of the sources."""

    source: int
    name: str
    label: int | None


class Outcome(NamedTuple):
    """What became of an item."""

    name: str
    label: int | None
    dropped: str  # why; '' if it is kept
    size: tuple[int, int] | None = None  # width and height of the original, px
    suffix: str = ""  # of the file in the part: '.png' or that of the original
    converted: bool = False  # its file is not the original's
    enlarged: bool = False
    digest: str = ""  # of the prepared pixels


class Job(NamedTuple):
    """All of one command's work."""

    sources: Sequence[Container]
    items: list[Item]
    options: Options
    key: str  # of all that decides the result

    @property
    def parts(self) -> int:
        return -(-len(self.items) // PART)

    def part_items(self, part: int) -> list[Item]:
        return self.items[part * PART : (part + 1) * PART]


def make_job(
    sources: Sequence[Container], items: list[Item], classes: list[str], options: Options
) -> Job:
    """The job, with its key; classes are the names of the items' labels."""
    names = [[item.name for item in items if item.source == i] for i in range(len(sources))]
    versions = [patiently(source.version, own) for source, own in zip(sources, names, strict=True)]
    described = json.dumps([FORMAT, options, items, classes, versions])
    return Job(sources, items, options, hashlib.sha256(described.encode()).hexdigest())


def prepare_image(data: bytes, options: Options) -> tuple[bytes, Outcome]:
    """The file of an image as the options want it; the outcome has no name and no label yet.

    A file that is as wanted already is kept byte for byte.

    Raises:
      UnreadableError: it cannot be decoded, or is too small.
    """
    image = read_image(data, options.channels, options.max_megapixels)
    size, shape = image.size, f"{image.width}x{image.height}"
    if min(size) < options.min_px:
        raise UnreadableError(
            f"{shape} px: its shorter side is below {options.min_px} (--min-size)"
        )
    if not options.crop and max(size) / min(size) * options.height**2 > MAX_PX:
        raise UnreadableError(f"{shape} px: too long for a shorter side of {options.height}")
    if options.crop:
        wanted = fit(image, options.height, options.width)
        ratio = max(options.width / size[0], options.height / size[1])
    else:
        wanted = cover(image, options.height, options.height)
        ratio = options.height / min(size)
    digest = hashlib.sha256(repr(wanted.size).encode() + wanted.tobytes()).hexdigest()
    kept_as = is_plain(data, options.channels) if wanted is image else None
    if kept_as is None:
        return encode_png(wanted), Outcome("", None, "", size, ".png", True, ratio > 1, digest)
    return data, Outcome("", None, "", size, kept_as, False, False, digest)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; ValueError if it has another's lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        if not disk.lock(file):
            raise ValueError(f"another process works in {folder}")
        yield


def begin(job: Job, folder: pathlib.Path) -> list[int]:
    """Readies the folder, keeping the parts of this very job; the parts that are missing.

    Raises:
      ValueError: the folder holds other things than parts.
    """
    mark = folder / "job.json"
    if not mark.exists():
        foreign = [p.name for p in folder.iterdir() if not p.name.startswith((".job.json", "lock"))]
        if foreign:
            raise ValueError(f"{folder} is needed, and holds {foreign[0]}: move it elsewhere")
    if not mark.exists() or mark.read_text() != job.key:
        if mark.exists():
            _log.warning("%s holds parts of other images or options: begins anew.", folder)
        for path in folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        disk.write_whole(mark, job.key.encode())
    return [part for part in range(job.parts) if not part_path(folder, part).exists()]


def prepare_parts(
    job: Job, folder: pathlib.Path, parts: list[int], processes: int, done: Callable[[int], None]
) -> None:
    """Makes these parts, in so many processes; calls done(images) after each.

    Raises:
      OSError: the disk is full or a process died; what is made by then stays.
    """
    # A spawned process shares no lock and no thread with this one.
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processes, max(len(parts), 1)),
        multiprocessing.get_context("spawn"),
        _start_worker,
        (job.sources, job.options),
    )
    try:
        futures = [
            pool.submit(_prepare_part, job.part_items(part), part_path(folder, part))
            for part in parts
        ]
        for future in concurrent.futures.as_completed(futures):
            done(future.result())
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError(
            "a worker process died, perhaps of too little memory; the same command continues, with "
            "fewer --processes in less memory"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def part_path(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"{part:06d}.zip"


def read_outcomes(job: Job, folder: pathlib.Path) -> list[Outcome]:
    """What became of every item, in order."""
    found = []
    for part in range(job.parts):
        with _removed_if_damaged(part_path(folder, part)) as path, zipfile.ZipFile(path) as archive:
            found += [Outcome(*fields) for fields in json.loads(archive.read(OUTCOMES))]
    return found


def read_files(job: Job, folder: pathlib.Path, indices: Iterable[int]) -> Iterator[bytes]:
    """The prepared files of items that are kept; their indices must ascend."""
    for part, of_part in itertools.groupby(indices, lambda index: index // PART):
        with _removed_if_damaged(part_path(folder, part)) as path:
            archive = zipfile.ZipFile(path)
        with archive:
            for index in of_part:
                with _removed_if_damaged(path):
                    file = archive.read(str(index - part * PART))
                yield file


@contextlib.contextmanager
def _removed_if_damaged(part: pathlib.Path) -> Iterator[pathlib.Path]:
    """Around reading a part; OSError, which says what to do, if it is damaged."""
    try:
        yield part
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, zlib.error) as error:
        part.unlink()
        raise OSError(
            f"{part} was damaged ({error}) and is removed: the same command makes it anew"
        ) from error


_worker: tuple[Sequence[Container], Options]  # of a worker process


def _start_worker(sources: Sequence[Container], options: Options) -> None:
    global _worker
    _worker = (sources, options)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends the work.
    warnings.simplefilter("ignore")  # Pillow's, of files whose outcome is reported.
    end_with_parent()


def _prepare_part(items: list[Item], path: pathlib.Path) -> int:
    sources, options = _worker
    buffer, outcomes = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, item in enumerate(items):
            try:
                data = read(sources[item.source], item.name)
                file, outcome = prepare_image(data, options)
                archive.writestr(zipfile.ZipInfo(str(index)), file)
            except UnreadableError as error:
                outcome = Outcome("", None, str(error))
            except (OSError, MemoryError) as error:  # Not the image's fault, so it is not dropped.
                raise type(error)(
                    f"{item.name!r} cannot be read: {str(error) or type(error).__name__}; mend "
                    "that, and the same command continues"
                ) from error
            outcomes.append(outcome._replace(name=as_utf_8(item.name), label=item.label))
        archive.writestr(zipfile.ZipInfo(OUTCOMES), json.dumps(outcomes))
    disk.write_whole(path, buffer.getvalue())
    return len(items)
