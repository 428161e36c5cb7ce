"""The forms of a prepared set: a StyleGAN zip, a TFDS set of array_record; its report and sheet."""

import collections
import contextlib
import io
import json
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image

from creps_jax import disk
from creps_jax.data.containers.descriptions import LABELS_FILE
from creps_jax.data.containers.files import kinds
from creps_jax.data.preparation.prepare import Job, Outcome, read_files

SHEET = (8, 8)  # images down and across
CELL = 128  # px


class Kept(NamedTuple):
    """An image of the set."""

    name: str  # of the original
    label: int | None
    suffix: str
    data: bytes


def kept(
    job: Job, folder: pathlib.Path, found: list[Outcome], done: Callable[[int], None]
) -> Iterator[Kept]:
    """The images of the set, in order: those of the outcomes that are not dropped."""
    indices = [index for index, outcome in enumerate(found) if not outcome.dropped]
    for index, data in zip(indices, read_files(job, folder, indices), strict=True):
        outcome = found[index]
        yield Kept(outcome.name, outcome.label, outcome.suffix, data)
        done(1)


def write_zip(images: Iterator[Kept], classes: list[str], path: pathlib.Path) -> None:
    """A StyleGAN zip: images stored as they are, and dataset.json with their classes."""
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(images):
            name = f"{number // 1000:05d}/img{number:08d}{image.suffix}"
            archive.writestr(zipfile.ZipInfo(name), image.data)  # The date is 1980's, always.
            labels.append([name, image.label])
        content: dict[str, Any] = {"labels": labels if classes else None}
        if classes:
            content["classes"] = classes
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), json.dumps(content))
    disk.sync(path)


def write_tfds(
    images: Iterator[Kept], classes: list[str], path: pathlib.Path, name: str, channels: int
) -> None:
    """A TFDS set of array_record: the folder that holds its dataset_info.json."""
    import tensorflow_datasets as tfds

    features: dict[str, Any] = {
        "image": tfds.features.Image(shape=(None, None, channels)),
        "name": tfds.features.Text(),
    }
    if classes:
        features["label"] = tfds.features.ClassLabel(names=classes)

    class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,  # Training shuffles; here the order is the sources'.
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for number, image in enumerate(images):
                label = {"label": image.label} if classes else {}
                yield number, {"image": image.data, "name": image.name, **label}

    Prepared.name = re.sub(r"\W+", "_", name.lower()).strip("_") or "images"
    scratch = path.with_name(f"{path.name}.tfds")
    shutil.rmtree(scratch, ignore_errors=True)  # Of a killed process.
    builder = Prepared(data_dir=scratch, file_format="array_record")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # It tells of a download.
        builder.download_and_prepare(download_dir=scratch / "downloads")
    made = pathlib.Path(builder.data_dir)
    for file in (*made.rglob("*"), made):
        disk.sync(file)
    disk.rename(made, path)
    shutil.rmtree(scratch)


def drop_repeated(found: list[Outcome]) -> list[Outcome]:
    """The outcomes with all but the first of equal pixels dropped."""
    first: dict[str, int] = {}
    remaining = []
    for index, outcome in enumerate(found):
        if not outcome.dropped and first.setdefault(outcome.digest, index) != index:
            same = found[first[outcome.digest]].name
            outcome = outcome._replace(dropped=f"the same pixels as {same}")
        remaining.append(outcome)
    return remaining


def make_report(job: Job, found: list[Outcome], classes: list[str]) -> dict[str, Any]:
    """What became of the images, in JSON values; duplicates are names of equal pixels."""
    remaining = [outcome for outcome in found if not outcome.dropped]
    ignored = [name for source in job.sources for name in source.ignored()]
    same: dict[str, list[str]] = collections.defaultdict(list)
    for outcome in remaining:
        same[outcome.digest].append(outcome.name)
    sizes = collections.Counter("{}x{}".format(*outcome.size) for outcome in remaining)
    return {
        "key": job.key,
        "options": job.options._asdict(),
        "images": len(found),
        "kept": len(remaining),
        "converted": sum(outcome.converted for outcome in remaining),
        "enlarged": sum(outcome.enlarged for outcome in remaining),
        "dropped": [[outcome.name, outcome.dropped] for outcome in found if outcome.dropped],
        "ignored": kinds(ignored),
        "duplicates": [names for names in same.values() if len(names) > 1],
        "sizes": dict(sizes.most_common()),
        "classes": {
            name: sum(outcome.label == number for outcome in remaining)
            for number, name in enumerate(classes)
        },
    }


def contact_sheet(job: Job, folder: pathlib.Path, found: list[Outcome]) -> Image.Image:
    """Images evenly spread over the set, small, side by side."""
    indices = [index for index, outcome in enumerate(found) if not outcome.dropped]
    down, across = SHEET
    shown = min(len(indices), down * across)
    chosen = [indices[i * len(indices) // shown] for i in range(shown)]
    sheet = Image.new("RGB", (CELL * across, CELL * -(-shown // across)), "white")
    for i, data in enumerate(read_files(job, folder, chosen)):
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGB")
            small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(small, (CELL * (i % across), CELL * (i // across)))
    return sheet
