"""Train: python -m creps_jax.main --config=configs/church.py --workdir=runs/church.

Exit codes:
  0         finished
  1         an error, in one line
  69        a process of several is lost; all, started again, continue from the last checkpoint
  75        stopped by SIGTERM or Ctrl-C: the state is saved, and the same command continues
  130, 143  killed by Ctrl-C or SIGTERM, before the first step or at a second request; the same
            command continues from the last checkpoint
"""

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from creps_jax import distributed, rng
from creps_jax.config import field_types

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config of the run, a Python file with get_config().", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; the same command again continues it."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the config, the networks' sizes and the step's costs, and exit."
)
_PROFILE = flags.DEFINE_bool(
    "profile",
    False,
    "Write a profiler trace of some steps, of all phases, to the workdir.",
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


def report_own_log() -> None:
    """Our modules' messages on standard error; of the libraries', warnings only."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("creps_jax")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)


def main(argv: list[str]) -> None:
    """Flags in, one run out; what a user can mend ends in one line that says how."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if not _WORKDIR.value and not _DRY_RUN.value:
        raise app.UsageError("--workdir is missing: the folder that the run writes to")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ends at once, until there is a step to save.
    report_own_log()
    with one_line_errors():
        config = json.loads(_CONFIG.value.to_json())
    try:
        cluster = distributed.cluster_of(
            _COORDINATOR.value, _PROCESSES.value, _PROCESS.value, os.environ
        )
    except ValueError as error:
        sys.exit(f"Error: {error}")
    with distributed.joined(cluster, _WAIT_SEC.value):
        run(config)


def run(config: dict[str, Any]) -> None:
    """The work of one process; it ends the program with a code other than 0 unless it finishes."""
    try:
        # Slow to import: flags are checked before.
        from creps_jax.training import dry_run, guards, loop, report
    except ModuleNotFoundError as error:
        sys.exit(f"Error: training needs {error.name}: pip install 'creps-jax[train]'")
    try:
        if _DRY_RUN.value:
            with rng.pinned():
                for line in dry_run.describe(config):
                    print(line, flush=True)
            return
        begun = loop.prepare(config, _WORKDIR.value)
        after_step = None
        if _PROFILE.value:
            after_step = report.profiler(begun.workdir, begun.config, begun.step)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    try:
        finished = loop.train(begun, after_step)
    except (MemoryError, OSError) as error:
        sys.exit(f"Error: {error}")
    except guards.Diverged as error:
        sys.exit(f"Error: {error}. {loop.what_is_left(begun)}")
    if not finished:
        sys.exit(distributed.STOPPED)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's flags; an unknown or mistyped field of the config ends in one line."""
    with one_line_errors():
        return app.parse_flags_with_usage(argv)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Around what loads the config file: its faults end in one line that says what to do."""
    given = [a.removeprefix("--config.").partition("=")[0] for a in sys.argv if "--config." in a]
    unknown = ", ".join(name for name in given if name not in field_types())
    try:
        yield
    except AttributeError as error:
        if unknown:
            sys.exit(f"Error: the config has no field {unknown}; configs/default.py lists all")
        sys.exit(f"Error: --config needs a file whose get_config() returns a ConfigDict: {error}")
    except ImportError as error:
        sys.exit(f"Error: {error}: configs are run from a checkout, in its top folder")
    except (TypeError, ValueError, OSError, SyntaxError) as error:
        sys.exit(f"Error: --config: {' '.join(str(error).split())}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
