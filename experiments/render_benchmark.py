"""Rendering speed and memory against the machine's own matrix product, and against two others.

    python -m experiments.render_benchmark --out=experiments/render_benchmark

For random weights of a config's generator, in one process and in turn with a 2048^3 float32 matrix
product: the time of all lines and of all pixels of a square image, of the whole image through the
painter, of the same image as one plain jitted call of the generator ("plain"), and of a network
without the bi-line, which sends every pixel through layers of the lines' widths ("full grid").
Writes a CSV and a plot, and prints the README's table.

    python -m experiments.render_benchmark --config=configs.demo --tiny=500 --sizes=8,32,128

saves so many PNG files of each size one by one and many at a time, says what that takes, and ends
with an error unless all files are the same.
"""

import argparse
import csv
import functools
import importlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import devices
from creps_jax.config import GeneratorConfig, parse
from creps_jax.model import biline, coordinates, layers
from creps_jax.model.generator import Generator, Variables
from creps_jax.progress import Progress
from creps_jax.rendering import programs, saving
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.tiling import tiling_of
from experiments.plotting import pyplot

STRIP = 512  # px; height of the window that stands for a frame too large to render whole.
WHOLE = 4096  # px; the largest frame that is rendered whole.


def random_model(config: GeneratorConfig) -> tuple[Generator, Variables]:
    """A generator as it is before training."""
    generator = Generator(config)
    create = functools.partial(generator.init, method="create")
    return generator, jax.jit(create)(jax.random.key(0))


def line_flops(image: biline.Image) -> int:
    """Of one position: twice the weights of the line layers, for each of its R vectors."""
    weights = jax.tree.leaves(image.lines)
    return 2 * image.freqs.shape[1] * sum(w.size for w in weights if w.ndim == 2)


def pixel_flops(image: biline.Image) -> int:
    """Of one pixel: twice the weights of decoders and refinement, and the compositions."""
    weights = sum(w.size for w in jax.tree.leaves(image.pixels) if w.ndim == 2)
    return 2 * (weights + math.prod(biline.line_shape(image)))


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call, results ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


@functools.cache
def product() -> Callable[[], jax.Array]:
    """A 2048^3 float32 matrix product, compiled."""
    a, multiply = jnp.ones((2048, 2048)), jax.jit(jnp.matmul)
    multiply(a, a).block_until_ready()
    return lambda: multiply(a, a)


def matmul_gflops() -> float:
    """Of the matrix product, median of 5."""
    return 2 * 2048**3 / statistics.median(seconds(product()) for _ in range(5)) / 1e9


def in_threads(jobs: Iterable[Callable[[], object]], threads: int) -> None:
    """Runs the jobs as the renderer does."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda job: jax.block_until_ready(job()), jobs):
            pass


def peak_mib(config: str, precision: str, name: str, n: int) -> float:
    """Peak resident memory of a fresh process above the loaded model, compiling included."""
    arguments = ["--config", config, "--precision", precision, "--peak-of", name, "--sizes", str(n)]
    command = [sys.executable, "-m", "experiments.render_benchmark", *arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(printed.split()[-1])


def resident_mib(field: str) -> float:
    """A line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def compile_all(painter: Painter, image: biline.Image) -> tuple[float, float]:
    """Compiles both stages; seconds, and the larger one's temporary MiB."""
    side = tiling_of(painter.mesh).tile
    t, axis = np.zeros(side, np.float32), np.zeros(side, np.int32)
    lines = np.zeros((side, *biline.line_shape(image)), np.float32)
    start, temporary = time.perf_counter(), []
    for function, arguments in (
        (programs.lines_on(painter.mesh), (image, t, axis)),
        (programs.tile_on(painter.mesh), (image, lines, lines, *every_patch(painter))),
    ):
        compiled = function.lower(*arguments).compile()
        temporary.append(compiled.memory_analysis().temp_size_in_bytes / 2**20)
    return time.perf_counter() - start, max(temporary)


def every_patch(painter: Painter) -> tuple[np.ndarray, np.ndarray]:
    """All of a tile."""
    return programs.patches(painter.mesh, tiling_of(painter.mesh).patch)


