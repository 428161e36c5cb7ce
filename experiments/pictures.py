"""The README's pictures of a run: its grids, and scenes at 1x, at 4x, in a window and warped.

python -m experiments.pictures --workdir=runs/demo --out=experiments/demo
python -m experiments.pictures --workdir=runs/scenes --model=scenes --seed=1 \\
  --out=experiments/scenes
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import creps_jax
from creps_jax.rendering.warp import maps

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
    parser.add_argument("--model", help="what paints; else the run itself")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    grids = sorted(arguments.workdir.glob("fakes_*.png"))
    chosen = {"first": grids[0], "middle": grids[len(grids) // 2], "last": grids[-1]}
    for name, grid in chosen.items():
        shutil.copy(grid, out / f"{name}.png")
        print(f"{name}.png is {grid.name}")
    shutil.copy(arguments.workdir / "reals.png", out / "reals.png")

    painter = creps_jax.load(arguments.model or arguments.workdir)
    n, _ = painter.shape

    def paint(seed: int, size: int, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        return painter.render(seed, size=(size, size), window=window, truncation=TRUNCATION)

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
    warps = [
        painter.render(arguments.seed, size=(6 * n, 6 * n), warp=bent, truncation=TRUNCATION)
        for bent in (maps.rotate(20), maps.perspective(30), maps.fisheye(0.5), maps.polar())
    ]
    Image.fromarray(np.hstack(warps)).save(out / "warps.png")


if __name__ == "__main__":
    main()
