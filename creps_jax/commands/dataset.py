"""`creps dataset`: training sets from any images."""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from creps_jax import disk, machine
from creps_jax.options import (
    check_range,
    one_line_errors,
    option,
    parse_size,
    require_train_extra,
)
from creps_jax.progress import Progress, progress

if TYPE_CHECKING:
    from creps_jax.data.preparation.prepare import Job

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
    max_megapixels: Annotated[
        float,
        typer.Option(
            help="Drop images of more pixels; each takes up to 12 bytes of memory in each process."
        ),
    ] = 128.0,
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
    ] = machine.cores(),
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
    with option("--min-size"):
        if min_size is not None:
            check_range(min_size, 1, 2**16)
    with option("--max-megapixels"):
        check_range(max_megapixels, 0.001, 1e5)
    with option("--processes"):
        check_range(processes, 1, 1024)

    with one_line_errors(ValueError):
        require_train_extra("imagecodecs")

    from creps_jax.data.containers import schemes
    from creps_jax.data.preparation import labels as labelling
    from creps_jax.data.preparation import prepare

    with option("--size"):
        if height * width > prepare.MAX_PX:
            raise ValueError(
                f"{height}x{width} px are more than {prepare.MAX_PX}, which a set allows"
            )
    with option("--source"):
        named = [schemes.guess_scheme(path) for path in source]
        sources = [schemes.open_container(each) for each in named]
    with option("--out"):
        out = _checked_out(out, named)
    with option("--labels"):
        labelled = labelling.label_items(sources, labels)
    min_px = min(height, width) if min_size is None else min_size
    channels = 1 if grey else 3
    options = prepare.Options(height, width, crop, channels, min_px, max_megapixels)
    with option("--source"):
        job = prepare.make_job(sources, labelled.items, labelled.classes, options)
    target = Target(out, named, labelled.classes, labelled.unlabelled, deduplicate)
    partial = out.with_name(f"{out.name}.partial")
    with option("--out"):
        if _is_complete(target, job.key):
            typer.echo(f"{out} is complete already")
            return
    with (
        one_line_errors(OSError, ValueError, MemoryError),
        prepare.locked(partial),
        progress() as shown,
    ):
        # Another process may have made it since.
        is_new = not _is_complete(target, job.key)
        report = make_set(job, target, partial, processes, shown) if is_new else None
        shutil.rmtree(partial)
    if report is None:
        typer.echo(f"{out} is complete already")
        return
    typer.echo(_describe(report, target.report_path))
    typer.echo(f"{target.sheet_path} shows some of them; train with {_flags(job, target)}")


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
    job: "Job", target: Target, partial: Path, processes: int, shown: Progress
) -> dict[str, Any]:
    """Makes the parts that are missing and the set of them; returns the report."""
    from creps_jax.data.preparation import outputs, prepare

    missing = prepare.begin(job, partial)
    left = sum(len(job.part_items(part)) for part in missing)
    typer.echo(f"{len(job.items)} images, {len(job.items) - left} of them are prepared already")
    shown.stage(left, "images prepared")
    prepare.prepare_parts(job, partial, missing, processes, shown.advance)
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
        from creps_jax.data.containers import tfds_sets

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


def _flags(job: "Job", target: Target) -> str:
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
