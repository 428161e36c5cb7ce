"""Damaged weights files by the hundred thousand: each is refused by one line, or read.

    python -m experiments.reader_hunt --count=100000 --out=experiments/reader_hunt.csv

Files of all forms are mutated (bits flipped, parts cut out, doubled, overwritten) and read. Any
error but a ValueError ends the hunt, and the file that caused it is kept.
"""

import argparse
import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from creps_jax.progress import progress
from experiments.hostile_files import mutated, read_all, reference_files


def hunt(name: str, data: bytes, count: int, seed: int, path: Path) -> dict[str, str]:
    """What came of so many mutations of one file."""
    random, read, slowest = np.random.default_rng(seed), 0, 0.0
    with progress() as shown:
        shown.stage(count, name)
        for _ in range(count):
            path.write_bytes(mutated(data, random))
            started = time.perf_counter()
            try:
                read += bool(read_all(path))
            except ValueError as error:
                if "\n" in str(error):
                    raise AssertionError(f"more than a line of {path}") from error
            slowest = max(slowest, time.perf_counter() - started)
            shown.advance(1)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "file": name,
        "mutations": str(count),
        "refused": str(count - read),
        "read": str(read),
        "slowest_sec": f"{slowest:.3f}",
        "peak_mib": f"{peak_mib:.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="of all forms together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV")
    options = parser.parse_args()
    files = reference_files()
    rows = []
    path = Path(tempfile.mkdtemp(prefix="reader_hunt_")) / "file"
    for name, data in files.items():
        try:
            rows.append(hunt(name, data, options.count // len(files), options.seed, path))
        except Exception:
            print(f"{path} is the file", file=sys.stderr)
            raise
        print("\t".join(rows[-1].values()), flush=True)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    path.unlink()


if __name__ == "__main__":
    main()
