"""How far warped pictures are from lines evaluated exactly at every pixel, in 8-bit steps.

    python -m experiments.warp_error --workdir=runs/demo --out=experiments/demo/warp_error.csv

All pixels of 32 pictures of 120 x 120 px, for tables whose intervals are halved until the line in
their middle is right to a tolerance. rendering.warp.tables.TOLERANCE is the default, infinity a
table of four entries a training pixel everywhere. `nothing` is the frame itself, made as if it
were warped.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np

import creps_jax
from creps_jax.rendering.warp import interpolated, maps, tables

SEEDS = range(32)
SIZE = (120, 120)
TOLERANCES = (math.inf, tables.TOLERANCE)
MAPS = {
    "nothing": lambda h, w, size: (h + 0 * w, w + 0 * h),
    "rotate:30": maps.rotate(30),
    "perspective:20": maps.perspective(20),
    "fisheye:.9": maps.fisheye(0.9),
    "polar:1": maps.polar(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    painter = creps_jax.load(arguments.workdir)
    images = [painter.image(painter.latents(seed)) for seed in SEEDS]
    h, w = (axis.ravel() for axis in np.indices(SIZE))
    rows = [["warp", "tolerance", "entries", "largest", "mean", "share over 1/2"]]
    print(("{:>15}" * len(rows[0])).format(*rows[0]), flush=True)
    for name, tolerance in [(name, tolerance) for name in MAPS for tolerance in TOLERANCES]:
        plan = painter.plan(SIZE, supersample=1, warp=MAPS[name])
        picture, mesh, entries, errors = plan.warped(), painter.mesh, 0, []
        for image in images:
            found = interpolated.tables(image, [(picture, plan.window)], mesh, tolerance)
            errors.append(interpolated.error(image, picture, found, h, w, mesh))
            entries += sum(len(table.positions) for table in found)
        steps = np.stack(errors)
        numbers = tolerance, round(entries / len(SEEDS)), steps.max(), steps.mean()
        rows.append([name, *(f"{number:.4g}" for number in (*numbers, (steps > 0.5).mean()))])
        print(("{:>15}" * len(rows[0])).format(*rows[-1]), flush=True)
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