def stages(painter: Painter, image: biline.Image, n: int, height: int) -> dict[str, Callable]:
    """What computes all lines and all pixels of n columns and `height` rows."""
    tiling = tiling_of(painter.mesh)
    tiles = math.ceil(n / tiling.tile), math.ceil(height / tiling.tile)
    t = np.linspace(0, 1, tiling.tile, dtype=np.float32)
    axis = np.zeros(tiling.tile, np.int32)
    lines, tile = programs.lines_on(painter.mesh), programs.tile_on(painter.mesh)
    some, every = lines(image, t, axis), every_patch(painter)
    return {
        "lines": lambda: in_threads([lambda: lines(image, t, axis)] * sum(tiles), tiling.threads),
        "pixels": lambda: in_threads(
            [lambda: tile(image, some, some, *every)] * math.prod(tiles), tiling.threads
        ),
    }


def rows_of(n: int) -> int:
    """How many rows of an n x n frame are rendered."""
    return n if n <= WHOLE else STRIP


def whole(painter: Painter, ws: np.ndarray, n: int) -> None:
    """Renders the rows of an n x n frame, block by block, keeping none."""
    height = rows_of(n)
    for _ in painter.stream(ws=ws, size=(n, n), window=(0, 0, height, n), supersample=1):
        pass


def plain(generator: Generator, variables: Variables, ws: np.ndarray, n: int) -> Callable:
    """The whole image in one jitted call, as one writes it first; compiled."""

    @jax.jit
    def synthesize(variables, ws, t):
        return generator.apply(variables, ws, t, t, method="synthesize")

    arguments = variables, jnp.asarray(ws)[None], coordinates.positions(0, n, n, 512)
    compiled = synthesize.lower(*arguments).compile()
    return lambda: compiled(*arguments)


def full_grid_pixel(image: biline.Image, y: jax.Array, x: jax.Array) -> jax.Array:
    """Colour of one pixel through Fourier features and layers of the lines' widths: [3]."""
    phase = 2 * math.pi * (y * image.freqs[:, 0] + x * image.freqs[:, 1])
    f = layers.modulated(
        image.lines["block_4"], None, jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])
    )
    for block in image.lines["blocks"]:
        f = layers.modulated(block["layer_0"], None, f)
        f = layers.modulated(block["layer_1"], None, f)
    return layers.projection(image.lines["blocks"][-1]["to_biline"], None, f)[:3]


def full_grid(painter: Painter, image: biline.Image, n: int) -> Callable:
    """n x n pixels, each on its own; tiled too."""
    tiling = tiling_of(painter.mesh)
    pixels = jax.jit(jax.vmap(full_grid_pixel, (None, 0, 0)), compiler_options=tiling.options)
    t = np.linspace(0, 1, 1024, dtype=np.float32)
    pixels(image, t, t).block_until_ready()
    jobs = [lambda: pixels(image, t, t)] * math.ceil(n * n / 1024)
    return lambda: in_threads(jobs, tiling.threads)


def measure(painter: Painter, variables: Variables, ws: np.ndarray, n: int, rounds: int) -> dict:
    """One row of the table."""
    image, height = painter.image(ws), rows_of(n)
    parts = stages(painter, image, n, height)
    run = {**parts, "whole": lambda: whole(painter, ws, n)}
    if n <= 2048:
        run["plain"] = plain(painter.generator, variables, ws, n)
    if n <= 256:
        run["full_grid"] = full_grid(painter, image, n)
    times, rates = {name: [] for name in run}, []
    for _ in range(rounds):
        for name, function in run.items():
            rates.append(matmul_gflops())
            times[name].append(seconds(function))
    sec = {name: statistics.median(values) for name, values in times.items()}
    rate = statistics.median(rates)
    flops = {
        "lines": (n + height) * line_flops(image),
        "pixels": n * height * pixel_flops(image),
    }
    row = {"size": n, "height": height, "matmul_gflops": rate}
    row |= {f"{name}_sec": value for name, value in sec.items()}
    row |= {f"{name}_share": value / sec[name] / 1e9 / rate for name, value in flops.items()}
    row["whole_share"] = sum(flops.values()) / sec["whole"] / 1e9 / rate
    row["mpixel_per_sec"] = n * height / sec["whole"] / 1e6
    return row


