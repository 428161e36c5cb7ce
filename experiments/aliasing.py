"""What pictures below the training size alias, by how many samples a pixel is the mean of.

    python -m experiments.aliasing --workdir=runs/demo --quick

The truth has 8 x 8 samples a training pixel. Against it: one sample a pixel, one a training pixel
and axis, and two, which is the renderer's default. Of the differences the energy over the truth's
own without its mean, and the root mean square and the largest in 8-bit steps; of the pictures of
half the training size also the radial power, beside that of the training size's.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import creps_jax
from creps_jax.evaluation.consistency.spectra import decibels, spectrum
from creps_jax.rendering.painter import Painter
from experiments import tables
from experiments.plotting import pyplot

SIZES = (3 / 4, 1 / 2, 1 / 4, 1 / 8)  # training sizes
NATIVE, TRUTH = "training size", "truth"
# Samples a training pixel and axis; None: one a pixel.
SAMPLES = {"one a pixel": None, "one a training pixel": 1, "two a training pixel": 2, TRUTH: 8}


def painted(painter: Painter, size: tuple[int, int], k: int, seeds: range) -> np.ndarray:
    """Pictures whose pixels are the means of k x k samples: float64 [N, *size, C]."""
    images = [painter.render(n, size=size, supersample=k, dtype=np.float32) for n in seeds]
    return np.stack(images).astype(np.float64)


def at_size(painter: Painter, scale: float, seeds: range) -> dict[str, np.ndarray]:
    """The pictures of a size, by their samples."""
    size = tuple(round(n * scale) for n in painter.shape)
    of_pixel = math.ceil(max(r / n for r, n in zip(painter.shape, size, strict=True)))
    return {
        name: painted(painter, size, 1 if k is None else k * of_pixel, seeds)
        for name, k in SAMPLES.items()
    }


def error(scale: float, name: str, images: np.ndarray, truth: np.ndarray) -> tables.Row:
    """How far pictures are from the truth."""
    difference = images - truth
    signal = truth - truth.mean(axis=(1, 2), keepdims=True)
    ratio = np.square(difference).mean() / np.square(signal).mean()
    steps = 127.5 * np.abs(difference)
    return {
        "scale": scale,
        "samples": name,
        "energy_db": float(decibels(ratio)),
        "rms": float(np.sqrt(np.square(steps).mean())),
        "largest": float(steps.max()),
    }


def power(images: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Cycles a training pixel, and the mean power for a square cycle a training pixel."""
    frequencies, powers = spectrum(images)
    return frequencies * scale, powers.mean(axis=0) / scale**2


def power_rows(spectra: dict[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[tables.Row]:
    """A row for each frequency."""
    for name, (frequencies, powers) in spectra.items():
        for cycles, value in zip(frequencies.tolist(), powers.tolist(), strict=True):
            yield {"samples": name, "cycles": cycles, "power": value}


def plot(path: Path, rows: list[tables.Row], spectra: dict[str, tuple]) -> None:
    """Energies against the size, and spectra."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in dict.fromkeys(row["samples"] for row in rows):
        points = [(row["scale"], row["energy_db"]) for row in rows if row["samples"] == name]
        left.semilogx(*zip(*points, strict=True), "o-", base=2, label=name)
    for name, (frequencies, powers) in spectra.items():
        right.semilogy(frequencies[1:], powers[1:], "o-", markersize=3, label=name)
    left.set(xlabel="size, training sizes", ylabel="energy of the error, dB")
    right.set(xlabel="cycles a training pixel", ylabel="radial power", title="half the size")
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments/aliasing"))
    parser.add_argument("--quick", action="store_true", help="8 pictures instead of 64")
    arguments = parser.parse_args()
    painter, seeds = creps_jax.load(arguments.workdir), range(8 if arguments.quick else 64)
    pictures = {scale: at_size(painter, scale, seeds) for scale in SIZES}
    rows = [
        error(scale, name, images, of_size[TRUTH])
        for scale, of_size in pictures.items()
        for name, images in of_size.items()
        if name != TRUTH
    ]
    spectra = {NATIVE: power(painted(painter, painter.shape, 1, seeds), 1)}
    spectra |= {name: power(images, 1 / 2) for name, images in pictures[1 / 2].items()}
    print("\n".join(tables.markdown(rows)))
    tables.save(arguments.out / "aliasing.csv", rows)
    tables.save(arguments.out / "spectra.csv", list(power_rows(spectra)))
    plot(arguments.out / "aliasing.png", rows, spectra)


if __name__ == "__main__":
    main()
