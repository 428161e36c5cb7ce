"""What devices compute, hold and tell each other, by how many share a step or a picture.

    python -m experiments.scaling --quick

Compiles the demo's training step at 16 px, and the renderer, for 1, 2, 4 and 8 simulated CPU
devices in a process of its own, and reads the programs: FLOPs and memory of each device, and the
bytes that it puts into collectives. The renderer has none: its lines go over the host, and the
bytes a device takes from there for a picture of 2048 px are counted from their shapes, as are its
FLOPs. Nothing runs, so no time is told: on the same cores more devices are not faster. Beside it
are the steps of experiments/tpu_estimates.csv, which the TPU compiler made for pods.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from configs import demo
from creps_jax import rng
from creps_jax.config import parse
from creps_jax.model import biline
from creps_jax.rendering import programs as rendering
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.tiling import tiling_of
from creps_jax.training import hlo, programs
from creps_jax.training.task import make_task
from experiments import tables, tpu_estimates
from experiments.plotting import pyplot
from experiments.render_benchmark import every_patch, line_flops, pixel_flops, random_model

COUNTS = (1, 2, 4, 8)
FRAME = 2048  # px
QUICK = ("G main", "D main")  # phases

Devices = list[jax.Device]


def config() -> dict:
    """The demo at 16 px; all images of a device at once, as XLA counts one turn of a loop."""
    found = demo.get_config()
    found.resolution = 16
    found.layout.pixel_strips = 1
    return found


def exchanged(compiled: jax.stages.Compiled) -> tables.Row:
    """Collectives of a program, and what a device puts into them."""
    found = hlo.collectives(hlo.operations(compiled.as_text()))
    amounts = {kind: hlo.amount(operations) for kind, operations in found.items()}
    return {
        "collectives": ", ".join(f"{times} {kind}" for kind, (times, _) in amounts.items()),
        "collectives_mib": sum(sent_bytes for _, sent_bytes in amounts.values()) / 2**20,
    }


def temporary_mib(compiled: jax.stages.Compiled) -> float:
    """Of a device."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def training(devices: Devices, quick: bool) -> Iterator[tables.Row]:
    """A row for each phase."""
    task = make_task(parse(config()), (), devices)
    held = programs.held_bytes(task) / 2**20
    for call in programs.calls(task, *programs.abstract_inputs(task)):
        if quick and call.name not in QUICK:
            continue
        compiled = programs.compile_call(task, call)
        yield {
            "devices": len(devices),
            "program": call.name,
            "every": call.every,
            "gflop": compiled.cost_analysis().get("flops", 0.0) / 1e9,
            "held_mib": held,
            "temporary_mib": temporary_mib(compiled),
            **exchanged(compiled),
        }


def painting(devices: Devices) -> Iterator[tables.Row]:
    """A row for lines and one for pixels."""
    painter = Painter(*random_model(parse(config()).generator), devices)
    image, mesh = painter.image(painter.latents(0)), painter.mesh
    side, line_bytes = tiling_of(mesh).tile, biline.line_bytes(image)
    t, axis = np.zeros(mesh.size * side, np.float32), np.zeros(mesh.size * side, np.int32)
    rows, columns = (
        np.zeros((n * side, *biline.line_shape(image)), np.float32) for n in mesh.devices.shape
    )
    # Of a picture's lines a device takes those of its rows and of its columns.
    taken_bytes = 0 if mesh.size == 1 else sum(FRAME / n for n in mesh.devices.shape) * line_bytes
    stages = {
        "lines": (
            rendering.lines_on(mesh),
            (image, t, axis),
            2 * FRAME * line_flops(image),
            taken_bytes,
        ),
        "pixels": (
            rendering.tile_on(mesh),
            (image, rows, columns, *every_patch(painter)),
            FRAME**2 * pixel_flops(image),
            0,
        ),
    }
    for name, (function, arguments, flops, host_bytes) in stages.items():
        compiled = function.lower(*arguments).compile()
        yield {
            "devices": mesh.size,
            "program": name,
            "gflop": flops / mesh.size / 1e9,
            "temporary_mib": temporary_mib(compiled),
            **exchanged(compiled),
            "over_host_mib": host_bytes / 2**20,
        }


def plot(path: Path, rows: list[tables.Row]) -> None:
    """FLOPs, memory and bytes exchanged of a device against their number."""
    columns = {"gflop": "GFLOP a device", "temporary_mib": "temporary MiB a device"}
    columns["collectives_mib"] = "MiB into collectives"
    figure, panels = pyplot.subplots(1, len(columns), figsize=(13, 3.6), layout="constrained")
    for (column, label), ax in zip(columns.items(), panels, strict=True):
        for name in dict.fromkeys(row["program"] for row in rows):
            points = [(row["devices"], row[column]) for row in rows if row["program"] == name]
            ax.plot(*zip(*points, strict=True), "o-", label=name)
        ax.set_xscale("log", base=2)
        if column == "gflop":
            ax.set_yscale("log", base=2)
        ax.set(xlabel="devices", ylabel=label)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


@rng.pinned()
def measure(out: Path, quick: bool) -> None:
    """All of it, on the devices of this process."""
    rows = []
    for count in COUNTS:
        devices = jax.devices()[:count]
        rows += [*training(devices, quick), *painting(devices)]
    print("\n".join(tables.markdown(rows)))
    tables.save(out / "scaling.csv", rows)
    plot(out / "scaling.png", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/scaling"))
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}")
    parser.add_argument("--simulated", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.simulated:
        measure(arguments.out, arguments.quick)
        return
    flags = f"--xla_force_host_platform_device_count={max(COUNTS)}"
    simulated = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "32"}
    command = [sys.executable, "-m", "experiments.scaling", "--simulated", *sys.argv[1:]]
    subprocess.run(command, check=True, env=os.environ | simulated)
    pods = tpu_estimates.saved(Path(tpu_estimates.__file__).with_suffix(".csv"))
    print("\n" + "\n".join(tpu_estimates.summary(list(pods.values()))))


if __name__ == "__main__":
    main()
