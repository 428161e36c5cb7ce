"""Feeds mutated images and archives to the data code: each must become pixels or an error.

python -m experiments.data_fuzz --count=20000

A crash, an unexpected exception, a hang or more than LIMIT_MIB of memory ends it with the seed of
the input that did it. What is mutated are real files of every kind that is read, and zips, tars and
a TFDS set of them. (An LMDB is mapped into memory and trusted, but for its length and its images.)
"""

import argparse
import collections
import faulthandler
import io
import json
import pathlib
import resource
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from creps_jax.data.containers.schemes import open_container
from creps_jax.data.decode import UnreadableError, read_image, read_plain_png
from creps_jax.data.preparation import outputs
from creps_jax.data.preparation.prepare import Options, prepare_image
from experiments.photos import photographs

LIMIT_MIB = 4096  # of address space; the libraries themselves map one or two GiB
HANG_SEC = 20
SIDE = 40  # px
ARCHIVES_SHARE = 8  # one input of so many is an archive

OPTIONS = (Options(16, 16, True, 3, 1, 128.0), Options(24, 24, False, 1, 1, 128.0))


def image_files() -> list[bytes]:
    """A photograph in every form that is read."""
    photo = photographs()[0].crop((0, 0, SIDE + 9, SIDE))
    sixteen = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [photo.quantize(), photo.rotate(90).quantize()]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 2**21, zip=True)
    square = photo.crop((0, 0, SIDE, SIDE))
    forms: list[tuple[Image.Image, str, dict]] = [
        (square, "png", {}),
        (square.convert("L"), "png", {}),
        (photo, "png", {}),
        (photo, "png", {"exif": exif, "compress_level": 0}),
        (photo.convert("RGBA"), "png", {}),
        (photo.quantize(), "png", {"transparency": 0}),
        (sixteen, "png", {}),
        (photo, "jpeg", {"exif": exif}),
        (photo, "jpeg", {"progressive": True, "icc_profile": bytes(range(200))}),
        (photo.convert("CMYK"), "jpeg", {}),
        (photo.convert("L"), "jpeg", {}),
        (photo, "webp", {}),
        (photo, "webp", {"lossless": True, "exif": exif}),
        (frames[0], "gif", {"save_all": True, "append_images": frames[1:]}),
        (photo, "bmp", {}),
        (photo, "tiff", {}),
        (photo, "tiff", {"compression": "tiff_lzw"}),
        (photo.convert("CMYK"), "tiff", {"compression": "jpeg"}),
        (sixteen, "tiff", {"compression": "tiff_deflate"}),
        (photo, "avif", {"exif": exif}),
        (photo, "jpeg2000", {}),
        (square, "ico", {}),
        (photo, "tga", {"compression": "tga_rle"}),
        (photo, "ppm", {}),
        (photo, "pcx", {}),
        (photo, "sgi", {}),
        (photo, "qoi", {}),
        (photo, "png", {"pnginfo": text}),
    ]
    files = []
    for image, kind, settings in forms:
        buffer = io.BytesIO()
        image.save(buffer, kind, **settings)
        files.append(buffer.getvalue())
    return files


class Target(NamedTuple):
    """A container, and one of its files that is mutated."""

    source: str
    file: pathlib.Path
    good: bytes


