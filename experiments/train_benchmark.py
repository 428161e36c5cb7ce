"""Training speed: the whole step, the step without the data pipeline, and the machine's own rate.

    python -m experiments.train_benchmark --out=experiments/train_benchmark.csv

In one process, in turn: steps on batches of the pipeline, the same steps on one batch that is
already on the device, and a 2048^3 float32 matrix product. Prints and writes images/s, the
pipeline's share of the time, GFLOP/s of the step and its share of the product's.
"""

import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import config_flags

from creps_jax.training import dry_run, loop
from creps_jax.training.step import phases_of, train_step

_CONFIG = config_flags.DEFINE_config_file("config", "configs/demo.py", "Config of the run.")
_OUT = flags.DEFINE_string("out", None, "CSV to write.")
_ROUNDS = flags.DEFINE_integer("rounds", 6, "How often the three are measured in turn.")
STEPS = 32  # a round's steps: two R1 intervals


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call, results ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def matmul_gflops() -> float:
    """GFLOP/s of a 2048^3 float32 matrix product, best of 5."""
    a = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    return 2 * 2048**3 / min(seconds(lambda: product(a, a)) for _ in range(5)) / 1e9


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        run = loop.prepare(json.loads(_CONFIG.value.to_json()), Path(workdir))
        phases = dry_run.phases(run.task)
        flops = sum(p.compile().cost_analysis()["flops"] / every for _, every, p in phases)
        fixed = loop.to_devices(run.task, next(run.batches))

        def steps(batch: Callable[[], dict[str, jax.Array]]) -> float:
            def all_steps() -> object:
                for step in range(STEPS):
                    run.state, metrics = train_step(
                        run.task, phases_of(run.task, step), run.state, batch()
                    )
                    jax.block_until_ready(metrics)
                return run.state

            return seconds(all_steps)

        def fetch() -> dict[str, jax.Array]:
            return loop.to_devices(run.task, next(run.batches))

        for _ in range(1 + len(run.source) // (STEPS * run.config.recipe.batch_size)):
            steps(fetch)  # Compile, and fill the cache of a small set.
        rounds = [
            (steps(fetch), steps(lambda: fixed), matmul_gflops()) for _ in range(_ROUNDS.value)
        ]
        run.batches.close()
        run.checkpoints.close()

    whole, bare, product = (statistics.median(column) for column in zip(*rounds, strict=True))
    images, gflops = STEPS * run.config.recipe.batch_size, flops * STEPS / bare / 1e9
    result = {
        "images_per_sec": images / whole,
        "images_per_sec_without_pipeline": images / bare,
        "pipeline_share": statistics.median(1 - b / w for w, b, _ in rounds),
        "step_gflops_per_sec": gflops,
        "matmul_gflops_per_sec": product,
        "step_share_of_matmul": gflops / product,
    }
    for name, value in result.items():
        print(f"{name:<32} {value:10.3f}")
    if _OUT.value:
        with open(_OUT.value, "w", newline="") as file:
            writer = csv.DictWriter(file, result, lineterminator="\n")
            writer.writeheader()
            writer.writerow({name: f"{value:.4g}" for name, value in result.items()})


if __name__ == "__main__":
    app.run(main)
