"""The run that interrupted ones, and those of several processes, are compared with."""

import fcntl

from experiments.kill_hunt import finish, start

STEPS = 24


def unbroken_run(cache):
    """Folder of a run of one process, with all its checkpoints, and what it printed.

    Whoever of the tests' processes needs it first starts it; the others wait.
    """
    folder = cache.parent / "unbroken"
    folder.mkdir(parents=True, exist_ok=True)
    workdir, printed = folder / "run", folder / "printed.txt"
    flags = ["--profile", "--config.report.tensorboard=True", f"--config.checkpoint.keep={STEPS}"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            printed.write_text(finish(start(workdir, STEPS, cache, *flags)))
    return workdir, printed.read_text()
