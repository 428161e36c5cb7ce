"""Train: python -m creps_jax.main --config=configs/church.py --workdir=runs/church.

--config.FIELD=VALUE gives a field of the config another value; configs/default.py lists all.

Exit codes:
  0             finished
  1             an error, in one line
  69            a process of several is lost; all, started again, continue from the last checkpoint
  75            stopped by SIGTERM, Ctrl-C or the end of its terminal (SIGHUP): the state is saved,
                and the same command continues
  129, 130, 143 killed by one of these, before the first step or at a second request; the same
                command continues from the last checkpoint
"""

import signal

from absl import flags
from ml_collections import config_flags

from creps_jax import console, places
from creps_jax.commands import train

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config of the run, a Python file with get_config().", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, also gs://BUCKET/...; the same command continues it."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the config, the networks' sizes and the step's costs, and exit."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "With --dry_run: the TPU pod to compile for, such as v5e:4x4; none is needed."
)
_PROFILE = flags.DEFINE_bool(
    "profile", False, "Write a profiler trace of some steps, of all phases, to the workdir."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Of several processes: HOST:PORT of process 0, or 'auto' on a TPU pod. SLURM's and Open MPI's "
    "need no flags.",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, for --coordinator.")
_PROCESS = flags.DEFINE_integer("process", None, "Index of this process, for --coordinator.")
_WAIT_SEC = flags.DEFINE_integer(
    "wait_sec", 300, "Seconds that processes wait for each other at the start.", lower_bound=1
)


def main() -> None:
    """Flags in, one run out; it ends the program with a code other than 0 unless it finishes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ends at once, until there is a step to save.
    console.take_over()
    places.use_gcsfs()
    config = train.parse_flags(__doc__, _CONFIG)
    cluster = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _WAIT_SEC.value)
    train.train(
        config,
        _WORKDIR.value,
        cluster,
        is_dry=_DRY_RUN.value,
        topology=_TOPOLOGY.value,
        profiles=_PROFILE.value,
    )


if __name__ == "__main__":
    main()
