"""How far warped pictures are from lines evaluated exactly at every pixel, in 8-bit steps.

    python -m experiments.warp_error --workdir=runs/demo --out=experiments/demo/warp_error.csv

For tables of 4 to 64 entries a training pixel, over a sample of 128 pixels of each of 16 pictures
of 256 x 256 px, turned by 30 degrees; rendering.warp.DENSITY is the default. The largest error of
all pixels is larger than that of a sample: few pixels lie at kinks of the lines.
"""

import argparse
import csv
from pathlib import Path

import creps_jax
from creps_jax.rendering import warp

SEEDS = range(16)
SIZE = (256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    painter = creps_jax.load(arguments.workdir)
    plan, rows = painter.plan(SIZE, warp=warp.rotate(30)), []
    picture, mesh = painter.warped(plan), painter.mesh
    for density in (4, 8, 16, 32, 64):
        errors = []
        for seed in SEEDS:
            image = painter.image(painter.latents(seed))
            tables = warp.make_tables(image, picture, [plan.window], mesh, density)
            errors.append(warp.interpolation_error(image, picture, tables, plan.window, mesh))
        worst, means = zip(*errors, strict=True)
        rows.append([density, f"{max(worst):.3g}", f"{sum(means) / len(means):.3g}"])
        print("{} entries a training pixel: largest {}, mean {}".format(*rows[-1]), flush=True)
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([["density", "largest", "mean"], *rows])


if __name__ == "__main__":
    main()