def tiny(painter: Painter, n: int, count: int) -> None:
    """Prints CPU time and rate of `count` files of n x n px, one by one and many at a time."""
    plan, contents = painter.plan(n), []

    def one_by_one(work: list[tuple[int, str]]) -> None:
        for seed, path in work:
            saving.save_picture(painter, path, painter.latents(seed), plan)

    def many(work: list[tuple[int, str]]) -> None:
        ignored = Progress(None)
        saving.save_each(painter, work, painter.latents_of, plan, (0, 1), ignored, print)

    for save in (one_by_one, many):
        with tempfile.TemporaryDirectory() as folder:
            work = [(seed, f"{folder}/{seed}.png") for seed in range(count)]
            save(work[:2])  # Compiles.
            before, start = os.times(), time.perf_counter()
            save(work[2:])
            after, sec = os.times(), time.perf_counter() - start
            contents.append([Path(path).read_bytes() for _, path in work])
        cpu = after.user + after.system - before.user - before.system
        ms, rate = 1000 * cpu / (count - 2), (count - 2) / sec
        print(f"{n} px, {save.__name__}: {ms:.2f} ms of CPU each, {rate:.0f} a second")
    if contents[0] != contents[1]:
        sys.exit(f"Error: files of {n} px differ")


def shown(value: float) -> str:
    """Whole numbers as they are, others with four digits."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def plot(rows: list[dict], path: Path) -> None:
    """Seconds of an image against its size."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    names = {"whole": "creps_jax", "plain": "plain", "full_grid": "full grid"}
    whole = [row for row in rows if row["height"] == row["size"]]
    for name, label in names.items():
        points = [(r["size"], r[f"{name}_sec"]) for r in whole if f"{name}_sec" in r]
        axes[0].loglog(*zip(*points, strict=True), "o-", base=2, label=label)
    for name, label in (("whole_peak_mib", "creps_jax"), ("plain_peak_mib", "plain")):
        points = [(r["size"], r[name]) for r in rows if name in r]
        axes[1].loglog(*zip(*points, strict=True), "o-", base=2, label=label)
    axes[0].set(xlabel="side, px", ylabel="seconds", title="time of an image")
    axes[1].set(xlabel="side, px", ylabel="MiB", title="memory above the loaded model")
    for ax in axes:
        ax.legend(frameon=False)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="configs.ffhq", help="module of the config")
    parser.add_argument("--sizes", default="256,512,1024,2048,4096,16384")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--tiny", type=int, help="only save so many PNG files of each size")
    parser.add_argument("--peak-of", choices=["whole", "plain"], help="print this peak in MiB only")
    parser.add_argument("--out", type=Path, help="folder for render.csv and render.png")
    arguments = parser.parse_args()
    sizes = [int(n) for n in arguments.sizes.split(",")]
    devices.check()

    config = parse(importlib.import_module(arguments.config).get_config()).generator
    generator, variables = random_model(config)
    painter = Painter(generator, variables, jax.local_devices()[:1], arguments.precision)
    ws = painter.latents(0)
    if arguments.tiny:
        for n in sizes:
            tiny(painter, n, arguments.tiny)
        return
    if arguments.peak_of:
        before = resident_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # Starts VmHWM anew.
        if arguments.peak_of == "whole":
            whole(painter, ws, *sizes)
        else:
            plain(generator, variables, ws, *sizes)().block_until_ready()
        print(resident_mib("VmHWM") - before)
        return
    compile_sec, temporary_mib = compile_all(painter, painter.image(ws))
    print(
        f"{jax.devices()[0].device_kind}, {arguments.precision}: compiled in {compile_sec:.1f} s,"
    )
    print(f"temporaries of {temporary_mib:.1f} MiB for each of", tiling_of(painter.mesh))
    painter.render(ws=ws, size=(256, 256))

    rows = []
    for n in sizes:
        rounds = arguments.rounds if n < 2048 else max(1, arguments.rounds // 3)
        row = measure(painter, variables, ws, n, rounds)
        for name in ("whole", "plain"):
            if f"{name}_sec" in row:
                peak = peak_mib(arguments.config, arguments.precision, name, n)
                row[f"{name}_peak_mib"] = peak
        rows.append(row)
        print("  ".join(f"{name}={shown(value)}" for name, value in row.items()), flush=True)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(name for row in rows for name in row))
        with (arguments.out / "render.csv").open("w", newline="") as file:
            writer = csv.DictWriter(
                file, [*names, "compile_sec", "temporary_mib"], lineterminator="\n"
            )
            writer.writeheader()
            for row in rows:
                row |= {"compile_sec": compile_sec, "temporary_mib": temporary_mib}
                writer.writerow({name: shown(value) for name, value in row.items()})
        plot(rows, arguments.out / "render.png")


if __name__ == "__main__":
    main()
