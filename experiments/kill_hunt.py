"""Kill a training run again and again: it must end with the arrays of the unbroken one.

    python -m experiments.kill_hunt --kills=50 --out=runs/kills

Every process is killed with SIGKILL at a random moment, every other one while a checkpoint is being
written; the same command then goes on. With --processes=2 two train, one of which is killed, and
the other must end by itself. Prints one line a kill and the verdict; writes kills.csv.
"""

import argparse
import csv
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import demo
from creps_jax.checkpoint import Checkpoints
from creps_jax.config import parse
from creps_jax.distributed import LOST
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.sharding import make_mesh
from creps_jax.training.run import restore
from creps_jax.training.state import Task
from experiments import quick_compile

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 4

# A network that takes milliseconds a step: what is hunted is in saving and continuing.
TINY = {
    "resolution": 8,
    "batch_size": BATCH_SIZE,
    "data.source": "procedural:23",
    "generator.z_dim": 8,
    "generator.w_dim": 8,
    "generator.mapping_layers": 1,
    "generator.channel_base": 64,
    "generator.channel_max": 8,
    "generator.biline_channels": 4,
    "generator.thickness": 2,
    "discriminator.channel_base": 64,
    "discriminator.channel_max": 8,
    "recipe.r1_interval": 8,
    "augment.kind": "ada",
    "augment.kimg": 0.1,
    "evaluate.metrics": "",
    "report.every_kimg": BATCH_SIZE / 1000,
    "report.grid_every_kimg": 1.0,
    "report.tensorboard": False,
    "checkpoint.every_kimg": 2 * BATCH_SIZE / 1000,
}

PORTRAIT = {"resolution": 10, "width": 8}  # What holds for it holds for squares.


def tiny_config(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The config of the tiny network, with other values for fields such as 'data.source'."""
    config = demo.get_config()
    config.update_from_flattened_dict(TINY | (changes or {}))
    return json.loads(config.to_json())


def start(
    workdir: Path, steps: int, cache: Path, *flags: str, config: str = "demo", devices: int = 1
) -> subprocess.Popen:
    """The real program on the tiny network of a portrait, as a process in a group of its own."""
    fields = {**TINY, **PORTRAIT, "total_kimg": steps * BATCH_SIZE / 1000}
    command = [sys.executable, "-m", "creps_jax.main", f"--config=configs/{config}.py"]
    command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in fields.items()), *flags]
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {quick_compile.FLAGS}",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def start_all(
    workdir: Path, steps: int, cache: Path, processes: int, *flags: str
) -> list[subprocess.Popen]:
    """As many processes of one run, on this machine, with one device each."""
    if processes == 1:
        return [start(workdir, steps, cache, *flags)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    flags += (f"--coordinator={address}", f"--processes={processes}", "--wait_sec=60")
    return [
        start(workdir, steps, cache, *flags, f"--process={index}") for index in range(processes)
    ]


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """What the process printed, once it has ended with that exit code."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def newest_step(workdir: Path) -> int:
    """Of the finished checkpoints; -1 if there is none."""
    folders = (workdir / "checkpoints").glob("[0-9]*")
    return max((int(folder.name) for folder in folders), default=-1)


def kill_in_flight(
    process: subprocess.Popen, workdir: Path, until_step: int, delay_sec: float, while_saving: bool
) -> bool:
    """SIGKILL once there is a checkpoint of `until_step` or later and the delay is over.

    With `while_saving`, at the first moment after that when a checkpoint is being written. Returns
    whether one was.
    """
    unfinished = workdir / "checkpoints" / "unfinished"

    def saving() -> bool:
        return unfinished.exists() and any(unfinished.iterdir())

    while process.poll() is None and newest_step(workdir) < until_step:
        time.sleep(0.002)
    time.sleep(delay_sec)
    while while_saving and process.poll() is None and not saving():
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    return saving()


def arrays(workdir: Path) -> tuple[int, list[np.ndarray], dict]:
    """Step, all arrays and the data position of the newest checkpoint."""
    with Checkpoints(workdir, keep=2) as checkpoints:
        step = checkpoints.latest_step()
        config = parse(checkpoints.config(step))
        networks = Generator(config.generator), Discriminator(config.discriminator)
        one_device = make_mesh(jax.devices()[:1])
        task = Task(
            *networks, config.recipe, config.augment, config.seed, (), one_device, config.layout
        )
        state, data = restore(checkpoints, step, task)
    return step, [np.asarray(x) for x in jax.tree.leaves(state)], data


def same(ours: Path, theirs: Path) -> bool:
    """Whether the newest checkpoints of two runs are equal bit for bit."""
    (step, leaves, data), (other_step, others, other_data) = map(arrays, (ours, theirs))
    return (step, data) == (other_step, other_data) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(leaves, others, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out, choice = arguments.out.absolute(), random.Random(arguments.seed)
    steps, cache = 6 * arguments.kills, out / "cache"
    out.mkdir(parents=True, exist_ok=True)
    for process in start_all(out / "unbroken", steps, cache, arguments.processes):
        finish(process)
    rows = []
    for kill in range(arguments.kills):
        others = start_all(out / "killed", steps, cache, arguments.processes)
        process = others.pop(choice.randrange(len(others)))
        until_step = newest_step(out / "killed") + choice.randint(0, 4)
        hit = kill_in_flight(
            process, out / "killed", until_step, choice.uniform(0, 0.5), kill % 2 == 0
        )
        for other in others:
            finish(other, LOST)
        rows.append([kill + 1, newest_step(out / "killed"), hit])
        print(f"kill {kill + 1}: newest checkpoint {rows[-1][1]}, in a save: {hit}", flush=True)
    for process in start_all(out / "killed", steps, cache, arguments.processes):
        finish(process)
    with (out / "kills.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["kill", "newest_checkpoint", "in_a_save"], *rows])
    verdict = same(out / "unbroken", out / "killed")
    hits = sum(hit for *_, hit in rows)
    result = "equal" if verdict else "DIFFERENT"
    print(f"{arguments.kills} kills, {hits} in a save: the arrays are {result}")
    sys.exit(not verdict)


if __name__ == "__main__":
    main()
