"""One of two processes whose steps are as training's; its imports are all that it needs."""

import os
import signal
import sys

import numpy as np
from jax.experimental import multihost_utils

from creps_jax import distributed


def run(log, coordinator, process, doer, deed, silence_sec, wait_sec):
    """A collective in each step, and a question whether to stop; in step 3 the doer does its deed.

    Args:
      log: the file that standard error goes to.
      doer: '0', '1' or 'both'; '' for none.
      deed: a statement; own() is the process that steps, guard() the one that guards it.
      silence_sec: after so long a silence a process is lost.
    """
    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    os.environ["XLA_FLAGS"] = ""  # One device each.
    distributed._SILENCE_SEC = silence_sec
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cluster = distributed.cluster_of(coordinator, 2, process, {})
    with distributed.joined(cluster, wait_sec):
        for step in range(10**6 if deed else 5):
            multihost_utils.process_allgather(np.float32(step))
            if multihost_utils.reached_preemption_sync_point(step):
                print(f"stopped at {step}", file=sys.stderr)
                sys.exit(distributed.STOPPED)
            if step == 3:
                print("running", file=sys.stderr, flush=True)
                if doer in (str(process), "both"):
                    exec(deed, {"own": os.getpid, "guard": os.getppid, "os": os, "signal": signal})
