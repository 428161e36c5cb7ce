"""Runs of the real program on two devices, and the one that all others are compared with."""

import fcntl

from experiments import kill_hunt
from experiments.kill_hunt import finish

STEPS = 24

# Each start would compile them; runs of all phases are continued in test_loop.py.
WITHOUT = {
    "augment.kind": "none",
    "recipe.path_length_weight": 0.0,
    "recipe.r1_gamma": 0.0,
}
FLAGS = [f"--config.{name}={value}" for name, value in WITHOUT.items()]
# Saving takes longer than a step.
AT_THE_END = f"--config.checkpoint.every_kimg={STEPS * kill_hunt.BATCH_SIZE / 1000}"


def start(workdir, cache, *flags):
    """One process with two devices; it computes what two with one each compute."""
    return kill_hunt.start(workdir, STEPS, cache, *FLAGS, *flags, devices=2)


def unbroken_run(cache):
    """Folder of a run of one process, and what it printed.

    Whoever of the tests' processes needs it first starts it; the others wait.
    """
    folder = cache.parent / "unbroken"
    folder.mkdir(parents=True, exist_ok=True)
    workdir, printed = folder / "run", folder / "printed.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            printed.write_text(finish(start(workdir, cache, "--profile", AT_THE_END)))
    return workdir, printed.read_text()