def targets(files: list[bytes], folder: pathlib.Path) -> list[Target]:
    """Containers of every kind, which hold the files."""
    named = {f"{i:02d}.png": data for i, data in enumerate(files)}
    labels = json.dumps({"labels": [[name, i] for i, name in enumerate(named)]}).encode()
    members = {**named, "dataset.json": labels}
    for compression, name in ((zipfile.ZIP_STORED, "stored.zip"), (zipfile.ZIP_DEFLATED, "a.zip")):
        with zipfile.ZipFile(folder / name, "w", compression) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    kept = (outputs.Kept(name, None, ".png", data) for name, data in named.items())
    outputs.write_tfds(kept, [], folder / "set", "set", 3)
    found = [("zip:stored.zip", "stored.zip"), ("zip:a.zip", "a.zip"), ("tar:a.tar", "a.tar")]
    found += [("tfds:set", f"set/{path.name}") for path in sorted((folder / "set").iterdir())]
    return [
        Target(source.replace(":", f":{folder}/"), folder / name, (folder / name).read_bytes())
        for source, name in found
    ]


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with some flipped, cut off, repeated, or overwritten with extreme numbers."""
    mutated = bytearray(data)
    for _ in range(random.integers(1, 5)):
        # Heads decide how the rest is read.
        end = len(mutated) if random.random() < 0.5 else min(len(mutated), 64)
        at = int(random.integers(max(end, 1)))
        match random.integers(5):
            case 0:
                mutated[at : at + 1] = bytes([random.integers(256)])
            case 1:
                mutated[at : at + 1] = bytes(
                    b ^ 1 << int(random.integers(8)) for b in mutated[at : at + 1]
                )
            case 2:
                mutated[at : at + 4] = random.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
                )
            case 3:
                del mutated[at : at + int(random.integers(1, 100))]
            case 4:
                mutated[at:at] = mutated[at : at + int(random.integers(1, 100))]
    return bytes(mutated) if random.random() < 0.9 else bytes(mutated[: random.integers(len(data))])


def feed_image(data: bytes, random: np.random.Generator) -> str:
    """What became of an image."""
    try:
        channels = int(random.choice([1, 3]))
        plain = read_plain_png(data, SIDE, SIDE, channels)
        image = read_image(data, channels)
        if plain is not None:
            np.testing.assert_array_equal(plain.squeeze(), np.asarray(image))
        prepare_image(data, OPTIONS[random.integers(len(OPTIONS))])
    except UnreadableError as error:
        assert str(error), "an error without a message"
        return "image refused"
    return "image read"


def feed_container(source: str) -> str:
    """What became of a container, of which every image is read."""
    scheme = source.partition(":")[0]
    try:
        container = open_container(source)
        container.labels()
    except ValueError as error:
        assert str(error), "an error without a message"
        return f"{scheme} refused"
    refused = 0
    for name in container.images():
        try:
            read_image(container.read(name), 3)
        except (UnreadableError, OSError) as error:
            assert str(error), "an error without a message"
            refused += 1
    return f"{scheme} read, images refused" if refused else f"{scheme} read whole"


def hunt(seeds: range, folder: pathlib.Path, said: Callable[[str], None]) -> None:
    """Feeds the inputs of these seeds, and says what they were."""
    files = image_files()
    containers = targets(files, folder)
    found: collections.Counter[str] = collections.Counter()
    slowest, start, shown = (0.0, 0), time.monotonic(), time.monotonic()
    for seed in seeds:
        random = np.random.default_rng(seed)
        faulthandler.dump_traceback_later(HANG_SEC, exit=True)
        began = time.monotonic()
        try:
            if seed % ARCHIVES_SHARE == 0:
                target = containers[random.integers(len(containers))]
                target.file.write_bytes(mutate(target.good, random))
                found[feed_container(target.source)] += 1
                target.file.write_bytes(target.good)
            else:
                found[feed_image(mutate(files[random.integers(len(files))], random), random)] += 1
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        slowest = max(slowest, (time.monotonic() - began, seed))
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            done = seed - seeds.start + 1
            left = (shown - start) / done * (len(seeds) - done)
            rate = done / (shown - start)
            said(f"{done}/{len(seeds)} inputs  {rate:.0f} a second  {left:.0f} s left")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said(", ".join(f"{count} {what}" for what, count in sorted(found.items())))
    said(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), peak {peak_mib:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20000, help="inputs")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    flags = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow has much to say.
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_MIB * 2**20,) * 2)
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(flags.first, flags.first + flags.count)
        hunt(seeds, pathlib.Path(folder), lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
