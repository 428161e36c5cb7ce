"""Is it one picture at all sizes, and is there more in a larger one than in a smaller?

    python -m experiments.scale_consistency --workdir=runs/demo --quick

Of one latent, pictures from 1/4 to 16 times the training size against that of the training size:

  self_ssim    the larger brought down to the smaller as SelfSSIM: evaluation/consistency/scales.py
  psnr_db      the same two
  detail_db    power beyond the training size's Nyquist frequency on either axis, of all power
  distance_db  of the radial power there to that of true scenes: root mean square over frequencies

by pixel centres, which are the renderer's default, of several samples a pixel below the training
size; by pixel centres with one; by the official program's grid, whose ends stay in place; and, as
references, the training size's picture enlarged or reduced by Pillow. Of a run on procedural scenes
also true scenes at each size, and other true scenes, whose distance is what chance makes of it.

SelfSSIM alone says little: enlarged pixels brought down again are the same pixels, so that any
filter has nearly 1, and detail that is right and beyond them can only lower it. What enlarging
cannot make is the detail; what it wrongly makes, the filter's remnants, counts as detail too.
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from creps_jax.checkpoint import load_ema
from creps_jax.config import parse_saved
from creps_jax.data.scenes import procedural
from creps_jax.evaluation.consistency.motion import psnr
from creps_jax.evaluation.consistency.pictures import grid
from creps_jax.evaluation.consistency.resampling import resample
from creps_jax.evaluation.consistency.scales import WINDOW, ssim
from creps_jax.evaluation.consistency.spectra import decibels, periodogram, radial_mean
from creps_jax.evaluation.metrics import figure
from creps_jax.model.generator import Generator
from creps_jax.rendering.painter import Painter
from experiments import tables
from experiments.plotting import pyplot

SCALES = (1 / 4, 1 / 2, 2, 4, 8, 16)
TRUTH, CHANCE = "true scenes", "other true scenes"
# SelfSSIM that others report: other networks, pictures and sizes, so an orientation only.
PUBLISHED = {"CIPS": "0.9991", "ScaleParty": "0.89 to 0.95", "MSPIE": "0.10"}

# (seed, size in px, height and width) -> a picture, float [*size, 3] about [-1, 1].
Way = Callable[[int, tuple[int, int]], np.ndarray]


class Comparison(NamedTuple):
    """A picture against its training size."""

    self_ssim: float  # NaN where a picture is smaller than SSIM's window
    squared_error: float
    detail: float  # share of the power
    frequencies: np.ndarray  # cycles a training pixel
    power: np.ndarray  # for a square cycle a training pixel


def ways(painter: Painter, source: str, count: int) -> dict[str, Way]:
    """All that is compared, by name."""

    def painted(seed: int, size: tuple[int, int], **options: object) -> np.ndarray:
        return painter.render(seed, size=size, dtype=np.float32, **options)

    def resized(seed: int, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
        channels = np.moveaxis(painted(seed, painter.shape), -1, 0)
        images = (Image.fromarray(channel).resize(size[::-1], method) for channel in channels)
        return np.stack([np.asarray(image) for image in images], axis=-1)

    def true(seed: int, size: tuple[int, int], first: int) -> np.ndarray:
        return procedural.scene(first + seed, size) / 127.5 - 1.0

    found = {
        "centres": painted,
        "centres, one sample": functools.partial(painted, supersample=1),
        "endpoints": functools.partial(painted, supersample=1, sampling="endpoints"),
        "bicubic": functools.partial(resized, method=Image.Resampling.BICUBIC),
        "Lanczos": functools.partial(resized, method=Image.Resampling.LANCZOS),
    }
    if source.startswith("procedural"):
        found[TRUTH] = functools.partial(true, first=0)
        found[CHANCE] = functools.partial(true, first=count)
    return found


def compare(native: np.ndarray, picture: np.ndarray) -> Comparison:
    """A picture of any size with that of the training size, both of the same frame."""
    small, large = sorted((native, picture), key=len)
    stretch, scale = len(large) / len(small), len(picture) / len(native)
    reduced = resample(large, *grid(small.shape[:2], large.shape[:2]), stretch)
    power = periodogram(picture)
    beyond = [np.abs(np.fft.fftfreq(n)) > 0.5 / scale for n in power.shape]
    detail = power[np.logical_or.outer(*beyond)].sum() / power.sum()
    frequencies, radial = radial_mean(power)
    return Comparison(
        ssim(small, reduced) if min(small.shape[:2]) >= WINDOW else np.nan,
        float(np.square(small - reduced).mean()),
        float(detail),
        frequencies * scale,
        radial / scale**2,
    )


def distance(power: np.ndarray, truth: np.ndarray, frequencies: np.ndarray) -> float:
    """Of two mean powers beyond the training size's Nyquist frequency, dB."""
    beyond = frequencies > 0.5
    return float(np.sqrt(np.mean(decibels(power[beyond] / truth[beyond]) ** 2)))


