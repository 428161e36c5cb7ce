"""The README's pictures of a run: its grids, and scenes at 1x, at 4x and in a window.

python experiments/pictures.py --workdir=runs/demo --out=experiments/demo
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from creps_jax.checkpoint import load_generator
from creps_jax.rendering.render import latent, render, to_uint8

SEEDS = range(16)
TRUNCATION = 0.7


def enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """The picture with every pixel drawn as a square, so that its own pixels are seen."""
    factor = height // image.shape[0]
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3, help="of the picture at three scales")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    grids = sorted(arguments.workdir.glob("fakes_*.png"))
    chosen = {"first": grids[0], "middle": grids[len(grids) // 2], "last": grids[-1]}
    for name, grid in chosen.items():
        shutil.copy(grid, out / f"{name}.png")
        print(f"{name}.png is {grid.name}")
    shutil.copy(arguments.workdir / "reals.png", out / "reals.png")

    generator, variables = load_generator(arguments.workdir)
    n = generator.config.resolution

    def paint(seed: int, size: int, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        ws = latent(generator, variables, seed, psi=TRUNCATION)
        return to_uint8(render(generator, variables, ws, (size, size), window))

    scenes = [paint(seed, 4 * n) for seed in SEEDS]
    columns = len(scenes) // 2
    grid = np.vstack([np.hstack(scenes[:columns]), np.hstack(scenes[columns:])])
    Image.fromarray(grid).save(out / "at_4x.png")
    frame, side = 32 * n, 12 * n  # A window of a frame of 32 times the training resolution.
    corner = (frame - side) // 2
    scales = [
        enlarged(paint(arguments.seed, n), side),
        enlarged(paint(arguments.seed, 4 * n), side),
        paint(arguments.seed, frame, (corner, corner, corner + side, corner + side)),
    ]
    Image.fromarray(np.hstack(scales)).save(out / "scales.png")


if __name__ == "__main__":
    main()
