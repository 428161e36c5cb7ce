"""`python -m creps_jax.main`: one run, whose errors that a user can mend end in one line."""

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from creps_jax import console
from creps_jax.config import FIELDS
from creps_jax.training.topology import check as check_topology

_MEMORY = (
    "share a batch among more devices, raise layout.microbatches, layout.pixel_strips or "
    "layout.row, or end what else uses the device"
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def parse_flags(about: str, config_flag: flags.FlagHolder) -> dict[str, Any]:
    """The config of the command line, nested dicts of JSON values; --help is answered here."""
    if {"-h", "--help", "--helpshort", "--helpfull"} & set(sys.argv[1:]):
        print(f"{about}\nFlags:\n{flags.FLAGS.main_module_help().strip().partition(os.linesep)[2]}")
        sys.exit()
    with config_errors():
        unexpected = flags.FLAGS(sys.argv)[1:]
        if unexpected:
            sys.exit(f"Error: unexpected arguments: {' '.join(unexpected)}; --help lists the flags")
        if config_flag.value is None:
            sys.exit("Error: --config is missing: a file such as configs/demo.py")
        return json.loads(config_flag.value.to_json())


@contextlib.contextmanager
def config_errors() -> Iterator[None]:
    """Around what loads the config file: its faults end in one line that says what to do."""
    given = [a.removeprefix("--config.").partition("=")[0] for a in sys.argv if "--config." in a]
    unknown = ", ".join(name for name in given if name not in FIELDS)
    try:
        yield
    except AttributeError as error:
        if unknown:
            sys.exit(f"Error: the config has no field {unknown}; configs/default.py lists all")
        sys.exit(f"Error: --config needs a file whose get_config() returns a ConfigDict: {error}")
    except ImportError as error:
        sys.exit(f"Error: {error}: configs are run from a checkout, in its top folder")
    except flags.Error as error:
        sys.exit(f"Error: {' '.join(str(error).split())}; --help lists the flags")
    except (TypeError, ValueError, OSError, SyntaxError) as error:
        sys.exit(f"Error: --config: {' '.join(str(error).split())}")


def report_own_log() -> None:
    """Our modules' messages on standard error; of the libraries', warnings only."""
    console.without_repeats()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("creps_jax")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)


def train(
    config: dict[str, Any],
    workdir: str | None,
    cluster: tuple[str | None, int | None, int | None, int],
    *,
    is_dry: bool,
    topology: str | None,
    profiles: bool,
) -> None:
    """The work of one process; it ends the program with a code other than 0 unless it finishes.

    Args:
      config: nested dicts of JSON values.
      workdir: needed unless the run is dry.
      cluster: coordinator, number of processes, index of this one, seconds to wait for others.
      is_dry: print what the run would be.
      topology: name of the TPU pod for which a dry run is compiled; None: these devices.
      profiles: trace some steps.
    """
    if not workdir and not is_dry:
        sys.exit("Error: --workdir is missing: the folder that the run writes to")
    environment: Mapping[str, str] = os.environ
    if topology is not None:
        if not is_dry:
            sys.exit(f"Error: --topology={topology} is for a dry run: give --dry_run too")
        try:
            check_topology(topology)
        except ValueError as error:
            sys.exit(f"Error: {error}")
        environment = {}  # One process is enough for it, whatever else has been started.
        # Programs for chips that are absent cannot be read from a cache.
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"
    report_own_log()
    # Slow to import: flags are checked before.
    from creps_jax import devices, distributed

    devices.without_tpu()
    *place, wait_sec = cluster
    try:
        joined = distributed.joined(distributed.cluster_of(*place, environment), wait_sec)
    except ValueError as error:
        sys.exit(f"Error: {error}")
    with joined:
        if not run(config, workdir, is_dry=is_dry, topology=topology, profiles=profiles):
            sys.exit(distributed.STOPPED)


def run(
    config: dict[str, Any],
    workdir: str | None,
    *,
    is_dry: bool,
    topology: str | None = None,
    profiles: bool = False,
) -> bool:
    """Returns whether the run was finished; errors that a user can mend end the program."""
    try:
        from creps_jax import devices, rng
        from creps_jax.training import dry_run, guards, loop, profile
        from creps_jax.training.run import prepare, what_is_left
    except ModuleNotFoundError as error:
        sys.exit(f"Error: training needs {error.name}: pip install 'creps-jax[train]'")
    try:
        with devices.memory_errors(_MEMORY):
            if topology is None:
                devices.check()
                devices.cache_compilations()
            if is_dry:
                with rng.pinned():
                    for line in dry_run.describe(config, topology):
                        print(line)
                return True
            begun = prepare(config, workdir)
            more = [profile.tracing(begun.workdir, begun.config, begun.step)] if profiles else []
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(f"Error: {error}")
    try:
        with devices.memory_errors(_MEMORY):
            return loop.train(begun, more)
    except MemoryError as error:
        sys.exit(f"Error: {error}")
    except OSError as error:
        room = "make room; " if error.errno in _FULL else ""
        sys.exit(f"Error: {error}; {room}the same command continues from the last checkpoint")
    except guards.Diverged as error:
        sys.exit(f"Error: {error}. {what_is_left(begun)}")
