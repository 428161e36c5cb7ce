"""Several processes as one program: how they find each other, and how all end when one is lost.

JAX cannot go on without one of its processes: its coordination service, in process 0, hears no more
of it and aborts the others, past the reach of Python. So each process is two: its child does the
work, and a guard, which was started and computes nothing, reads how the child ends:

    JAX's last words                          what it was                          the guard's code
    "... stopped sending heartbeats): 1"      process 1 is lost                    LOST
    "Failed to send RPC to coordination ..."  process 0 is lost                    LOST
    "... first task at the barrier: 1"        process 1 alone wanted to shut down: FAILED
                                              it has told an error

A guard hands SIGTERM, SIGHUP and Ctrl-C on to its child, as SIGTERM, by which JAX stops all at one
step.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

STOPPED = 75  # exit code: stopped on request, the state is saved, the same command continues
LOST = 69  # exit code: a process is lost, the same commands continue from the last checkpoint
FAILED = 1  # exit code: an error that a user can mend, told in one line

AUTO = "auto"
_SILENCE_SEC = 8  # A process that is not heard of for so long is lost.
_TELLING_SEC = 3  # for others to end by the same error; then it is that of one process
_TASK = r"\s*(?:/\S*task:)?(\d+)"


def cluster_of(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """Arguments of jax.distributed.initialize, empty if JAX finds them; None for one process.

    Args:
      coordinator: HOST:PORT of process 0, AUTO, or None to look at the environment.
      processes: the number of processes.
      process: the index of this one.
      environment: the variables of SLURM, Open MPI or a TPU pod.

    Raises:
      ValueError: the flags contradict each other, or a variable is not a number.
    """
    if coordinator == AUTO and processes is None and process is None:
        return {}
    if coordinator is None and processes is None and process is None:
        return {} if _is_one_of_several(environment) else None
    if coordinator in (None, AUTO) or processes is None or process is None:
        raise ValueError(
            f"--coordinator={coordinator}, --processes={processes} and --process={process} belong "
            "together: give all three, none, or --coordinator=auto alone"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"--coordinator={coordinator} must be HOST:PORT, as in 10.0.0.1:1234, with a port from "
            "1 to 65535"
        )
    if not 0 <= process < processes:
        raise ValueError(
            f"--process={process} must be one of 0..{processes - 1}, for --processes={processes}"
        )
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
    }


def _is_one_of_several(environment: Mapping[str, str]) -> bool:
    def number(name: str) -> int:
        value = environment.get(name) or "1"
        if not value.isdecimal():
            raise ValueError(f"the environment's {name}={value} must be a number of processes")
        return int(value)

    return (
        # A batch script has SLURM_NTASKS too, but only what srun starts has a step.
        ("SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1)
        or number("OMPI_COMM_WORLD_SIZE") > 1
        or number("MEGASCALE_NUM_SLICES") > 1
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    )


@contextlib.contextmanager
def joined(cluster: dict[str, Any] | None, wait_sec: int) -> Iterator[None]:
    """Around the work of one of several processes; for None, one process, it does nothing.

    The body runs in a child; the process that was started guards it and ends with
      the child's exit code,
      LOST if a process was lost, killed or ended by an exception: one line says which,
      FAILED if a process ended with an error that it has told.

    Args:
      cluster: what `cluster_of` returned.
      wait_sec: how long processes wait for each other at the start.
    """
    if cluster is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    guards, childs = socket.socketpair()
    reading, writing = os.pipe()
    if child := os.fork():
        childs.close()
        os.close(writing)
        code = _guard(child, guards, os.fdopen(reading, errors="replace"), cluster, wait_sec)
        sys.stderr.flush()
        os._exit(code)
    guards.close()
    os.dup2(writing, 2)
    threading.Thread(target=_end_with, args=[childs], daemon=True).start()
    for number in (signal.SIGINT, signal.SIGHUP):  # The guard hands them on.
        signal.signal(number, signal.SIG_IGN)
    _connect(cluster, wait_sec, childs)
    end = None
    try:
        try:
            yield
        except SystemExit as error:
            end = error
        if end is None or end.code in (None, 0, STOPPED):
            multihost_utils.sync_global_devices("the end of the work")
    except BaseException as error:
        # It may be the loss of another process, at the other end of a collective: then JAX, which
        # knows of it when the time is up, ends this one first.
        time.sleep(_SILENCE_SEC + 2)
        traceback.print_exception(error)
        sys.stdout.flush()
        os._exit(LOST)
    if end is not None and isinstance(end.code, str):
        print(end.code, file=sys.stderr)
        end.code = FAILED
    sys.stdout.flush()
    jax.distributed.shutdown()  # After an error JAX aborts here, unless all have ended by it.
    if end is not None:
        raise end


def _end_with(guard: socket.socket) -> None:
    """No guard, no child."""
    guard.recv(1)
    os._exit(LOST)


def _connect(cluster: dict[str, Any], wait_sec: int, guard: socket.socket) -> None:
    """JAX's connection of all processes; tells the guard this one's index and everyone's host."""
    jax.distributed.initialize(
        **cluster,
        initialization_timeout=wait_sec,
        heartbeat_timeout_seconds=_SILENCE_SEC,
        shutdown_timeout_seconds=_TELLING_SEC,
    )
    if jax.process_index():  # Only process 0 tells.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    own = np.frombuffer(socket.gethostname().encode().ljust(256), np.uint8)
    hosts = [bytes(host).decode().strip() for host in multihost_utils.process_allgather(own)]
    guard.sendall(f"{json.dumps([jax.process_index(), hosts])}\n".encode())
    print(f"{len(hosts)} processes, {jax.local_device_count()} devices each.", flush=True)


