"""What a run learnt: loss curves, and the distance of its fakes from its reals over training.

    python -m experiments.training_report --workdir=runs/demo --out=experiments/demo

Reads the run's metrics.jsonl and its grids; writes curves.png and distances.csv. The distance is
the sliced Wasserstein distance between the pixels of the grid's fakes and of as many reals: the
mean over random directions of the mean gap between the sorted projections of both.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from creps_jax.config import parse_saved
from experiments.plotting import pyplot

DIRECTIONS = 512


def grid_images(path: Path, height: int, width: int) -> np.ndarray:
    """The images of a grid, flattened: float [N, height * width * channels], in [0, 1]."""
    grid = np.asarray(Image.open(path), np.float64) / 255
    rows, columns = grid.shape[0] // height, grid.shape[1] // width
    images = grid.reshape(rows, height, columns, width, -1).swapaxes(1, 2)
    return images.reshape(rows * columns, -1)


def sliced_wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over random unit directions of mean |sorted(a . d) - sorted(b . d)|; a, b [N, D]."""
    directions = np.random.default_rng(0).normal(size=(a.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.abs(np.sort(a @ directions, 0) - np.sort(b @ directions, 0)).mean())


def plot(metrics: list[dict], distances: list[tuple[float, float]], path: Path) -> None:
    """Losses, logits' signs and distances over kimg."""
    figure, (losses, signs, wasserstein) = pyplot.subplots(1, 3, figsize=(14, 4))
    for axes, names in (
        (losses, ("loss/g", "loss/d")),
        (signs, ("sign/real", "sign/fake")),
    ):
        for name in names:
            axes.plot([m["kimg"] for m in metrics], [m[name] for m in metrics], label=name)
        axes.legend()
    wasserstein.plot(*zip(*distances, strict=True), "o-", label="sliced Wasserstein")
    wasserstein.set_ylim(bottom=0)
    wasserstein.legend()
    for axes in (losses, signs, wasserstein):
        axes.set_xlabel("kimg")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    workdir, out = arguments.workdir, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    shape = parse_saved(json.loads((workdir / "config.json").read_text())).data.shape
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    metrics = [line for line in lines if "loss/g" in line]  # The others are of evaluations.
    reals = grid_images(workdir / "reals.png", *shape)
    distances = [
        (float(p.stem.split("_")[1]), sliced_wasserstein(grid_images(p, *shape), reals))
        for p in sorted(workdir.glob("fakes_*.png"))
    ]
    with (out / "distances.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kimg", "sliced_wasserstein"])
        writer.writerows((f"{kimg:.3f}", f"{distance:.4f}") for kimg, distance in distances)
    plot(metrics, distances, out / "curves.png")
    for kimg, distance in distances:
        print(f"kimg {kimg:8.3f}  sliced Wasserstein {distance:.4f}")


if __name__ == "__main__":
    main()
