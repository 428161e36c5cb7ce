"""What an image costs against its side: of lines shared by its pixels, and of pixels on their own.

    python -m experiments.resolution_costs --quick

Three networks of a config's widths, with random weights, of one image of n x n px:

  bi-line          lines once, a pixel from its row's and its column's: this model
  full grid        each pixel through Fourier features and the line layers, one vector: an INR, as
                   CIPS is; no decoders
  lines per pixel  the very function of the bi-line, each pixel computing its two lines anew

For each: FLOPs (XLA counts them), XLA's temporary memory of the whole image at once, of it row by
row, and of the gradient with respect to all weights, which training needs; and the time row by row
where so many FLOPs can be had. The memory of what is not run is that of the compiled program.

With L FLOPs of a line position, P of a bi-line pixel and F of another network's pixel, the sides
are n = 2 L / (F - P), from where the bi-line is cheaper, and n = 2 L / P, from where its pixels
cost more than its lines.
"""

import argparse
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from creps_jax import devices, sharding
from creps_jax.config import parse
from creps_jax.model import biline, coordinates
from creps_jax.rendering.painter import Painter
from experiments import tables
from experiments.plotting import pyplot
from experiments.render_benchmark import (
    full_grid_pixel,
    line_flops,
    pixel_flops,
    random_model,
    seconds,
)

CONFIGS = ("demo", "church")
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
QUICK = (8, 32, 64, 256, 1024, 2048)
ROUNDS = 5  # of which the fastest counts

Array = jax.Array


class Network(NamedTuple):
    """lines(image, y [H], x [W]) -> of each row and of each column; pixel(image, row, column)."""

    lines: Callable[[biline.Image, Array, Array], tuple[Array, Array]]
    pixel: Callable[[biline.Image, Array, Array], Array]


def positions(image: biline.Image, y: Array, x: Array) -> tuple[Array, Array]:
    """Nothing is shared."""
    return y, x


def pixel_with_lines(image: biline.Image, y: Array, x: Array) -> Array:
    """A pixel of the bi-line and the two lines that it takes."""
    row, column = biline.row_and_column_lines(image, y[None], x[None])
    return biline.pixel(image, row[0], column[0])


NETWORKS = {
    "bi-line": Network(biline.row_and_column_lines, biline.pixel),
    "full grid": Network(positions, full_grid_pixel),
    "lines per pixel": Network(positions, pixel_with_lines),
}


def whole(network: Network, image: biline.Image, y: Array, x: Array) -> Array:
    """All pixels at once: [H, W, C]."""
    of_row = jax.vmap(network.pixel, (None, None, 0))
    return jax.vmap(of_row, (None, 0, None))(image, *network.lines(image, y, x))


def by_rows(network: Network, image: biline.Image, y: Array, x: Array) -> Array:
    """The same, a row at a time."""
    rows, columns = network.lines(image, y, x)
    of_row = jax.vmap(network.pixel, (None, None, 0))
    return jax.lax.map(lambda row: of_row(image, row, columns), rows)


def gradient(network: Network, image: biline.Image, y: Array, x: Array) -> biline.Image:
    """Of the mean square of all pixels with respect to the weights."""
    return jax.grad(lambda image: jnp.square(whole(network, image, y, x)).mean())(image)


FORMS = {"whole": whole, "by_rows": by_rows, "gradient": gradient}


def flops_of(image: biline.Image) -> dict[str, tuple[int, int]]:
    """Of a position and of a pixel, by network: twice the weights that are multiplied with."""
    of_line, of_pixel = line_flops(image), pixel_flops(image)
    return {
        "bi-line": (of_line, of_pixel),
        "full grid": (0, of_line // image.freqs.shape[1]),
        "lines per pixel": (0, 2 * of_line + of_pixel),
    }


def measure(name: str, image: biline.Image, n: int, most_gflop: float) -> tables.Row:
    """What one network costs at one size."""
    network, row = NETWORKS[name], {"network": name, "size": n}
    of_line, of_pixel = flops_of(image)[name]
    t = jnp.asarray(coordinates.positions(0, n, n, n))
    options = sharding.compiler_options(sharding.make_render_mesh())
    for form, function in FORMS.items():
        program = jax.jit(functools.partial(function, network), compiler_options=options)
        compiled = program.lower(image, t, t).compile()
        row[f"{form}_mib"] = compiled.memory_analysis().temp_size_in_bytes / 2**20
        if form == "whole":  # Of a loop, XLA counts one turn.
            row["gflop"] = compiled.cost_analysis()["flops"] / 1e9
        if form == "by_rows" and (2 * n * of_line + n * n * of_pixel) / 1e9 <= most_gflop:
            run = functools.partial(compiled, image, t, t)
            row["sec"] = min(seconds(run) for _ in range(ROUNDS))
    return row


def crossings(image: biline.Image) -> tables.Row:
    """The sides from where one thing is cheaper than the other, px, by FLOPs."""
    costs = flops_of(image)
    (of_line, of_pixel), of_full_grid = costs["bi-line"], costs["full grid"][1]
    return {
        "MFLOP a line position": of_line / 1e6,
        "a pixel of the bi-line": of_pixel / 1e6,
        "of the full grid": of_full_grid / 1e6,
        "of lines per pixel": costs["lines per pixel"][1] / 1e6,
        "bi-line cheaper than the full grid from, px": 2 * of_line / (of_full_grid - of_pixel),
        "pixels dearer than lines from, px": 2 * of_line / of_pixel,
    }


def plot(path: Path, rows: list[tables.Row]) -> None:
    """FLOPs, memory and time against the side, a line of panels for each config."""
    configs = list(dict.fromkeys(row["config"] for row in rows))
    columns = {"gflop": "GFLOP", "whole_mib": "MiB, whole image", "gradient_mib": "MiB, gradient"}
    columns["sec"] = "seconds"
    shape, size = (len(configs), len(columns)), (14, 3.2 * len(configs))
    figure, panels = pyplot.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for config, line in zip(configs, panels, strict=True):
        for (column, label), ax in zip(columns.items(), line, strict=True):
            for name in NETWORKS:
                points = [
                    (row["size"], row[column])
                    for row in rows
                    if (row["config"], row["network"]) == (config, name) and column in row
                ]
                if points:
                    ax.loglog(*zip(*points, strict=True), "o-", base=2, label=name)
            ax.set(xlabel="side, px", ylabel=label, title=config)
            ax.grid(alpha=0.3)
            ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/resolution_costs"))
    parser.add_argument("--quick", action="store_true", help="fewer sizes, less is timed")
    arguments = parser.parse_args()
    devices.check()
    sizes, most_gflop = (QUICK, 120) if arguments.quick else (SIZES, 2000)
    rows, crossed = [], []
    for config in CONFIGS:
        run = parse(importlib.import_module(f"configs.{config}").get_config())
        painter = Painter(*random_model(run.generator), jax.local_devices()[:1])
        image = painter.image(painter.latents(0))
        crossed.append({"config": config} | crossings(image))
        for name in NETWORKS:
            for n in sizes:
                rows.append({"config": config} | measure(name, image, n, most_gflop))
                print({key: tables.shown(value) for key, value in rows[-1].items()}, flush=True)
    for table in (rows, crossed):
        print("\n" + "\n".join(tables.markdown(table)))
    tables.save(arguments.out / "resolution_costs.csv", rows)
    tables.save(arguments.out / "crossings.csv", crossed)
    plot(arguments.out / "resolution_costs.png", rows)


if __name__ == "__main__":
    main()
