"""How far images below the training resolution are from a supersampled truth, in 8-bit steps.

    python -m experiments.antialiasing --workdir=runs/demo --out=experiments/demo/antialiasing.csv

The truth has 8 x 8 samples a training pixel. Prints and writes the root mean square and the largest
error of point samples, of one and two samples a training pixel and axis; two is the default.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np

import creps_jax

SEEDS = range(8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    painter = creps_jax.load(arguments.workdir)
    (resolution, _), rows = painter.shape, []

    def steps(n: int, supersample: int | None) -> np.ndarray:
        images = [
            painter.render(seed, size=(n, n), supersample=supersample, dtype=np.float32)
            for seed in SEEDS
        ]
        return 127.5 * np.stack(images)

    for n in (3 * resolution // 4, resolution // 2, resolution // 4, resolution // 8):
        truth = steps(n, 8 * math.ceil(resolution / n))
        for name, k in (("point", 1), ("one", math.ceil(resolution / n)), ("two", None)):
            error = np.abs(steps(n, k) - truth)
            rms = float(np.sqrt(np.mean(error**2)))
            rows.append({"size": n, "samples": name, "rms": rms, "largest": float(error.max())})
            print(f"{n} px, {name:<5}  rms {rms:6.2f}  largest {error.max():6.1f}", flush=True)
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(row | {k: f"{row[k]:.3g}" for k in ("rms", "largest")} for row in rows)


if __name__ == "__main__":
    main()
