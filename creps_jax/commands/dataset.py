"""`creps dataset`: training sets from any images."""

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from creps_jax.options import (
    check_range,
    one_line_errors,
    option,
    parse_size,
    require_train_extra,
)
from creps_jax.progress import progress

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
            metavar="folders|FILE",
            help="Classes: the folders that images lie in, or a FILE.json or FILE.csv of names and "
            "classes. [default: the sources' own, if all have some]",
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
    out = out.expanduser()
    with option("--size"):
        height, width = parse_size(size)
        if not crop and height != width:
            raise ValueError(f"without --crop give one number, got {size}")
    with option("--min-size"):
        min_px = min(height, width) if min_size is None else min_size
        check_range(min_px, 1, 2**16)
    with option("--processes"):
        check_range(processes, 1, 1024)

    from creps_jax.data import containers, outputs, prepare
    from creps_jax.data import labels as labelling

    with option("--source"):
        sources = [containers.open_container(containers.guess_scheme(path)) for path in source]
    with option("--labels"):
        labelled = labelling.label_items(sources, labels)
    with option("--out"):
        _check_out(out, source)
        if out.suffix != ".zip":
            require_train_extra("tensorflow_datasets")
    options = prepare.Options(height, width, crop, 1 if grey else 3, min_px)
    job = prepare.make_job(sources, labelled.items, options)
    report_path, sheet_path = _beside(out, "report.json"), _beside(out, "sheet.png")
    with option("--out"):
        if _is_complete(out, report_path, job.key, deduplicate):
            typer.echo(f"{out} is complete already")
            return
    partial = out.with_name(f"{out.name}.partial")
    with one_line_errors(OSError, ValueError, MemoryError), prepare.locked(partial):
        missing = prepare.begin(job, partial)
        count = len(job.items)
        left = sum(
            len(job.items[part * prepare.PART : (part + 1) * prepare.PART]) for part in missing
        )
        typer.echo(f"{count} images, {count - left} of them are prepared already")
        with progress() as shown:
            shown.stage(left, "images prepared")
            prepare.prepare_parts(job, partial, missing, processes, shown.advance)
            found = prepare.read_outcomes(job, partial)
            if deduplicate:
                found = outputs.drop_repeated(found)
            report = outputs.make_report(job, found, labelled.classes)
            report["deduplicate"] = deduplicate
            report["dropped"] += [[name, "it has no label"] for name in labelled.unlabelled]
            if not report["kept"]:
                raise ValueError(_describe(report, report_path))
            shown.stage(report["kept"], "images written")
            images = outputs.kept(job, partial, found, shown.advance)
            temporary = partial / f"whole{out.suffix}"
            if out.suffix == ".zip":
                outputs.write_zip(images, labelled.classes, temporary)
            else:
                shutil.rmtree(temporary, ignore_errors=True)
                outputs.write_tfds(images, labelled.classes, temporary, out.name, options.channels)
        report_path.write_text(json.dumps(report, indent=1))
        outputs.contact_sheet(job, partial, found).save(sheet_path)
        os.rename(temporary, out)
        shutil.rmtree(partial)
    typer.echo(_describe(report, report_path))
    scheme = "zip" if out.suffix == ".zip" else "tfds"
    typer.echo(f"{sheet_path} shows some of them; train with --config.data.source={scheme}:{out}")


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(f"{out.name}.{ending}")


def _check_out(out: Path, sources: list[str]) -> None:
    if out.suffix not in ("", ".zip"):
        raise ValueError(f"{out} must end in .zip, or be a folder's name without a suffix")
    if out.suffix == ".zip" and out.is_dir():
        raise ValueError(f"{out} is a folder")
    for source in sources:
        if out.resolve().is_relative_to(Path(source).expanduser().resolve()):
            raise ValueError(f"{out} lies in the source {source}: it would be its own input")
    out.parent.mkdir(parents=True, exist_ok=True)


def _is_complete(out: Path, report_path: Path, key: str, deduplicate: bool) -> bool:
    """Whether out is this very set; ValueError if it is something else."""
    if not out.exists():
        return False
    try:
        report = json.loads(report_path.read_text())
        if (report["key"], report["deduplicate"]) == (key, deduplicate):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"{out} exists, and was made of other images or with other options: remove it, or give "
        "another name"
    )


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