def _guard(
    child: int, link: socket.socket, errors: IO[str], cluster: dict[str, Any], wait_sec: int
) -> int:
    """Until the end of the child, whose standard error it passes on; returns the exit code."""
    requests: list[int] = []

    def hand_on(number: int, frame: Any) -> None:
        """The first request stops all processes at one step; a second one acts at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL if requests else signal.SIGTERM)
        requests.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # SIGHUP by nohup.
            signal.signal(number, hand_on)
    last_words: list[str] = []
    passing = threading.Thread(target=_pass_on, args=(errors, last_words), daemon=True)
    passing.start()
    told = link.makefile().readline()  # Nothing, if the child ends before it is connected.
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    passing.join(1)  # Decoding processes, which write to the same pipe, may take longer to end.
    if code >= 0:
        print("".join(last_words), end="", file=sys.stderr)
        return code if told else FAILED  # To start again would not help.
    if len(requests) > 1 or (requests and not told):
        return 128 + requests[-1]
    if not told:
        where = cluster.get("coordinator_address", "the coordinator that JAX found")
        print(
            f"Error: the processes did not all meet at {where} within {wait_sec} s "
            "(--wait_sec): see that all were started, that process 0 runs on that host and "
            "the port is free there, and that no firewall is in between",
            file=sys.stderr,
        )
        return FAILED
    return _explain(code, "".join(last_words), *json.loads(told))


def _pass_on(errors: IO[str], last_words: list[str]) -> None:
    """Lines to standard error; of JAX's abort, which are pages, to the list."""
    for line in errors:
        if last_words or re.match(r"[EF]\d{4} .*(coordination.service|client\.h)", line):
            last_words.append(line)
        else:
            print(line, end="", file=sys.stderr, flush=True)


def _explain(code: int, last_words: str, index: int, hosts: list[str]) -> int:
    """Why a signal ended the child, on standard error in one line; returns the exit code."""
    if code != -signal.SIGABRT:
        lost, how = index, f"was killed by signal {-code}"
    elif silent := re.search(r"stopped sending heartbeats\):" + _TASK, last_words):
        lost, how = int(silent[1]), "is lost"
    elif failed := re.search(r"first task at the barrier:" + _TASK, last_words):
        if int(failed[1]) != index:  # Else it has said why.
            named = f"process {failed[1]} of {len(hosts)} ({hosts[int(failed[1])]})"
            print(f"Error: {named} ended with an error; its message says why", file=sys.stderr)
        return FAILED
    elif re.search("Failed to send RPC to coordination|Service/Heartbeat", last_words):
        lost, how = 0, "is lost"
    else:
        print(last_words, end="", file=sys.stderr)
        lost, how = index, f"was killed by signal {-code}"
    print(
        f"Error: process {lost} of {len(hosts)} ({hosts[lost]}) {how}; start all processes again "
        "with the same commands: the run continues from its last checkpoint",
        file=sys.stderr,
    )
    return LOST
