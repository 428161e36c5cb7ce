"""`creps dataset`: training sets from any images."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from creps_jax.options import (
    check_range,
    one_line_errors,
    option,
    parse_size,
    require_train_extra,
)
from creps_jax.progress import Progress, progress

if TYPE_CHECKING:
    from creps_jax.data.prepare import Job

MAX_PX = 2**26  # of an image of a set: training decodes many at once
DROPPED_SHOWN = 5
SIZES_SHOWN = 5


def dataset(
    source: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            help="Folder, FILE.zip, FILE.tar, folder of an LMDB, or tfds:NAME; the images of "
            "several follow one another.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.zip|DIR",
            help="FILE.zip: a zip in StyleGAN's form; a folder: a TFDS set of array_record.",
        ),
    ],
    size: Annotated[
        str,
        typer.Option(metavar="HEIGHTxWIDTH", help="Size of the images, px; one number: a square."),
    ],
    crop: Annotated[
        bool,
        typer.Option(
            help="Crop the largest window of that shape, in the middle; else keep the whole image, "
            "its shorter side as long as a square's, for data.random_crop."
        ),
    ] = True,
    grey: Annotated[bool, typer.Option("--grey", help="One channel instead of three.")] = False,
    min_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Drop images whose shorter side is less. [default: that of --size: none is "
            "enlarged]",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="folders|FILE|none",
            help="Classes: the folders that images lie in, or a FILE.json or FILE.csv of names and "
            "classes. [default: the sources' own]",
        ),
    ] = None,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Keep the first of images with equal pixels.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes that decode and scale.")
    ] = os.cpu_count() or 1,
) -> None:
    """Make a training set of images: cropped, scaled, checked, with a report and a contact sheet.

    Files that are as wanted already are kept byte for byte, others become PNG files: turned as
    their EXIF says, in sRGB, over white where they are transparent, the first of an animation.
    Damaged images, those in links or names that lead out of their source, and too small ones are
    dropped and listed in the report. The set is complete or absent: stopped or killed, the same
    command continues.

    Examples:

    creps dataset --source=photos --size=256 --out=datasets/mine.zip

    creps dataset --source=a.zip --source=b.tar --size=512 --labels=folders --out=datasets/mine
    """
    with option("--size"):
        height, width = parse_size(size)
        if not crop and height != width:
            raise ValueError(f"without --crop give one number, got {size}")
        if height * width > MAX_PX:
            raise ValueError(f"{height}x{width} px are more than the {MAX_PX} of an image of a set")
    with option("--min-size"):
        if min_size is not None:
            check_range(min_size, 1, 2**16)
    with option("--processes"):
        check_range(processes, 1, 1024)

    from creps_jax.data import containers, prepare
    from creps_jax.data import labels as labelling

    with option("--source"):
        named = [containers.guess_scheme(path) for path in source]
        sources = [containers.open_container(each) for each in named]
    with option("--out"):
        _check_out(out, named)
    out = out.expanduser()
    with option("--labels"):
        labelled = labelling.label_items(sources, labels)
    min_px = min(height, width) if min_size is None else min_size
    options = prepare.Options(height, width, crop, 1 if grey else 3, min_px)
    job = prepare.make_job(sources, labelled.items, labelled.classes, options)
    set_ = Set(out, named, labelled.classes, labelled.unlabelled, deduplicate)
    partial = out.with_name(f"{out.name}.partial")
    with option("--out"):
        if _is_complete(set_, job.key):
            typer.echo(f"{out} is complete already")
            return
    with (
        one_line_errors(OSError, ValueError, MemoryError),
        prepare.locked(partial),
        progress() as shown,
    ):
        _is_complete(set_, job.key)  # Another process may have made something meanwhile.
        report = make_set(job, set_, partial, processes, shown)
        shutil.rmtree(partial)
    typer.echo(_describe(report, set_.report_path))
    typer.echo(f"{set_.sheet_path} shows some of them; train with {_flags(job, set_)}")


class Set(NamedTuple):
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
    job: "Job", set_: Set, partial: Path, processes: int, shown: Progress
) -> dict[str, Any]:
    """Makes the parts that are missing and the set of them; returns the report."""
    from creps_jax.data import outputs, prepare

    missing = prepare.begin(job, partial)
    left = sum(len(job.part_items(part)) for part in missing)
    typer.echo(f"{len(job.items)} images, {len(job.items) - left} of them are prepared already")
    shown.stage(left, "images prepared")
    prepare.prepare_parts(job, partial, missing, processes, shown.advance)
    found = prepare.read_outcomes(job, partial)
    if len(set_.sources) > 1:  # Names may occur in several.
        found = [
            outcome._replace(name=f"{set_.sources[item.source]}/{outcome.name}")
            for outcome, item in zip(found, job.items, strict=True)
        ]
    if set_.deduplicate:
        found = outputs.drop_repeated(found)
    report = outputs.make_report(job, found, set_.classes)
    report["deduplicate"] = set_.deduplicate
    report["images"] += len(set_.unlabelled)
    report["dropped"] += [[name, "it has no label"] for name in set_.unlabelled]
    if not report["kept"]:
        prepare.write_whole(set_.report_path, json.dumps(report, indent=1).encode())
        raise ValueError(f"no image is left. {_describe(report, set_.report_path)}")
    shown.stage(report["kept"], "images written")
    images = outputs.kept(job, partial, found, shown.advance)
    whole = partial / f"whole{set_.out.suffix}"
    if set_.out.suffix == ".zip":
        outputs.write_zip(images, set_.classes, whole)
    else:
        shutil.rmtree(whole, ignore_errors=True)
        outputs.write_tfds(images, set_.classes, whole, set_.out.name, job.options.channels)
    report["bytes"] = _bytes(whole)
    outputs.contact_sheet(job, partial, found).save(set_.sheet_path)
    prepare.write_whole(set_.report_path, json.dumps(report, indent=1).encode())
    os.rename(whole, set_.out)
    return report


def _check_out(out: Path, sources: list[str]) -> None:
    """ValueError unless a set can be written there."""
    if re.match(r"\w{2,}:/", str(out)):
        raise ValueError(f"{out} is no local file: sets are written to the disk")
    if not out.name or out.suffix not in ("", ".zip"):
        raise ValueError(f"{out} must end in .zip, or be a folder's name without a suffix")
    out = out.expanduser().resolve()
    if out.is_dir() and (out.suffix == ".zip" or not any(out.iterdir())):
        raise ValueError(f"{out} is a folder: name what is to be made")
    for source in sources:
        path = Path(source.partition(":")[2]).expanduser().resolve()
        if path.exists() and out.is_relative_to(path):
            raise ValueError(f"{out} lies in the source {source}: it would be its own input")
    if out.suffix != ".zip":
        require_train_extra("tensorflow_datasets")
    out.parent.mkdir(parents=True, exist_ok=True)


def _bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _is_complete(set_: Set, key: str) -> bool:
    """Whether the set is there; ValueError if something else is."""
    if not set_.out.exists():
        return False
    try:
        report = json.loads(set_.report_path.read_text())
        is_this = (report["key"], report["deduplicate"]) == (key, set_.deduplicate)
        if is_this and report["bytes"] == _bytes(set_.out):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"{set_.out} exists, and was made of other images or with other options, or has changed "
        "since: remove it, or give another --out"
    )


def _flags(job: "Job", set_: Set) -> str:
    """What makes a run train on the set."""
    height, width, crop, channels, _ = job.options
    flags = {"data.source": f"{'zip' if set_.out.suffix == '.zip' else 'tfds'}:{set_.out}"}
    flags["resolution"] = str(min(height, width))
    if height != width:
        flags["data.resize"] = "True (training takes squares: they are cropped)"
    if not crop:
        flags["data.random_crop"] = "True"
    if channels == 1:
        flags["image_channels"] = "1"
    if set_.classes:
        flags["num_classes"] = str(len(set_.classes))
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
