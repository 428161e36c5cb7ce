"""What the TPU compiler says of the configs' steps on pods; no TPU is needed, libtpu is.

    python -m experiments.tpu_estimates --out=experiments/tpu_estimates.csv

compiles each phase of each config for each pod of the table below, which takes minutes a phase,
and writes a row for each as soon as it is known. The same command continues: phases that are in
the CSV already are not compiled again. Prints a table of the steps in Markdown. One case alone:

    python -m experiments.tpu_estimates --config=configs/church.py --config.resolution=64 \\
      --config.batch_size=16 --topology=v5e:2x2 --dearest=10

--dearest tells the operations of each phase that take most cycles, and compiles them all for it.
Cycles are the compiler's estimates, without collectives; nothing here is measured.
"""

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from creps_jax import rng
from creps_jax.config import parse
from creps_jax.training import dry_run, hlo, programs
from creps_jax.training.task import make_task
from creps_jax.training.topology import Topology, find

# What a row is found again by, beside its phase.
CASE = ("config", "resolution", "batch_size", "augment", "layout", "topology")
COLUMNS = (
    *CASE,
    "devices",
    "phase",
    "every",
    "mcycles",
    "ms",
    "gflop",
    "needed_mib",
    "device_mib",
    "collectives",
    "collectives_mib",
    "compile_sec",
    "fault",
)

PODS = ("v4:2x2x1", "v5e:4x4", "v5p:2x2x1", "v6e:2x4")
# The compiler takes long over few images on a v6e: a chip has 8.
CHANGES = {"v6e:2x4": {"batch_size": 64}}
# Path lengths are measured on half the batch: two chips share an image.
LARGE = {"batch_size": 256, "layout.row": 2}
# The programs of configs/scenery.py are church's.
TABLE = (
    *((name, pod, CHANGES.get(pod, {})) for name in ("church", "ffhq", "metfaces") for pod in PODS),
    ("church", "v5e:16x16", LARGE),
)

_CONFIG = config_flags.DEFINE_config_file("config", None, "One config; default: all of the table.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "One pod; default: all of the table.")
_OUT = flags.DEFINE_string("out", None, "CSV to continue.")
_DEAREST = flags.DEFINE_integer("dearest", 0, "How many operations of each phase to tell.")

Row = dict[str, str]


def cases() -> Iterator[tuple[str, str, ConfigDict]]:
    """Names of config and pod, and the config, of all that the flags ask for."""
    if _CONFIG.value is not None:
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
        pods = [_TOPOLOGY.value] if _TOPOLOGY.value else PODS
        yield from ((name, pod, _CONFIG.value) for pod in pods)
        return
    for name, pod, changes in TABLE:
        if _TOPOLOGY.value in (None, pod):
            config = importlib.import_module(f"configs.{name}").get_config()
            config.update_from_flattened_dict(changes)
            yield name, pod, config


def case_of(name: str, pod: str, raw_config: dict[str, Any]) -> tuple[str, ...]:
    """What the columns of CASE say of it."""
    layout = " ".join(f"{k}={v}" for k, v in raw_config["layout"].items() if v not in (1, None))
    sizes = raw_config["resolution"], raw_config["batch_size"]
    return tuple(map(str, (name, *sizes, raw_config["augment"]["kind"], layout, pod)))


def compiled(raw_config: dict[str, Any], topology: Topology, known: set[str]) -> Iterator[Row]:
    """A row for each phase that is not known yet; a phase that does not fit ends the case."""
    config = parse(raw_config)
    classes = config.generator.num_classes
    task = make_task(config, (1.0 / max(classes, 1),) * classes, topology.devices)
    held = programs.held_bytes(task)
    pod = {"devices": len(topology.devices), "device_mib": topology.memory_bytes // 2**20}
    for call in programs.calls(task, *programs.abstract_inputs(task)):
        if call.name in known:
            continue
        row = {**pod, "phase": call.name, "every": call.every}
        try:
            phase = dry_run.estimate(task, call)
        except MemoryError as error:
            yield {name: str(value) for name, value in {**row, "fault": error}.items()}
            return
        found = hlo.collectives(phase.operations).values()
        times, sent_bytes = hlo.amount(each for kind in found for each in kind)
        row |= {
            "mcycles": phase.cycles / 1e6,
            "ms": phase.cycles / topology.clock_mhz / 1e3,
            "gflop": phase.program.flops / 1e9,
            "needed_mib": (held + phase.program.temporary_bytes) / 2**20,
            "collectives": times,
            "collectives_mib": sent_bytes / 2**20,
            "compile_sec": phase.compile_sec,
        }
        yield {n: f"{v:.4g}" if isinstance(v, float) else str(v) for n, v in row.items()}
        for source, cycles in hlo.dearest(phase.operations, _DEAREST.value):
            print(f"{call.name}\t{cycles / 1e6:.3f} Mcycles\t{source}", flush=True)


def summary(rows: list[Row]) -> Iterator[str]:
    """The Markdown table: a line for each case whose phases are all there."""
    yield "| config | pod | memory a device | collectives | step | images/s | s/kimg |"
    yield "|---|---|---|---|---|---|---|"
    for case in dict.fromkeys(tuple(row[name] for name in CASE) for row in rows):
        phases = [row for row in rows if tuple(row[name] for name in CASE) == case]
        name, resolution, batch_size, augment, layout, pod = case
        what = f"| {name}, {resolution} px, batch {batch_size}, augment {augment} {layout}".rstrip()
        last = phases[-1]
        if last.get("fault"):
            yield f"{what} | {pod} | does not fit: {last['phase']} | | | | |"
        elif last["phase"] == "finish":
            needed = max(float(row["needed_mib"]) for row in phases) / 1024
            sent, ms = (
                sum(float(row[column]) / int(row["every"]) for row in phases)
                for column in ("collectives_mib", "ms")
            )
            yield (
                f"{what} | {pod} | {needed:.2f} of {int(last['device_mib']) / 1024:.0f} GiB | "
                f"{sent:.1f} MiB | {ms:.1f} ms | {1000 * int(batch_size) / ms:.0f} | "
                f"{ms / int(batch_size):.3g} |"
            )


def main(_: list[str]) -> None:
    # Programs for chips that are absent cannot be read from a cache.
    jax.config.update("jax_enable_compilation_cache", False)
    path = Path(_OUT.value) if _OUT.value else None
    rows = saved(path) if path and path.exists() else {}
    with rng.pinned():
        for name, pod, config in cases():
            raw_config = config.to_dict()
            case = case_of(name, pod, raw_config)
            known = [] if _DEAREST.value else [r for k, r in rows.items() if k[:-1] == case]
            if any(row["fault"] for row in known):
                continue
            try:
                for row in compiled(raw_config, find(pod), {row["phase"] for row in known}):
                    row = dict.fromkeys(COLUMNS, "") | dict(zip(CASE, case, strict=True)) | row
                    rows[(*case, row["phase"])] = row
                    print("\t".join(row.values()), flush=True)
                    if path:
                        save(path, list(rows.values()))
            except ValueError as error:
                print(f"{name} on {pod} is left out: {error}", file=sys.stderr)
    print("\n".join(summary(list(rows.values()))))


def saved(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows of a CSV, by their case and phase."""
    with path.open(newline="") as file:
        return {tuple(row[name] for name in (*CASE, "phase")): row for row in csv.DictReader(file)}


def save(path: Path, rows: list[Row]) -> None:
    """Writes all rows, in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)


if __name__ == "__main__":
    app.run(main)
