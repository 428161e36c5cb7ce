"""Speed of the input pipeline: images decoded and batched a second, against plain Pillow loops.

    python -m experiments.input_benchmark --out=experiments/input_benchmark.csv

Crops of photographs as PNG files, 256 x 256 and 512 x 512, as a folder, a StyleGAN zip and a TFDS
set. In one process, in turn, as often as --rounds says: a loop of Pillow in one thread, Pillow and
the pipeline's own decoder by as many threads as the machine has cores and nothing else, and the
pipeline with worker processes or, where there are none, with threads. Medians; `times` is against
the loop, `over_pillow` and `over_own` what is added to the time of the bare threads. It needs
pip install -e '.[train,experiments,tfds]'.
"""

import argparse
import csv
import functools
import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from creps_jax import machine
from creps_jax.config import DataConfig
from creps_jax.data import sources as data_sources
from creps_jax.data.containers import tfds_sets
from creps_jax.data.decode import encode_png, read_plain_png
from creps_jax.data.pipeline import make_iterator
from creps_jax.data.preparation import outputs
from creps_jax.data.sources import Source, open_source
from experiments.photos import photographs

COUNTS = {256: 2048, 512: 512}  # images of a set by their size; Grain shuffles tiny ones slowly
BATCH = 16
WORKERS = (0, 1, 2)
CORES = machine.cores()


def make_files(size: int) -> list[bytes]:
    """PNG files of crops of photographs."""
    random, files = np.random.default_rng(0), []
    for i in range(COUNTS[size]):
        photo = photographs()[i % 2]
        side = int(random.integers(256, 420))
        x, y = random.integers(photo.width - side), random.integers(photo.height - side)
        box = (x, y, x + side, y + side)
        files.append(encode_png(photo.resize((size, size), Image.Resampling.LANCZOS, box)))
    return files


def write_sets(files: list[bytes], folder: Path) -> dict[str, str]:
    """The files in three forms: name -> source."""
    (folder / "images").mkdir()
    for i, data in enumerate(files):
        (folder / "images" / f"{i:05d}.png").write_bytes(data)
    for write, name in ((outputs.write_zip, "a.zip"), (outputs.write_tfds, "set")):
        images = (outputs.Kept(f"{i}", None, ".png", data) for i, data in enumerate(files))
        more = ("set", 3) if name == "set" else ()
        write(images, [], folder / name, *more)
    return {
        "folder": f"folder:{folder}/images",
        "zip": f"zip:{folder}/a.zip",
        "array_record": f"tfds:{folder}/set",
    }


def decode_by_pillow(data: bytes) -> np.ndarray:
    """What a plain program does."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def bare_threads(decode: Callable[[bytes], object], files: list[bytes], threads: int) -> float:
    """Images a second where threads decode, and nothing else is done."""
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(decode, files):
            pass
        return len(files) / (time.perf_counter() - start)


def make_config(source: str, size: int, workers: int) -> DataConfig:
    """A pipeline that reads a source with as many threads in all, whatever the workers."""
    threads = max(1, 2 * CORES // max(workers, 1))
    return DataConfig((size, size), 3, 0, source=source, threads=threads, workers=workers)


def pipeline(source: Source, config: DataConfig) -> float:
    """Images a second in batches, without a cache, once the pipeline runs."""
    iterator = make_iterator(source, config, BATCH, seed=0)
    batches = len(source) // BATCH
    next(iterator)  # What is ahead now is as much as will be ahead at the end.
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    rate = batches * BATCH / (time.perf_counter() - start)
    iterator.close()
    return rate


def measure(size: int, rounds: int) -> list[dict[str, object]]:
    """The rows of one size."""
    files, own = (
        make_files(size),
        functools.partial(read_plain_png, height=size, width=size, channels=3),
    )
    with tempfile.TemporaryDirectory() as folder:
        works: dict[tuple[str, int], Callable[[], float]] = {
            ("Pillow loop", 0): functools.partial(bare_threads, decode_by_pillow, files, 1),
            ("Pillow threads", 0): functools.partial(bare_threads, decode_by_pillow, files, CORES),
            ("own threads", 0): functools.partial(bare_threads, own, files, CORES),
        }
        for name, source in write_sets(files, Path(folder)).items():
            opened = open_source(make_config(source, size, 0))
            for workers in WORKERS:
                config = make_config(source, size, workers)
                works[name, workers] = functools.partial(pipeline, opened, config)
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in works}
        for _ in range(rounds):
            for key, work in works.items():
                gc.collect()
                rates[key].append(work())
    medians = {key: statistics.median(values) for key, values in rates.items()}
    alone = medians["Pillow loop", 0]
    return [
        {
            "size_px": size,
            "source": name,
            "workers": workers,
            "images_per_sec": round(rate),
            "times_loop": round(rate / alone, 2),
            "over_pillow_percent": round(100 * (medians["Pillow threads", 0] / rate - 1)),
            "over_own_percent": round(100 * (medians["own threads", 0] / rate - 1)),
        }
        for (name, workers), rate in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument("--out", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    try:
        tfds_sets.require_extra()
    except ValueError as error:
        sys.exit(f"Error: {error}")
    flags.FLAGS.mark_as_parsed()  # Grain's workers read absl's flags.
    data_sources.CACHE_MIB = 0  # What is kept in memory is not decoded.
    rows = [row for size in COUNTS for row in measure(size, arguments.rounds)]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
