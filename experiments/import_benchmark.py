"""Time and memory of `creps import`, of a pickle as the official program writes it.

    python -m experiments.import_benchmark --config=configs/ffhq.py

makes one of random G, D and G_ema of the config's sizes, of a tiny network and of these, and
imports each in a process of its own. Peak memory is the process's own, without the pages of the
file that it maps, which are the disk's cache.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app
from ml_collections import ConfigDict, config_flags

from configs import default
from creps_jax.config import parse
from creps_jax.interop.state_dicts import official_entries
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.model.layers import variable_shapes
from experiments.official_files import official_pickle

_CONFIG = config_flags.DEFINE_config_file("config", None, "Whose networks the file has.")


def pickled(raw_config: dict) -> bytes:
    """A checkpoint of the official program: random networks of a config."""
    config = parse(raw_config)
    g, d = Generator(config.generator), Discriminator(config.discriminator)
    random = np.random.default_rng(0)
    shapes = {"G": variable_shapes(g), "D": variable_shapes(d), "G_ema": variable_shapes(g)}
    networks = jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32), shapes)
    named: dict[str, dict[str, np.ndarray]] = {name: {} for name in shapes}
    for entry, array in official_entries(networks, raw_config).items():
        network, _, name = entry.partition("/")
        named[network][name] = array
    return official_pickle(named)


# The command, and its peak memory of its own, looked at all the time.
PROGRAM = """
import re, sys, threading, time
from creps_jax.cli import app
peak_kib = 0
def watch():
    global peak_kib
    while True:
        status = open("/proc/self/status").read()
        peak_kib = max(peak_kib, int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]))
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
app(sys.argv[1:], standalone_mode=False)
print(peak_kib)
"""


def imported(file: Path, out: Path) -> tuple[float, float]:
    """Seconds and the peak MiB of the command."""
    started = time.perf_counter()
    command = [sys.executable, "-c", PROGRAM, "import", str(file), f"--out={out}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, int(done.stdout.splitlines()[-1]) / 1024


def main(_: list[str]) -> None:
    tiny: ConfigDict = default.get_config()
    tiny.update_from_flattened_dict({"resolution": 8, "generator.channel_max": 4})
    tiny.update_from_flattened_dict({"discriminator.channel_max": 4, "generator.w_dim": 8})
    print("file\tmib\tsec\tpeak_mib")
    with tempfile.TemporaryDirectory() as folder:
        for name, config in {"tiny": tiny, "given": _CONFIG.value}.items():
            file = Path(folder, f"{name}.pkl")
            file.write_bytes(pickled(config.to_dict()))
            sec, peak_mib = imported(file, Path(folder, name))
            size_mib = file.stat().st_size / 2**20
            print(f"{name}\t{size_mib:.1f}\t{sec:.1f}\t{peak_mib:.0f}", flush=True)


if __name__ == "__main__":
    app.run(main)