def row_of(way: str, scale: float, found: list[Comparison], truth: np.ndarray | None) -> tables.Row:
    """What is told of the comparisons of all seeds; truth: the mean power of true scenes."""
    seen = figure(np.array([each.self_ssim for each in found]), float)
    measured, enlarged = not np.isnan(seen.value), scale > 1
    detail = float(np.mean([each.detail for each in found]))
    power = np.mean([each.power for each in found], axis=0)
    compared = enlarged and truth is not None and way != TRUTH
    return {
        "way": way,
        "scale": scale,
        "self_ssim": seen.value if measured else None,
        "low": seen.low if measured else None,
        "high": seen.high if measured else None,
        "psnr_db": psnr(float(np.mean([each.squared_error for each in found]))),
        "detail_db": float(decibels(detail)) if enlarged else None,
        "distance_db": distance(power, truth, found[0].frequencies) if compared else None,
    }


def summary(rows: list[tables.Row]) -> Iterator[tables.Row]:
    """A line for each way, and for what others report."""
    asked = {"SelfSSIM": SCALES[1:], "detail, dB": SCALES[2:], "distance, dB": SCALES[2:]}
    names = dict(zip(asked, ("self_ssim", "detail_db", "distance_db"), strict=True))
    for way in dict.fromkeys(row["way"] for row in rows):
        of_scale = {row["scale"]: row for row in rows if row["way"] == way}
        yield {"way": way} | {
            f"{column} {scale:g}x": of_scale[scale][names[column]]
            for column, scales in asked.items()
            for scale in scales
        }
    for name, reported in PUBLISHED.items():
        yield {"way": name, "SelfSSIM as published": reported}


def plot(path: Path, rows: list[tables.Row], spectra: dict[str, tuple]) -> None:
    """SelfSSIM against the scale, and the radial power of the largest pictures."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for way in dict.fromkeys(row["way"] for row in rows):
        points = [
            (row["scale"], row["self_ssim"])
            for row in rows
            if row["way"] == way and row["self_ssim"] is not None
        ]
        left.semilogx(*zip(*points, strict=True), "o-", base=2, label=way)
    for way, (frequencies, power) in spectra.items():
        right.loglog(frequencies[1:], power[1:], label=way)
    right.axvline(0.5, color="grey", linestyle=":", label="Nyquist frequency of training")
    left.set(xlabel="size, training sizes", ylabel="SelfSSIM")
    right.set(xlabel="cycles a training pixel", ylabel="radial power", title="largest size")
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments/scale_consistency"))
    parser.add_argument("--quick", action="store_true", help="16 pictures instead of 128")
    arguments = parser.parse_args()
    variables, saved = load_ema(arguments.workdir)
    run, count = parse_saved(saved), 16 if arguments.quick else 128
    painter = Painter(Generator(run.generator), variables)
    compared, rows = ways(painter, run.data.source, count), []
    for scale in SCALES:
        size = tuple(round(n * scale) for n in painter.shape)
        found = {
            name: [compare(way(seed, painter.shape), way(seed, size)) for seed in range(count)]
            for name, way in compared.items()
        }
        spectra = {
            name: (each[0].frequencies, np.mean([one.power for one in each], axis=0))
            for name, each in found.items()
        }
        truth = spectra[TRUTH][1] if TRUTH in spectra else None
        rows += [row_of(name, scale, each, truth) for name, each in found.items()]
    rows.sort(key=lambda row: list(compared).index(row["way"]))
    print("\n".join(tables.markdown(list(summary(rows)))))
    tables.save(arguments.out / "scale_consistency.csv", rows)
    plot(arguments.out / "scale_consistency.png", rows, spectra)


if __name__ == "__main__":
    main()
