"""Training sets of any images: `creps dataset` after its options are parsed."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from creps_jax import disk, machine
from creps_jax.arguments import about
from creps_jax.data.containers import schemes, tfds_sets
from creps_jax.data.preparation import outputs, prepare
from creps_jax.data.preparation.labels import label_items
from creps_jax.data.preparation.prepare import Job
from creps_jax.progress import Progress, Silent

DROPPED_SHOWN = 5
SIZES_SHOWN = 5

Note = Callable[[str], None]


class Target(NamedTuple):
    """What is made."""

    out: Path
    sources: list[str]  # SCHEME:PATH
    classes: list[str]
    unlabelled: list[str]  # images without a label
    deduplicate: bool

    @property
    def report_path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.report.json")

    @property
    def sheet_path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.sheet.png")


def make_set(
    source: Sequence[str],
    out: Path,
    size: tuple[int, int],
    *,
    crop: bool = True,
    channels: int = 3,
    min_size: int | None = None,
    max_megapixels: float = 128.0,
    labels: str | None = None,
    deduplicate: bool = False,
    processes: int | None = None,
    shown: Progress | None = None,
    note: Note = lambda text: None,
) -> None:
    """Makes a training set of images, with a report and a contact sheet beside it.

    The set is complete or absent: stopped or killed, the same call continues. What is complete
    already is left as it is.

    Args:
      source: folders, zips, tars, folders of LMDBs, or tfds:NAME, one after the other.
      out: FILE.zip, or the folder of a TFDS set.
      size: height and width of the images, px.
      crop: the largest window of that shape, in the middle; else the whole image is kept, its
        shorter side as long as a square's.
      channels: 3, or 1 for grey.
      min_size: images whose shorter side is less are dropped, px; None: that of `size`.
      max_megapixels: and those of more pixels.
      labels: 'folders', a FILE.json or FILE.csv of names and classes, or 'none'; None: the
        sources' own.
      deduplicate: whether only the first of images with equal pixels is kept.
      processes: that decode and scale; None: one a core.
      shown: where it tells how far it is, as of progress.progress().
      note: told what is found, what was made, and how to train on it.

    Raises:
      ValueError, OSError: about an argument (see arguments.py), before the work; or no image is
        left, or the disk fails.
      MemoryError: an image needs more memory than there is.
    """
    job, target = _checked(
        source, out, size, crop, channels, min_size, max_megapixels, labels, deduplicate
    )
    out = target.out
    partial, complete = out.with_name(f"{out.name}.partial"), f"{out} is complete already"
    with about("out"):
        if _is_complete(target, job.key):
            note(complete)
            return
    with prepare.locked(partial):
        # Another process may have made it since.
        is_new = not _is_complete(target, job.key)
        if is_new:
            count = machine.cores() if processes is None else processes
            report = _make(job, target, partial, count, shown or Silent(), note)
        shutil.rmtree(partial)
    if not is_new:
        note(complete)
        return
    note(_describe(report, target.report_path))
    note(f"{target.sheet_path} shows some of them; train with {_flags(job, target)}")


def _checked(
    source: Sequence[str],
    out: Path,
    size: tuple[int, int],
    crop: bool,
    channels: int,
    min_size: int | None,
    max_megapixels: float,
    labels: str | None,
    deduplicate: bool,
) -> tuple[Job, Target]:
    """The work, and what is made: see make_set()."""
    height, width = size
    with about("size"):
        if height * width > prepare.MAX_PX:
            raise ValueError(
                f"{height}x{width} px are more than {prepare.MAX_PX}, which a set allows"
            )
    with about("source"):
        named = [schemes.guess_scheme(path) for path in source]
        sources = [schemes.open_container(each) for each in named]
    with about("out"):
        out = _checked_out(out, named)
    with about("labels"):
        labelled = label_items(sources, labels)
    min_px = min(height, width) if min_size is None else min_size
    options = prepare.Options(height, width, crop, channels, min_px, max_megapixels)
    with about("source"):
        job = prepare.make_job(sources, labelled.items, labelled.classes, options)
    return job, Target(out, named, labelled.classes, labelled.unlabelled, deduplicate)


def _make(
    job: Job, target: Target, partial: Path, processes: int, shown: Progress, note: Note
) -> dict[str, Any]:
    """Makes the parts that are missing and the set of them; returns the report."""
    missing = prepare.begin(job, partial)
    left = sum(len(job.part_items(part)) for part in missing)
    note(f"{len(job.items)} images, {len(job.items) - left} of them are prepared already")
    shown.stage(left, "images prepared")
    prepare.prepare_parts(job, partial, missing, processes, shown.advance)

    # What became of every image.
    found = prepare.read_outcomes(job, partial)
    if len(target.sources) > 1:  # Names may occur in several.
        found = [
            outcome._replace(name=f"{target.sources[item.source]}/{outcome.name}")
            for outcome, item in zip(found, job.items, strict=True)
        ]
    if target.deduplicate:
        found = outputs.drop_repeated(found)
    report = outputs.make_report(job, found, target.classes)
    report["deduplicate"] = target.deduplicate
    report["images"] += len(target.unlabelled)
    report["dropped"] += [[name, "it has no label"] for name in target.unlabelled]
    if not report["kept"]:
        disk.write_whole(target.report_path, json.dumps(report, indent=1).encode())
        raise ValueError(f"no image is left. {_describe(report, target.report_path)}")

    # The set under another name, until it is whole.
    shown.stage(report["kept"], "images written")
    images = outputs.kept(job, partial, found, shown.advance)
    whole = partial / f"whole{target.out.suffix}"
    if target.out.suffix == ".zip":
        outputs.write_zip(images, target.classes, whole)
    else:
        shutil.rmtree(whole, ignore_errors=True)
        outputs.write_tfds(images, target.classes, whole, target.out.name, job.options.channels)
    report["bytes"] = _bytes(whole)
    outputs.contact_sheet(job, partial, found).save(target.sheet_path)
    disk.write_whole(target.report_path, json.dumps(report, indent=1).encode())
    disk.rename(whole, target.out)
    return report


def _checked_out(out: Path, sources: list[str]) -> Path:
    """Where the set is written, its folder made; ValueError unless it can be."""
    if re.match(r"\w{2,}:/", str(out)):
        raise ValueError(f"{out} is no local file: sets are written to the disk")
    if not out.name or out.suffix not in ("", ".zip"):
        raise ValueError(f"{out} must end in .zip, or be a folder's name without a suffix")
    out = disk.local_path(out)
    place = out.resolve()
    if out.is_dir() and (out.suffix == ".zip" or not any(out.iterdir())):
        raise ValueError(f"{out} is a folder: name what is to be made")
    for source in sources:
        path = disk.local_path(source.partition(":")[2]).resolve()
        if path.exists() and place.is_relative_to(path):
            raise ValueError(f"{out} lies in the source {source}: it would be its own input")
    if out.suffix != ".zip":
        tfds_sets.require_extra()
        tfds_sets.check_path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _is_complete(target: Target, key: str) -> bool:
    """Whether the set is there; ValueError if something else is."""
    if not target.out.exists():
        return False
    try:
        report = json.loads(target.report_path.read_text())
        is_this = (report["key"], report["deduplicate"]) == (key, target.deduplicate)
        if is_this and report["bytes"] == _bytes(target.out):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"{target.out} exists, and was made of other images or with other options, or has changed "
        "since: remove it, or give another --out"
    )


def _flags(job: Job, target: Target) -> str:
    """What makes a run train on the set."""
    height, width, crop, channels, *_ = job.options
    flags = {"data.source": f"{'zip' if target.out.suffix == '.zip' else 'tfds'}:{target.out}"}
    flags["resolution"] = str(height)
    if height != width:
        flags["width"] = str(width)
    if not crop:
        flags["data.random_crop"] = "True"
    if channels == 1:
        flags["image_channels"] = "1"
    if target.classes:
        flags["num_classes"] = str(len(target.classes))
    return " ".join(f"--config.{name}={value}" for name, value in flags.items())


def _describe(report: dict[str, Any], path: Path) -> str:
    """The report in a few lines."""
    kept, dropped = report["kept"], report["dropped"]
    lines = [
        f"Kept {kept} of {report['images']} images: {kept - report['converted']} as they were, "
        f"{report['converted']} converted, {report['enlarged']} of these enlarged."
    ]
    if dropped:
        lines.append(f"Dropped {len(dropped)}:")
        lines += [f"  {name}: {why}" for name, why in dropped[:DROPPED_SHOWN]]
        lines += [f"  ... the others are in {path}"] * (len(dropped) > DROPPED_SHOWN)
    if report["ignored"]:
        kinds = ", ".join(f"{suffix} ({n})" for suffix, n in report["ignored"].items())
        lines.append(f"Taken for no images, by the ends of their names: {kinds}.")
    repeats = sum(len(same) - 1 for same in report["duplicates"])
    if repeats:
        lines.append(f"{repeats} have the same pixels as others (--deduplicate drops them).")
    sizes = list(report["sizes"].items())
    shown = ", ".join(f"{size} ({count})" for size, count in sizes[:SIZES_SHOWN])
    more = f" and {len(sizes) - SIZES_SHOWN} others" if len(sizes) > SIZES_SHOWN else ""
    if sizes:
        lines.append(f"Sizes before, width x height: {shown}{more}.")
    if report["classes"]:
        lines.append(f"{len(report['classes'])} classes.")
    return "\n".join(lines)
